"""What `up` supervises: our processes, whose output it passes on, and embedded servers."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Final

import msgspec

from embedded import EmbeddedError, guard
from embedded.server import Server
from ops.demo.processes import spawn_guarded
from ops.up.supervisor import GaveUp, UnitFailed

TAIL_LINES: Final = 15
READ_TIMEOUT_S: Final = 5.0
"""How long the rest of its output is waited for: a child of its own may hold the pipe."""


@dataclass(slots=True)
class Process:
    """A process with its own environment; every line that it writes goes to `relay` by its name.

    silent_stop_s: how long it may take to stop before that is explained; finishes: what takes time.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    relay: Callable[[str, str], None]
    stop_timeout_s: float = 10.0
    silent_stop_s: float = 2.0
    finishes: str = "its requests"
    _guard: subprocess.Popen[bytes] | None = None
    _pid: int | None = None
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _reader: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Raises UnitFailed."""
        self._close()
        self._lines.clear()
        watching, self._pid = spawn_guarded(self.command, self.environment, output=subprocess.PIPE)
        self._guard = watching
        assert watching.stderr  # noqa: S101 - for the type checker: it is a pipe
        self._reader = threading.Thread(target=self._read, args=(watching.stderr,), daemon=True)
        self._reader.start()
        if self._pid is None:
            self._close()
            raise UnitFailed(f"{self.name} did not start:\n{self.tail()}")

    def terminate(self) -> None:
        if self.running and self._pid is not None:
            guard.signal_all([self._pid], signal.SIGTERM)

    def finish(self, notify: Callable[[str], None]) -> None:
        if self._guard is not None and not self._ends_within(self.silent_stop_s):
            notify(
                f"waiting for {self.name} to finish {self.finishes},"
                f" {self.stop_timeout_s:g} s at most; Ctrl-C ends everything at once"
            )
            if not self._ends_within(self.stop_timeout_s):
                self.kill()
        self._close()

    def end(self) -> str:
        return "" if self._guard is None else ending(self._guard.returncode)

    def kill(self) -> None:
        if self.running and self._pid is not None:
            guard.kill_family(self._pid)
        self._close()

    def tail(self) -> str:
        if self._reader is not None and not self.running:
            self._reader.join(READ_TIMEOUT_S)
        return "\n".join(f"  {self.name} | {line}" for line in list(self._lines))

    def _ends_within(self, timeout_s: float) -> bool:
        assert self._guard is not None  # noqa: S101 - for the type checker
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip("\n")
                self._lines.append(line)
                self.relay(self.name, line)

    def _close(self) -> None:
        """Close the guard's input, which ends a process that still runs, and wait for the guard."""
        if self._guard is None:
            return
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard.wait()
        if self._reader is not None:
            self._reader.join(READ_TIMEOUT_S)
        self._guard = None


@dataclass(slots=True)
class EmbeddedServer:
    """A server of embedded/, whose URL stays the same when it is started again."""

    server: Server
    _has_run: bool = False

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def running(self) -> bool:
        return self.server.running

    def start(self) -> None:
        """Raises UnitFailed; GaveUp where it has run before, because it has lost its URL then."""
        try:
            self.server.start()
        except (EmbeddedError, OSError) as error:
            raise (GaveUp if self._has_run else UnitFailed)(str(error)) from error
        self._has_run = True

    def terminate(self) -> None:
        """finish() both asks and waits: clients have ended before."""

    def finish(self, _: Callable[[str], None]) -> None:
        self.server.stop()

    def end(self) -> str:
        """Its log, which is shown, says so."""
        return ""

    def kill(self) -> None:
        self.server.kill()
        self.server.stop()

    def tail(self) -> str:
        return self.server.end_of_log


def ending(status: int | None) -> str:
    """How a process has ended, by the exit status of its guard: 256 - n if signal n ended it."""
    if status is None:
        return ""
    with suppress(ValueError):
        return f" by {signal.Signals(256 - (status & 0xFF)).name}"
    return f" with exit status {status}"


def labelled(name: str, line: str, *, as_json: bool) -> str:
    """A line of a process with its name: a field of a JSON line, a prefix for people."""
    if not as_json:
        return f"{name:<10}| {line}"
    field_ = msgspec.json.encode({"process": name}).decode()
    if line.startswith('{"'):
        return f"{field_[:-1]}, {line[1:]}"
    return msgspec.json.encode({"process": name, "event": "output", "line": line}).decode()
