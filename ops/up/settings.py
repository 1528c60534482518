"""What `up` needs before it starts anything, and one message for all that is missing."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded.ports import free_port
from ops.demo.processes import NO_LIMIT
from ops.web.settings import OpsSettings
from webhook_receiver.settings import ReceiverSettings
from worker.infra.settings import PluggySettings, load
from worker.maintenance.subscriptions import RECEIVER_PATH

SIMULATED: Final = {
    "PLUGGY_CLIENT_ID": "5e1f5e1f-0000-4000-8000-000000000001",
    "PLUGGY_CLIENT_SECRET": "simulator",
    "PLUGGY_REQUESTS_PER_MINUTE": NO_LIMIT,
}
"""The application at the simulator, the same at every start: one database mirrors one."""
UNKNOWN_YET: Final = {"database_url": "postgresql:///", "redis_url": "unix:///redis"}
LOOPBACK: Final = "127.0.0.1"

NO_KEYS: Final = """\
{names} not set. Pluggy's dashboard has both keys: https://dashboard.pluggy.ai, Applications.
  export PLUGGY_CLIENT_ID=... PLUGGY_CLIENT_SECRET=...   (or ..._FILE with the path of a file)
To try it without an account: pluggy-sync up --simulator ..."""
NO_SERVERS: Final = (
    "{names} not set and no --data-dir is named: with --data-dir DIR, Postgres and Valkey are"
    " started here and keep their data in DIR"
)
NOWHERE_TO_KEEP_ONE: Final = (
    "WEBHOOK_SECRET is not set and no --data-dir is named, in which one could be kept;"
    " make one: export WEBHOOK_SECRET=$(openssl rand -hex 24)"
)


class UpRefused(Exception):
    """`up` cannot start; the text says what is missing or in use."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asks for."""

    data_dir: Path | None
    simulator: bool
    workers: int


@dataclass(frozen=True, slots=True)
class Ports:
    """Of the receiver, the ops process and the simulator."""

    receiver: int
    ops: int
    simulator: int


def is_given(name: str) -> bool:
    """Whether the environment has it, or names its file."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def refuse_what_is_missing(options: UpOptions) -> None:
    """Raises UpRefused."""
    if not options.simulator:
        _require(("PLUGGY_CLIENT_ID", "PLUGGY_CLIENT_SECRET"), NO_KEYS)
    if options.data_dir is None:
        _require(("DATABASE_URL", "REDIS_URL"), NO_SERVERS)
        _require(("WEBHOOK_SECRET",), NOWHERE_TO_KEEP_ONE)


def _require(names: tuple[str, ...], advice: str) -> None:
    missing = [name for name in names if not is_given(name)]
    if missing:
        listed = " and ".join(missing) + (" is" if len(missing) == 1 else " are")
        raise UpRefused(advice.format(names=listed))


def read_settings(
    given: Mapping[str, str],
) -> tuple[PluggySettings, ReceiverSettings, OpsSettings]:
    """As the processes will read them. given: what `up` sets for them, by variable.

    Raises SettingsError.
    """
    unknown_yet = {name: url for name, url in UNKNOWN_YET.items() if not is_given(name.upper())}
    known = unknown_yet | {name.lower(): value for name, value in given.items()}
    ops = load(OpsSettings, **known, ops_host=LOOPBACK)
    return load(PluggySettings, **known), load(ReceiverSettings, **known), ops


def choose_ports(receiver: int, ops: int) -> Ports:
    """0: a free one, the same for as long as `up` runs. Raises UpRefused naming all taken ones, or
    the one that is given twice."""
    if receiver == ops != 0:
        raise UpRefused(f"PORT and OPS_PORT are both {ops}. Choose another: OPS_PORT={ops + 1}")
    wanted = {"PORT": ("", receiver), "OPS_PORT": (LOOPBACK, ops)}
    taken = {name: port for name, (host, port) in wanted.items() if _is_taken(host, port)}
    if taken:
        listed = " and ".join(f"{port} ({name})" for name, port in taken.items())
        example = " ".join(f"{name}={port + 1}" for name, port in taken.items())
        raise UpRefused(f"in use already: port {listed}. Choose another: {example} pluggy-sync up")
    return Ports(receiver or free_port(), ops or free_port(), free_port())


def simulated(ports: Ports) -> dict[str, str]:
    """Settings of all processes for the simulator as Pluggy."""
    return SIMULATED | {
        "PLUGGY_BASE_URL": f"http://{LOOPBACK}:{ports.simulator}",
        "WEBHOOK_URL": f"http://{LOOPBACK}:{ports.receiver}{RECEIVER_PATH}",
    }


def _is_taken(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return True
        raise
    return False
