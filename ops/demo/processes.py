"""Processes of the service, each under a guard that ends it when its launcher ends.

The demo, the tests, the oracle, chaos and the benchmarks all start them here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from embedded import guard
from embedded.directories import Account, close_directories, open_directories

GRACE_S: Final = 0.8
"""How long all children together may take to stop by themselves. They hold nothing of use."""
START_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.02
TAIL_LINES: Final = 15
CODE: Final = Path(__file__).resolve().parents[2]
"""Where our packages are: the children run the code of their launcher, wherever it was started."""
# What the caller's environment says of databases, Pluggy or webhooks is not for the children.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")

SIMULATOR: Final = ("simulator",)
WEBHOOK_RECEIVER: Final = ("webhook_receiver",)
OPS: Final = ("ops", "ops")
ARQ_WORKER: Final = ("arq", "worker.main.WorkerSettings")
SIMULATOR_READY: Final = "simulator ready "
ZONE: Final = "America/Sao_Paulo"
NO_LIMIT: Final = "60000"

T = TypeVar("T")


class ChildEnded(Exception):
    """A process ended by itself, or did not start in time; the text has the end of its log."""


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

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if self.running:
            guard.signal_all([self.pid], number)

    async def ended(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Wait for its exit status; 256 - n if signal n ended it. Raises TimeoutExpired."""
        return await asyncio.to_thread(self.guard.wait, timeout_s)

    def tail(self) -> str:
        """The end of its log, to be shown to a person."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {self.name} | {line}" for line in lines)

    def lines(self) -> list[str]:
        """Whole lines of its log: the last one may be half written."""
        return self.log.read_text(errors="replace").split("\n")[:-1]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The structured lines of its log about an event."""
        return logged(self.lines(), event)

    async def wait_for_log(self, find: Callable[[Child], T | None]) -> T:
        """Wait until `find` finds something in its log. Raises ChildEnded."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (found := self._find(find, deadline)) is None:  # noqa: ASYNC110 - a file is polled
            await asyncio.sleep(POLL_INTERVAL_S)
        return found

    def block_for_log(self, find: Callable[[Child], T | None]) -> T:
        """The same without an event loop. Raises ChildEnded."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (found := self._find(find, deadline)) is None:
            time.sleep(POLL_INTERVAL_S)
        return found

    def _find(self, find: Callable[[Child], T | None], deadline: float) -> T | None:
        # Before the log is read: what it wrote before its end is there then.
        waits = self.running and time.monotonic() < deadline
        found = find(self)
        if found is None and not waits:
            raise ChildEnded(f"{self.name} did not start:\n{self.tail()}")
        return found


def logged(lines: Sequence[str], event: str) -> list[dict[str, Any]]:
    """The structured ones of some lines of a log about an event."""
    found = [json.loads(line) for line in lines if f'"{event}"' in line and line.startswith("{")]
    return [fields for fields in found if fields.get("event") == event]


def simulator_url(child: Child) -> str | None:
    """Where a simulator listens."""
    ready = [line for line in child.lines() if line.startswith(SIMULATOR_READY)]
    return ready[0].removeprefix(SIMULATOR_READY) if ready else None


def receiver_port(child: Child) -> int | None:
    """Where a receiver listens; it logs that at LOG_LEVEL INFO and below."""
    started = child.logged("receiver_started")
    return int(started[0]["port"]) if started else None


def ops_port(child: Child) -> int | None:
    """Where an ops process listens; it logs that at LOG_LEVEL INFO and below."""
    started = child.logged("ops_started")
    return int(started[0]["port"]) if started else None


def pluggy_settings(url: str, client_id: str, client_secret: str) -> dict[str, str]:
    """Settings of a worker for a simulator that has no rate limit."""
    return {
        "PLUGGY_BASE_URL": url,
        "PLUGGY_CLIENT_ID": client_id,
        "PLUGGY_CLIENT_SECRET": client_secret,
        "PLUGGY_REQUESTS_PER_MINUTE": NO_LIMIT,
        "POSTED_ON_ZONE": ZONE,
    }


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

    def kill(self, *killed: Child) -> None:
        """End some at once, as SIGKILL does; they are no children any more."""
        for child in killed:
            child.send(signal.SIGKILL)
            with child.guard:
                self.started.remove(child)

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
    """A directory for processes; a later start removes it if this launcher is killed."""
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
    with log.open("ab") as output:
        watching, pid = spawn_guarded(
            command, inherited | environment, output=output, cwd=log.parent, locks=locks
        )
    if pid is None:
        with watching:
            raise ChildEnded(f"{name} did not start: {log.read_text(errors='replace')}")
    return Child(name, pid, log, watching)


def spawn_guarded(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: int | IO[bytes],
    cwd: Path | None = None,
    locks: Sequence[int] = (),
) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start a command under a guard; returns the guard and the command's process id, if it started.

    environment: all that the command sees, beside where our packages are. output: a file, or
    subprocess.PIPE for the guard's stderr. locks: descriptors that the guard keeps open.
    """
    path = os.pathsep.join(filter(None, [str(CODE), environment.get("PYTHONPATH")]))
    numbers = [os.getpid(), os.geteuid(), os.getegid(), signal.SIGKILL]
    watching = subprocess.Popen(  # noqa: S603 - our own script, our own arguments
        [sys.executable, "-I", "-S", guard.__file__, *(str(int(n)) for n in numbers), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        cwd=cwd,
        env={**environment, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        # A terminal's Ctrl-C reaches the launcher alone, which then stops its children.
        start_new_session=True,
        pass_fds=locks,
    )
    assert watching.stdout  # noqa: S101 - for the type checker: it is a pipe
    line = watching.stdout.readline()
    return watching, int(line) if line else None
