"""Two receivers, three workers, a simulator, Postgres and Valkey, with a proxy on every wire."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
from redis.asyncio import Redis

import embedded
from embedded.ports import free_port
from ops.demo.processes import (
    ARQ_WORKER,
    SIMULATOR,
    WEBHOOK_RECEIVER,
    Child,
    Children,
    children,
    pluggy_settings,
    simulator_url,
)
from ops.migrations import migrate
from tests.chaos.wire import Wire
from tests.oracle.pluggy_control import CLIENT_ID, CLIENT_SECRET, PluggyControl
from tests.oracle.stack import OUR_FAULT
from worker.infra.postgres import Pool, close_pool
from worker.infra.redis_client import connect

RECEIVERS: Final = 2
WORKERS: Final = 3
SLOTS: Final = 6
POLL_INTERVAL_S: Final = 0.1
HANGS_AFTER_S: Final = 60.0
"""Of the driver's own requests; those of the service have their own limits."""


@dataclass(slots=True)
class Replicas:
    """Processes of one kind. One that ends is started again, as an orchestrator does."""

    start: Callable[[int], Child]
    size: int
    running: list[Child] = field(default_factory=list)
    gone: list[Child] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    unexpected_exits: list[Child] = field(default_factory=list)
    """Those that ended without having been killed."""

    async def begin(self) -> None:
        self.running = [await asyncio.to_thread(self.start, nth) for nth in range(self.size)]

    async def kill(self, nth: int) -> None:
        """SIGKILL; returns when another has taken its place."""
        victim = self.running[nth]
        self.killed.add(victim.pid)
        victim.send(signal.SIGKILL)
        while self.running[nth] is victim:  # noqa: ASYNC110 - no event tells of an end
            await asyncio.sleep(POLL_INTERVAL_S)

    async def pause(self, nth: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        self.running[nth].send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running[nth].send(signal.SIGCONT)

    async def replace(self) -> None:
        """Start another for each that has ended, until cancelled."""
        while True:
            for nth, child in enumerate(self.running):
                if not child.running:
                    if child.pid not in self.killed:
                        self.unexpected_exits.append(child)
                    self.gone.append(child)
                    self.running[nth] = await asyncio.to_thread(self.start, nth)
            await asyncio.sleep(POLL_INTERVAL_S)

    def complaints(self, kept_in: Path) -> Counter[str]:
        """Lines of their logs that tell of a fault of ours, by word; such logs are kept."""
        found = Counter[str]()
        for child in (*self.gone, *self.running):
            words = Counter(word for line in child.lines() for word in OUR_FAULT if word in line)
            if words or child in self.unexpected_exits:
                shutil.copy(child.log, kept_in)
            found += words
        return found


@dataclass(slots=True)
class ChaosStack:
    """What chaos happens to. db and redis are the driver's own connections, past the proxies."""

    postgres: embedded.Postgres
    valkey: embedded.Valkey
    db: Pool
    redis: Redis
    simulator: Child
    pluggy: PluggyControl
    receivers: Replicas
    workers: Replicas
    wires: dict[str, Wire]
    doors: list[str]
    send_strangers: Callable[[], Child]
    secret: str


def through(url: str, proxy: Wire) -> str:
    """The same server, by a proxy."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{proxy.port}"))


@asynccontextmanager
async def open_stack(seed: int) -> AsyncIterator[ChaosStack]:
    """Start everything; stop it afterwards."""
    async with AsyncExitStack() as stack:
        started = stack.enter_context(children())
        valkey = stack.enter_context(embedded.Valkey(durable=True, tcp=True))
        postgres = stack.enter_context(embedded.Postgres(durable=True, tcp=True))
        await migrate(postgres.url)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HANGS_AFTER_S))
        )
        built = await _build(stack, started, session, postgres, valkey, seed)
        replacing = [asyncio.create_task(r.replace()) for r in (built.receivers, built.workers)]
        try:
            yield built
        finally:
            for task in replacing:
                task.cancel()
            await asyncio.gather(*replacing, return_exceptions=True)
            await built.redis.aclose()
            await close_pool(built.db)


async def _build(
    stack: AsyncExitStack,
    started: Children,
    session: aiohttp.ClientSession,
    postgres: embedded.Postgres,
    valkey: embedded.Valkey,
    seed: int,
) -> ChaosStack:
    options = ["--seed", str(seed), "--rate-limit", "0"]
    simulator = started.start("simulator", [*SIMULATOR, *options])
    url = await simulator.wait_for_log(simulator_url)
    doors = [free_port() for _ in range(RECEIVERS)]
    ports = {
        "receivers-postgres": postgres.port,
        "receivers-valkey": valkey.port,
        "workers-postgres": postgres.port,
        "workers-valkey": valkey.port,
        "workers-pluggy": urlsplit(url).port,
    } | {f"sender-receiver-{nth}": port for nth, port in enumerate(doors)}
    wires = {
        name: await stack.enter_async_context(Wire(port)) for name, port in ports.items() if port
    }

    def servers(of: str) -> dict[str, str]:
        return {
            "DATABASE_URL": through(postgres.url, wires[f"{of}-postgres"]),
            "REDIS_URL": through(valkey.url, wires[f"{of}-valkey"]),
        }

    secret = secrets.token_urlsafe(24)
    number = iter(range(1_000_000))

    def start_receiver(nth: int) -> Child:
        environment = servers("receivers") | {"PORT": str(doors[nth]), "WEBHOOK_SECRET": secret}
        return started.start(
            f"receiver-{next(number)}", WEBHOOK_RECEIVER, LOG_LEVEL="WARNING", **environment
        )

    def start_worker(nth: int) -> Child:
        return started.start(
            f"worker-{next(number)}",
            ARQ_WORKER,
            **servers("workers"),
            LOG_LEVEL="WARNING",
            METRICS_PORT=str(free_port()),
            WORKER_SLOTS=str(SLOTS),
            **pluggy_settings(through(url, wires["workers-pluggy"]), CLIENT_ID, CLIENT_SECRET),
        )

    def send_strangers() -> Child:
        return started.start("strangers", ["tests.chaos.hostile", *map(str, doors)])

    built = ChaosStack(
        postgres=postgres,
        valkey=valkey,
        db=await asyncpg.create_pool(
            postgres.url,
            min_size=0,
            max_size=4,
            statement_cache_size=0,
            timeout=HANGS_AFTER_S,
            command_timeout=HANGS_AFTER_S,
        ),
        redis=connect(valkey.url, timeout_s=HANGS_AFTER_S),
        simulator=simulator,
        pluggy=PluggyControl(session, url),
        receivers=Replicas(start_receiver, RECEIVERS),
        workers=Replicas(start_worker, WORKERS),
        wires=wires,
        doors=[f"http://127.0.0.1:{wires[f'sender-receiver-{n}'].port}" for n in range(RECEIVERS)],
        send_strangers=send_strangers,
        secret=secret,
    )
    # Nobody hears of anything but by the sender.
    await built.pluggy.json("POST", "/_simulator/webhooks", {"quiet": True})
    await built.receivers.begin()
    await built.workers.begin()
    return built
