"""The demo's stack of servers, simulator, receiver and workers, started and stopped as one."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp

from embedded.ports import free_port
from ops.demo.processes import Child, Children, children
from ops.demo.servers import postgres, redis
from ops.demo.simulator import SimulatorControl
from ops.roles import RECEIVER, WORKER, as_role

ZONE: Final = "America/Sao_Paulo"
NO_LIMIT: Final = "60000"
START_TIMEOUT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.02

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for; transactions are per item."""

    items: int = 5
    transactions: int = 2000
    seed: int = 1
    rounds: int = 3
    workers: int = 2
    sabotage: bool = False
    leave: bool = False
    as_json: bool = False
    database_url: str | None = None
    redis_url: str | None = None


class DemoFailed(Exception):
    """The demo cannot go on; the text says what it waited for."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs before the service itself does."""

    options: DemoOptions
    children: Children
    simulator: Child
    database_url: str
    redis_url: str

    @property
    def has_own_postgres(self) -> bool:
        """Else it is somebody's, and roles are no part of a database: none are made there."""
        return self.options.database_url is None

    def servers(self, role: str) -> dict[str, str]:
        """What a process is told of Postgres and Redis, with the database role that it plays."""
        url = as_role(self.database_url, role) if self.has_own_postgres else self.database_url
        return {"DATABASE_URL": url, "REDIS_URL": self.redis_url}


@contextmanager
def open_stage(options: DemoOptions) -> Iterator[Stage]:
    """Servers and simulator. Raises EmbeddedError, NoServer, ChildEnded."""
    with children() as started:
        # First, because its imports take as long as the database's start.
        simulator = started.start(
            "simulator", ["simulator", "--seed", str(options.seed), "--rate-limit", "0"]
        )
        with redis(options.redis_url) as redis_url, postgres(options.database_url) as database_url:
            yield Stage(options, started, simulator, database_url, redis_url)


async def start_service(stage: Stage, session: aiohttp.ClientSession) -> SimulatorControl:
    """Receiver and workers, over a migrated database; and the simulator told where to deliver.

    Raises DemoFailed, ChildEnded, aiohttp.ClientError.
    """
    secret, client_id = secrets.token_urlsafe(24), str(uuid.uuid4())
    receiver = stage.children.start(
        "receiver",
        ["webhook_receiver"],
        PORT="0",
        WEBHOOK_SECRET=secret,
        **stage.servers(RECEIVER),
    )
    url = await _wait_for(stage, stage.simulator, _simulator_url)
    pluggy = {
        "PLUGGY_BASE_URL": url,
        "PLUGGY_CLIENT_ID": client_id,
        "PLUGGY_CLIENT_SECRET": secrets.token_urlsafe(24),
        "PLUGGY_REQUESTS_PER_MINUTE": NO_LIMIT,
        "POSTED_ON_ZONE": ZONE,
    }
    for number in range(1, stage.options.workers + 1):
        stage.children.start(
            f"worker-{number}",
            ["arq", "worker.main.WorkerSettings"],
            METRICS_PORT=str(free_port()),
            **stage.servers(WORKER),
            **pluggy,
        )
    port = await _wait_for(stage, receiver, _receiver_port)
    control = SimulatorControl(session, url)
    hook = f"http://127.0.0.1:{port}/webhooks/pluggy"
    await control.subscribe(hook, client_id=client_id, secret=secret)
    return control


async def _wait_for(stage: Stage, child: Child, find: Callable[[Child], T | None]) -> T:
    """Wait until `find` returns a value from a child's log."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (found := find(child)) is None:
        stage.children.check()
        if time.monotonic() > deadline:
            raise DemoFailed(f"{child.name} did not start within {START_TIMEOUT_S:.0f} s")
        await asyncio.sleep(POLL_INTERVAL_S)
    return found


def _simulator_url(child: Child) -> str | None:
    ready = "simulator ready "
    ready_lines = [line.removeprefix(ready) for line in child.lines() if line.startswith(ready)]
    return ready_lines[0] if ready_lines else None


def _receiver_port(child: Child) -> int | None:
    started = child.logged("receiver_started")
    return int(started["port"]) if started else None


def stop_on_every_signal() -> None:
    """SIGTERM and a closed terminal stop the demo as Ctrl-C does."""
    # Also where a shell has started us in the background, with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def ignore_signals() -> None:
    """From here everything is being stopped, which takes a bounded time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
