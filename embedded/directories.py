"""Private directories of a server: creation, ownership, locks and clean-up.

<tmp>/pluggy-sync-XXXXXXXX/     ours; others may only pass, and only if the server is another
    owner                       locked for as long as the launcher or its guard lives
    run/                        0700, the server's: socket and configuration
    data/                       0700, the server's, unless a data directory is given
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PREFIX = "pluggy-sync-"
# Postgres refuses to run as root. By number, because a name might have to be created.
NOBODY = 65534
# A directory without an owner may be on its way between being made and being locked.
MIN_ORPHAN_AGE_S = 600.0
# macOS allows 104 bytes for a socket's path, Linux 108.
MAX_SOCKET_PATH = 103


class EmbeddedError(Exception):
    """A server cannot be found, started or used; the message is for the person at the terminal."""


@dataclass(frozen=True)
class Account:
    """User and group that the server runs as."""

    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()


@dataclass(frozen=True)
class ServerDirectories:
    """The directories and locks of one server."""

    top: Path
    run: Path
    data: Path
    locks: tuple[int, ...]


def server_account() -> Account:
    """The current user, or `nobody` if that is root."""
    if os.geteuid() == 0:
        return Account(NOBODY, NOBODY)
    return Account(os.geteuid(), os.getegid())


def may_reach(account: Account, path: Path) -> bool:
    """Whether the account may traverse every directory above the path."""
    if not account.is_other:
        return True
    for directory in path.absolute().parents:
        status = directory.stat()
        owns = status.st_uid == account.uid and status.st_mode & 0o100
        if not (status.st_mode & 0o001 or owns):
            return False
    return True


def open_directories(account: Account, data_dir: Path | None) -> ServerDirectories:
    """Create the directories of a server, after removing those of dead owners."""
    base = _base(account)
    sweep(base)
    top = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    # At once: a sweep removes directories without an owner.
    owner = _lock_top(top)
    try:
        if account.is_other:
            top.chmod(0o711)
        run = _make_private(top / "run", account)
        if data_dir is None:
            return ServerDirectories(top, run, _make_private(top / "data", account), (owner,))
        data = _claim(data_dir.absolute(), account)
        in_use = _lock(data / "in-use", f"{data} is in use by another server.")
        return ServerDirectories(top, run, data, (owner, in_use))
    except BaseException:
        shutil.rmtree(top)
        os.close(owner)
        raise


def close_directories(directories: ServerDirectories) -> None:
    """Remove temporary directories; a given data directory stays."""
    shutil.rmtree(directories.top)
    for lock in directories.locks:
        os.close(lock)


def sweep(base: Path) -> None:
    """Remove directories of dead owners; creates none."""
    for top in base.glob(f"{PREFIX}*"):
        # Only directories owned by this user; no other user can create those.
        with suppress(FileNotFoundError):
            found = top.lstat()
            if found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode):
                _remove_if_orphaned(top)


def write_private(path: Path, text: str, account: Account) -> None:
    """Write a file that only the server's account may read."""
    with os.fdopen(_open_here(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
        os.fchown(file.fileno(), account.uid, account.gid)
        file.write(text)


def open_log(path: Path) -> int:
    """A descriptor that appends to the file."""
    return _open_here(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _open_here(path: Path, flags: int) -> int:
    # The directory is the server's: as root, follow no link that it may have put there.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _base(account: Account) -> Path:
    """The temporary directory; /tmp where the server cannot reach it or a URL cannot name it."""
    base = Path(tempfile.gettempdir()).resolve()
    socket = base / f"{PREFIX}XXXXXXXX" / "run" / ".s.PGSQL.5432"
    # Clients differ in how they read an escaped path, and a comma separates hosts.
    plain = quote(str(base)) == str(base) and len(str(socket)) <= MAX_SOCKET_PATH
    if plain and may_reach(account, base / PREFIX):
        return base
    return Path("/tmp").resolve()  # noqa: S108 - mkdtemp makes a private directory in it


def _make_private(path: Path, account: Account) -> Path:
    path.mkdir(0o700)
    os.chown(path, account.uid, account.gid)
    return path


def _claim(data_dir: Path, account: Account) -> Path:
    """Give the data directory to the server's account, if it is new, empty or its own already."""
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    if not may_reach(account, data_dir):
        raise EmbeddedError(
            f"Started by root, the server runs as user {account.uid}, who cannot pass the"
            f" directories above {data_dir}. Choose a data directory elsewhere, such as below"
            " /var/lib, or start as a normal user."
        )
    if not data_dir.exists():
        return _make_private(data_dir, account)
    if data_dir.stat().st_uid != account.uid:
        if not account.is_other or any(data_dir.iterdir()):
            raise EmbeddedError(f"{data_dir} belongs to another user.")
        os.chown(data_dir, account.uid, account.gid)
    data_dir.chmod(0o700)
    return data_dir


def _lock(path: Path, refusal: str) -> int:
    lock = _open_here(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise EmbeddedError(refusal) from error
    return lock


def _lock_top(top: Path) -> int:
    """Lock under another name, then rename: a sweep must never find an unlocked owner."""
    lock = _lock(top / "owner.new", f"{top} is not ours alone")
    (top / "owner.new").rename(top / "owner")
    return lock


def _remove_if_orphaned(top: Path) -> None:
    try:
        owner = _open_here(top / "owner", os.O_RDWR)
    except FileNotFoundError:
        # A directory that another sweep is removing has a new mtime, so it counts as young too.
        if time.time() - top.stat().st_mtime > MIN_ORPHAN_AGE_S:
            shutil.rmtree(top)
        return
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(top)
    except BlockingIOError:
        return
    finally:
        os.close(owner)
