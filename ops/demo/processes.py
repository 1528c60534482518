"""The demo's processes, each under a guard that ends it when the demo ends, in whatever way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from embedded import guard
from embedded.directories import Account, close_directories, open_directories

GRACE_S: Final = 0.8
"""How long all children together may take to stop by themselves; nobody needs what they hold."""
TAIL_LINES: Final = 15
CODE: Final = Path(__file__).resolve().parents[2]
"""Where our packages are: the children run the same code as the demo, wherever it was started."""
# What the caller's environment says of databases, Pluggy or webhooks is not for the demo.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class ChildEnded(Exception):
    """A process of the demo ended by itself; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running process and the guard that watches over it."""

    name: str
    pid: int
    log: Path
    guard: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        return self.guard.poll() is None

    def tail(self) -> str:
        """The end of its log, to be shown to a person."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {self.name} | {line}" for line in lines)

    def lines(self) -> list[str]:
        """Whole lines of its log: the last one may be half written."""
        return self.log.read_text(errors="replace").rpartition("\n")[0].splitlines()

    def logged(self, event: str) -> dict[str, Any] | None:
        """The first structured line of its log about an event."""
        for line in self.lines():
            if event in line and line.startswith("{"):
                fields: dict[str, Any] = json.loads(line)
                return fields
        return None


@dataclass(slots=True)
class Children:
    """Processes in a directory of their own, where their logs are."""

    directory: Path
    locks: tuple[int, ...]
    started: list[Child] = field(default_factory=list)

    def start(self, name: str, arguments: Sequence[str], **environment: str) -> Child:
        """Start `python -m` with the arguments; its output goes to a log."""
        log = self.directory / f"{name}.log"
        child = _spawn(name, [sys.executable, "-m", *arguments], log, environment, self.locks)
        self.started.append(child)
        return child

    def check(self) -> None:
        """Raise ChildEnded if one has ended."""
        for child in self.started:
            if not child.running:
                raise ChildEnded(f"{child.name} has ended:\n{child.tail()}")

    def tails(self) -> str:
        return "\n".join(child.tail() for child in self.started)

    def stop(self) -> None:
        """End all at once: asked first, then killed."""
        running = [child for child in self.started if child.running]
        guard.signal_all([child.pid for child in running], signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for child in running:
            try:
                child.guard.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                guard.kill_family(child.pid)
        for child in self.started:
            # Leaving closes the pipes and waits; a guard whose pipe is closed ends its child.
            with child.guard:
                pass
        self.started.clear()


@contextmanager
def children() -> Iterator[Children]:
    """A place for the demo's processes; a later start sweeps it up if this one is killed."""
    directories = open_directories(Account(os.geteuid(), os.getegid()), None)
    started = Children(directories.data, directories.locks)
    try:
        yield started
    finally:
        started.stop()
        close_directories(directories)


def _spawn(
    name: str,
    command: Sequence[str],
    log: Path,
    environment: dict[str, str],
    locks: tuple[int, ...],
) -> Child:
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key in INHERITED or key.startswith("PYTHON")
    }
    path = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))
    numbers = [os.getpid(), os.geteuid(), os.getegid(), signal.SIGKILL]
    with log.open("ab") as output:
        watching = subprocess.Popen(  # noqa: S603 - our own script, our own arguments
            [sys.executable, "-I", "-S", guard.__file__, *(str(int(n)) for n in numbers), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=log.parent,
            env=inherited | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | environment,
            # A terminal's Ctrl-C reaches the demo alone, which then stops its children.
            start_new_session=True,
            pass_fds=locks,
        )
    assert watching.stdout  # noqa: S101 - for the type checker: it is a pipe
    line = watching.stdout.readline()
    if not line:
        with watching:
            raise ChildEnded(f"{name} did not start: {log.read_text(errors='replace')}")
    return Child(name, int(line), log, watching)
