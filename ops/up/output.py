"""The terminal of `up`: lines of all processes on standard output, its own on standard error."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import click

from ops.up.units import labelled


@dataclass(frozen=True, slots=True)
class Output:
    """Where lines go; those of several processes are never mixed."""

    as_json: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def relay(self, process: str, line: str) -> None:
        """A line of a process. Where nobody reads any more, the service goes on."""
        with self._lock, _unread(sys.stdout):
            sys.stdout.write(labelled(process, line, as_json=self.as_json) + "\n")
            sys.stdout.flush()

    def say(self, line: str = "") -> None:
        """A line of `up` itself."""
        with self._lock, _unread(sys.stderr):
            click.echo(line, err=True)


@contextmanager
def _unread(stream: TextIO) -> Iterator[None]:
    """Drop what nobody can read any more, also what is buffered: Python would complain of it at its
    end, with an exit status of its own. A full disk may get room again."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def open_output() -> Output:
    """As LOG_FORMAT says, else for people on a terminal and JSON elsewhere."""
    chosen = os.environ.get("LOG_FORMAT") or ("console" if sys.stdout.isatty() else "json")
    return Output(as_json=chosen == "json")
