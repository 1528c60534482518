"""The terminal of `up`: lines of all processes on standard output, its own on standard error."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import click

from ops.up.units import labelled


@dataclass(frozen=True, slots=True)
class Output:
    """Where lines go; those of several processes are never mixed."""

    as_json: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def relay(self, process: str, line: str) -> None:
        """A line of a process. Where nobody reads any more, the service goes on."""
        with self._lock, suppress(OSError):
            sys.stdout.write(labelled(process, line, as_json=self.as_json) + "\n")
            sys.stdout.flush()

    def say(self, line: str = "") -> None:
        """A line of `up` itself."""
        with self._lock, suppress(OSError):
            click.echo(line, err=True)


def open_output() -> Output:
    """As LOG_FORMAT says, else for people on a terminal and JSON elsewhere."""
    chosen = os.environ.get("LOG_FORMAT") or ("console" if sys.stdout.isatty() else "json")
    return Output(as_json=chosen == "json")
