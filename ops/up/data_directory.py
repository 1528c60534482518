"""The data directory of `up`: its lock, the webhook secret, and the settings for other commands.

DIR/
    in-use              locked for as long as an `up` runs on it; holds its process id
    webhook-secret      0600, made at the first start
    environment         0600, `export` lines for a shell
    postgres/ valkey/   the embedded servers'
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded.directories import server_account

LOCK: Final = "in-use"
OF_FILE_SYSTEMS: Final = frozenset({"lost+found"})
"""What a disk that is mounted there holds from the beginning."""
ORPHAN_TIMEOUT_S: Final = 5.0
"""How long servers of an `up` that was killed may take to end; their guards see to it."""
POLL_INTERVAL_S: Final = 0.05


class DirectoryRefused(Exception):
    """The data directory cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A directory that this process alone uses."""

    path: Path

    @property
    def environment_file(self) -> Path:
        return self.path / "environment"

    @property
    def secret_file(self) -> Path:
        return self.path / "webhook-secret"

    def make_secret(self) -> str | None:
        """The secret to show, or None if an earlier `up` that has started has shown it."""
        if self.secret_file.exists() and self.environment_file.exists():
            return None
        if not self.secret_file.exists():
            self._write(self.secret_file, secrets.token_urlsafe(32) + "\n")
        return self.secret_file.read_text().strip()

    def write_environment(self, variables: Mapping[str, str]) -> None:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        self._write(self.environment_file, "".join(lines))

    def await_servers(self) -> None:
        """Wait until servers of an earlier `up`, which has been killed, have ended."""
        deadline = time.monotonic() + ORPHAN_TIMEOUT_S
        for lock in self.path.glob("*/in-use"):
            while _is_locked(lock) and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_S)

    def _write(self, path: Path, text: str) -> None:
        """At once and whole, readable by this user alone."""
        unfinished = path.with_name(path.name + ".new")
        with suppress(FileNotFoundError):
            unfinished.unlink()
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        unfinished.rename(path)


@contextmanager
def data_directory(path: Path) -> Iterator[DataDirectory]:
    """Make it if it is new, and lock it. Raises DirectoryRefused."""
    path = path.absolute()
    try:
        if not path.exists():
            path.mkdir(parents=True)
            # As root the embedded servers are another user's, which has to pass.
            path.chmod(0o711 if server_account().is_other else 0o700)
        elif not (path / LOCK).exists() and set(os.listdir(path)) - OF_FILE_SYSTEMS:
            # Such as a home, or where `--data-dir "$UNSET"` happens to be typed.
            raise DirectoryRefused(
                f"{path} holds files and was not made by `pluggy-sync up`; name a new directory"
            )
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DirectoryRefused(f"{path} cannot be used: {error.strerror}") from error
    try:
        _claim(lock, path)
        yield DataDirectory(path)
    finally:
        os.close(lock)


def _claim(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
        raise DirectoryRefused(
            f"{path} is in use by another `pluggy-sync up` (process {owner or 'unknown'});"
            " stop that one, or name another directory"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
