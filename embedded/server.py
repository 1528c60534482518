"""Common behaviour of embedded servers: start, wait until ready, stop, kill, pause."""

import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from embedded import guard
from embedded.directories import (
    Account,
    EmbeddedError,
    ServerDirectories,
    close_directories,
    open_directories,
    open_log,
    server_account,
)
from embedded.ports import reserve_port

# Only against hanging; the recovery of a large database after a crash takes longest.
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
# Where no port can be kept, other processes may take what was free a moment ago.
PORT_TRIES = 5
KEEPS_PORTS = sys.platform == "linux"


class Server(ABC):
    """One server and its directories.

    Without `data_dir` the data are deleted by `stop`. With `durable`, confirmed writes survive
    `kill` and a crash of the machine; without it the last writes (Postgres) or all data (Valkey)
    may be lost. `tcp` listens on 127.0.0.1 with a generated password; without it there is only a
    socket in a private directory.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    # Ends at once, without a checkpoint or a dump.
    abandon_signal: ClassVar[signal.Signals]

    def __init__(
        self, data_dir: Path | None = None, durable: bool = False, tcp: bool = False
    ) -> None:
        self.durable = durable
        self.tcp = tcp
        self.port: int | None = None
        self._reservation: socket.socket | None = None
        self._data_dir = data_dir
        self._account: Account = server_account()
        self._directories: ServerDirectories | None = None
        self._guard: subprocess.Popen[str] | None = None
        self._pid: int | None = None

    @abstractmethod
    def _prepare(self, directories: ServerDirectories) -> list[str]:
        """Write the configuration, choose a port if needed, and return the server's command."""

    @abstractmethod
    def _answers(self, directories: ServerDirectories) -> bool:
        """Whether the server takes connections."""

    @abstractmethod
    def _url(self, directories: ServerDirectories) -> str:
        """The server's URL in these directories."""

    @property
    def url(self) -> str:
        """The URL for clients; it stays the same until `stop`."""
        if self._directories is None:
            raise EmbeddedError(f"{self.name} has not been started.")
        return self._url(self._directories)

    @property
    def pid(self) -> int:
        """Process id of the server's main process."""
        if not self.running or self._pid is None:
            raise EmbeddedError(f"{self.name} is not running.")
        return self._pid

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def end_of_log(self) -> str:
        """Its last lines, to be shown to a person."""
        return self._end_of_log(self._directories) if self._directories else ""

    def start(self) -> None:
        """Start the server and wait until it answers; after `kill`, on the same data."""
        if self.running:
            raise EmbeddedError(f"{self.name} is running already.")
        self._close_guard()
        if self._directories is None:
            self._directories = open_directories(self._account, self._data_dir)
        try:
            self._start_on_a_free_port(self._directories)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down and remove its temporary directories."""
        # Interrupted before the guard has named it, a server ends with the guard.
        if self.running and self._pid is not None:
            guard.signal_all(guard.family(self._pid), signal.SIGCONT)
            guard.signal_all([self._pid], self.stop_signal)
            try:
                self._wait_for_guard(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close_guard()
        if self._directories is not None:
            close_directories(self._directories)
            self._directories = None
            self._give_up_port()

    def kill(self) -> None:
        """SIGKILL every process of the server, as in a crash; returns when all have ended."""
        if self.running and self._pid is not None:
            guard.kill_family(self._pid)
            self._wait_for_guard(None)
        self._close_guard()

    def pause(self) -> None:
        """Stop every process of the server: connections stay open and get no answer."""
        guard.freeze_family(self.pid)

    def resume(self) -> None:
        """Continue every process of the server."""
        guard.signal_all(guard.family(self.pid), signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_on_a_free_port(self, directories: ServerDirectories) -> None:
        tries = PORT_TRIES if self.tcp and self.port is None else 1
        while True:
            tries -= 1
            try:
                return self._start_here(directories)
            except EmbeddedError:
                if not tries:
                    raise
                self._close_guard()
                self._give_up_port()

    def _choose_port(self) -> None:
        """Choose a port, which stays the server's until `stop`, also while it is killed."""
        if self.tcp and self.port is None:
            self._reservation = reserve_port()
            self.port = self._reservation.getsockname()[1]
            if not KEEPS_PORTS:
                self._reservation.close()

    def _give_up_port(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
        self._reservation = self.port = None

    def _start_here(self, directories: ServerDirectories) -> None:
        self._spawn(self._prepare(directories), directories)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers(directories):
            if not self.running or time.monotonic() > deadline:
                raise EmbeddedError(f"{self.name} did not start:\n{self._end_of_log(directories)}")
            time.sleep(0.005)

    def _run(self, command: list[str], directories: ServerDirectories) -> None:
        """Run one of the server's commands to its end, under its account and the guard."""
        self._spawn(command, directories)
        if self._wait_for_guard(START_TIMEOUT_S):
            raise EmbeddedError(f"{command[0]} failed:\n{self._end_of_log(directories)}")
        self._close_guard()

    def _spawn(self, command: list[str], directories: ServerDirectories) -> None:
        self._pid = None
        log = open_log(self._log_path(directories))
        numbers = [os.getpid(), self._account.uid, self._account.gid, self.abandon_signal]
        self._guard = subprocess.Popen(  # noqa: S603 - our own script, our own arguments
            [sys.executable, "-I", "-S", guard.__file__, *(str(int(n)) for n in numbers), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd="/",
            # Without the caller's PG* variables, locale and time zone.
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            # A terminal's Ctrl-C reaches only the launcher, which shuts the server down.
            start_new_session=True,
            # The guard holds the locks, so no sweep removes the directories before its end.
            pass_fds=directories.locks,
        )
        os.close(log)
        assert self._guard.stdout  # noqa: S101 - for the type checker: it is a pipe
        first_line = self._guard.stdout.readline()
        if not first_line:
            raise EmbeddedError(f"{self.name} did not start:\n{self._end_of_log(directories)}")
        self._pid = int(first_line)

    def _wait_for_guard(self, timeout_s: float | None) -> int:
        assert self._guard  # noqa: S101 - for the type checker: callers have spawned it
        return self._guard.wait(timeout_s)

    def _close_guard(self) -> None:
        """Close the guard's pipes and wait for it; it ends a server that still runs."""
        if self._guard is not None:
            # Leaving closes the pipes and waits.
            with self._guard:
                pass
            self._guard = None

    def _log_path(self, directories: ServerDirectories) -> Path:
        return directories.data / "server.log"

    def _end_of_log(self, directories: ServerDirectories) -> str:
        lines = self._log_path(directories).read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])
