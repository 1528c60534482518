"""The demo's stack of servers, simulator, receiver and workers, started and stopped as one."""

from __future__ import annotations

import secrets
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp

from embedded.ports import free_port
from ops.demo.processes import (
    ARQ_WORKER,
    SIMULATOR,
    WEBHOOK_RECEIVER,
    Child,
    Children,
    children,
    pluggy_settings,
    receiver_port,
    simulator_url,
)
from ops.demo.servers import postgres, redis
from ops.demo.simulator import SimulatorControl
from ops.roles import RECEIVER, WORKER, as_role


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
    duel: bool = False
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
        """Settings of a process for Postgres and Redis, with the database role that it plays."""
        url = as_role(self.database_url, role) if self.has_own_postgres else self.database_url
        return {"DATABASE_URL": url, "REDIS_URL": self.redis_url}


@contextmanager
def open_stage(options: DemoOptions) -> Iterator[Stage]:
    """Servers and simulator. Raises EmbeddedError, NoServer, ChildEnded."""
    with children() as started:
        # First, because its imports take as long as the database's start.
        simulator = started.start(
            "simulator", [*SIMULATOR, "--seed", str(options.seed), "--rate-limit", "0"]
        )
        with redis(options.redis_url) as redis_url, postgres(options.database_url) as database_url:
            try:
                yield Stage(options, started, simulator, database_url, redis_url)
            finally:
                # Before what they would write is removed from servers that were given.
                started.stop()


@dataclass(frozen=True, slots=True)
class Service:
    """The receiver and the workers; pluggy: how a worker reaches the simulator."""

    stage: Stage
    control: SimulatorControl
    secret: str
    pluggy: dict[str, str]

    def start_workers(self) -> list[Child]:
        """As many workers as were asked for."""
        return [
            self.stage.children.start(
                f"worker-{number}",
                ARQ_WORKER,
                METRICS_PORT=str(free_port()),
                **self.stage.servers(WORKER),
                **self.pluggy,
            )
            for number in range(1, self.stage.options.workers + 1)
        ]


async def start_service(stage: Stage, session: aiohttp.ClientSession) -> Service:
    """Receiver and workers, over a migrated database; and the subscription at the simulator.

    Raises ChildEnded, aiohttp.ClientError.
    """
    secret, client_id = secrets.token_urlsafe(24), str(uuid.uuid4())
    receiver = stage.children.start(
        "receiver", WEBHOOK_RECEIVER, PORT="0", WEBHOOK_SECRET=secret, **stage.servers(RECEIVER)
    )
    url = await stage.simulator.wait_for_log(simulator_url)
    pluggy = pluggy_settings(url, client_id, secrets.token_urlsafe(24))
    service = Service(stage, SimulatorControl(session, url), secret, pluggy)
    service.start_workers()
    port = await receiver.wait_for_log(receiver_port)
    hook = f"http://127.0.0.1:{port}/webhooks/pluggy"
    await service.control.subscribe(hook, client_id=client_id, secret=secret)
    return service


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
