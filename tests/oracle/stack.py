"""The whole service as separate processes: simulator, receiver, workers, Valkey and Postgres.

All of them die with this process. A worker that is killed is replaced by a spare that waits.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
from arq.connections import ArqRedis

import embedded
from embedded.ports import free_port
from ops.demo.processes import (
    SIMULATOR,
    WEBHOOK_RECEIVER,
    Child,
    ChildEnded,
    Children,
    children,
    pluggy_settings,
    receiver_port,
    simulator_url,
)
from ops.migrations import migrate
from ops.roles import RECEIVER, WORKER, as_role
from tests.oracle.pluggy_control import CLIENT_ID, CLIENT_SECRET, PluggyControl
from tests.oracle.postman import Postman
from tests.support.stack import fill_budget
from worker.inbox.spool import SPOOL, Spool
from worker.infra.postgres import Pool, close_pool
from worker.infra.redis_client import connect

ROOT: Final = Path(__file__).parents[2]
HANG_S: Final = 600.0
"""After so long something hangs. It says nothing about speed: a busy machine takes minutes, and a
worker that stands still within a transaction holds its locks for one."""
METRICS_WITHIN: Final = aiohttp.ClientTimeout(total=20.0)
CLAIMS: Final = re.compile(r"^pluggy_sync_claims_total\{.*\} (\S+)$", re.MULTILINE)
SLOTS: Final = "10"
ROLES: Final = (RECEIVER, WORKER)
CUT: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
FLUSH_SCRIPT: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('FLUSHALL')
return 1
"""
OUR_FAULT: Final = (
    "sync_crashed", "postgres_not_migrated", "sweep_crashed", "no_progress", "Traceback",
    "exception",
)  # fmt: skip
"""No worker may ever log these."""


@dataclass(slots=True)
class WorkerGroup:
    """The workers: those at work, and spares that wait to take the place of a dead one."""

    start: Callable[[str, int], Child]
    """Of a name and a port for its metrics."""
    size: int
    at_work: list[Child] = field(default_factory=list)
    spares: list[Child] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    gone: list[Child] = field(default_factory=list)
    confused: set[str] = field(default_factory=set)
    ports: dict[int, int] = field(default_factory=dict)
    number: int = 0
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while workers come and go, and while they would find no Postgres to start with."""
    _hiring: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(self) -> None:
        """Have everybody at work, and two spares."""
        await asyncio.gather(*(self._hire() for _ in range(self.size + 2)))
        for _ in range(self.size):
            self._put_to_work()

    async def _hire(self) -> None:
        self.number += 1
        port = free_port()
        spare = await asyncio.to_thread(self.start, f"worker-{self.number}", port)
        self.ports[spare.pid] = port
        await spare.wait_for_log(lambda child: "waiting" in child.lines() or None)
        self.spares.append(spare)

    def _put_to_work(self) -> None:
        spare = self.spares.pop(0)
        spare.send(signal.SIGUSR1)
        self.at_work.append(spare)

    async def resize(self) -> None:
        """One worker more, or when there are twice as many as at first, the later ones leave."""
        async with self.changing:
            if len(self.at_work) < 2 * self.size and self.spares:
                self._put_to_work()
                self._replace_spare()
                return
            for worker in self.at_work[self.size :]:
                self._dismiss(worker, signal.SIGTERM)

    async def kill(self, nth: int, number: signal.Signals = signal.SIGKILL) -> bool:
        """End a worker, by SIGKILL or as a deploy does; a spare takes its place."""
        async with self.changing:
            if not self.spares:
                return False
            self._dismiss(self.at_work[nth % len(self.at_work)], number)
            self._put_to_work()
            self._replace_spare()
            return True

    def _dismiss(self, worker: Child, number: signal.Signals) -> None:
        self.at_work.remove(worker)
        worker.send(number)
        if worker.pid in self.stopped:
            # What stands still hears nothing but SIGKILL.
            self.resume(worker)
        self.gone.append(worker)

    def _replace_spare(self) -> None:
        task = asyncio.create_task(self._hire())
        self._hiring.add(task)
        task.add_done_callback(self._hiring.discard)

    async def claims(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """How many items each worker that answers has claimed so far, by its name."""
        moving = [worker for worker in self.at_work if worker.pid not in self.stopped]
        counts = await asyncio.gather(*(self._claims_of(session, worker) for worker in moving))
        return {
            w.name: claims for w, claims in zip(moving, counts, strict=True) if claims is not None
        }

    async def _claims_of(self, session: aiohttp.ClientSession, worker: Child) -> float | None:
        url = f"http://127.0.0.1:{self.ports[worker.pid]}/metrics"
        try:
            async with session.get(url, timeout=METRICS_WITHIN) as answer:
                return sum(map(float, CLAIMS.findall(await answer.text())))
        except (aiohttp.ClientError, TimeoutError):
            return None  # not ready yet, standing still, or just ended

    def stop(self, nth: int) -> Child | None:
        """Make one stand still, but never the last that moves; returns which."""
        moving = [worker for worker in self.at_work if worker.pid not in self.stopped]
        if len(moving) < 2:
            return None
        worker = moving[nth % len(moving)]
        self.stopped.add(worker.pid)
        worker.send(signal.SIGSTOP)
        return worker

    def resume(self, worker: Child) -> None:
        if worker.pid in self.stopped:
            self.stopped.discard(worker.pid)
            worker.send(signal.SIGCONT)

    def check(self) -> None:
        """Raise ChildEnded if a worker has ended that was not killed."""
        for worker in self.at_work:
            if not worker.running:
                raise ChildEnded(f"{worker.name} has ended:\n{worker.tail()}")

    def complaints(self, about: str = "") -> list[str]:
        """Lines of all workers' logs that tell of a fault of ours, about one item or any."""
        return [
            f"{worker.name}: {line}"
            for worker in (*self.gone, *self.at_work)
            for line in worker.lines()
            if about in line and any(word in line for word in OUR_FAULT)
            if not ("no_progress" in line and any(item in line for item in self.confused))
        ]

    async def disband(self) -> None:
        for worker in list(self.at_work):
            self.resume(worker)
        for task in self._hiring:
            task.cancel()
        await asyncio.gather(*self._hiring, return_exceptions=True)


@dataclass(slots=True)
class Disturbance:
    """Something that one scenario did to the whole stack, and when."""

    at: float
    scenario: int
    step: dict[str, Any]


@dataclass(slots=True)
class OracleStack:
    """What scenarios play on."""

    db: Pool
    redis: ArqRedis
    pluggy: PluggyControl
    postman: Postman
    worker_group: WorkerGroup
    receiver: Child
    counts: Counter[str] = field(default_factory=Counter)
    journal: list[Disturbance] = field(default_factory=list)

    def note(self, scenario: int, step: dict[str, Any]) -> None:
        self.journal.append(Disturbance(time.monotonic(), scenario, step))

    async def claims(self) -> dict[str, float]:
        """How many items each worker has claimed so far."""
        return await self.worker_group.claims(self.pluggy.session)

    async def flush_redis(self) -> bool:
        """Empty Redis, wakes and locks included, unless spooled events wait there for Postgres."""
        if not await self.redis.register_script(FLUSH_SCRIPT)(keys=[SPOOL]):
            return False
        await fill_budget(self.redis)
        return True

    async def spooled(self) -> int:
        """Events that wait in Redis for Postgres."""
        return (await Spool(self.redis).figures()).entries

    async def postgres_away(self, seconds: float) -> bool:
        """For so long receiver and workers lose their connections and get no others.

        False if a worker is just starting, which needs Postgres.
        """
        async with self.worker_group.changing:
            if len(await self.claims()) < len(self.worker_group.at_work):
                return False
            await self._let_connect(0)
            for role in ROLES:
                await self.db.execute(CUT, role)
            await asyncio.sleep(seconds)
            self.counts["webhook spooled"] += await self.spooled()
            await self._let_connect(-1)
            return True

    async def read_only(self, seconds: float, *, killed: bool) -> bool:
        """A fail-over: for so long receiver and workers find a server that takes no writes.

        Their sessions of that time are killed afterwards, or left as they are: read-only for ever.
        False if a worker is just starting.
        """
        async with self.worker_group.changing:
            if len(await self.claims()) < len(self.worker_group.at_work):
                return False
            await self._set_read_only("SET default_transaction_read_only = on", cut=True)
            await asyncio.sleep(seconds)
            await self._set_read_only("RESET default_transaction_read_only", cut=killed)
            return True

    async def _set_read_only(self, change: str, *, cut: bool) -> None:
        for role in ROLES:
            await self.db.execute(f"ALTER ROLE {role} {change}")
            if cut:
                await self.db.execute(CUT, role)

    async def _let_connect(self, most: int) -> None:
        for role in ROLES:
            await self.db.execute(f"ALTER ROLE {role} CONNECTION LIMIT {most}")


@asynccontextmanager
async def open_stack(*, workers: int = 2, seed: int = 1) -> AsyncIterator[OracleStack]:
    """Start everything; stop it afterwards."""
    with (
        children() as started,
        embedded.redis(durable=True) as redis_url,
        embedded.database() as database_url,
    ):
        await migrate(database_url, roles=True)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HANG_S)) as session:
            stack = await _assemble(started, session, database_url, redis_url, workers, seed)
            try:
                yield stack
            finally:
                await stack.worker_group.disband()
                await stack.postman.close()
                await stack.redis.aclose()
                await close_pool(stack.db)


async def _assemble(
    started: Children,
    session: aiohttp.ClientSession,
    database_url: str,
    redis_url: str,
    workers: int,
    seed: int,
) -> OracleStack:
    options = ["--seed", str(seed), "--rate-limit", "0", "--step-seconds", "0.05"]
    simulator = started.start("simulator", [*SIMULATOR, *options])
    secret = secrets.token_urlsafe(24)
    receiver = started.start(
        "receiver",
        WEBHOOK_RECEIVER,
        DATABASE_URL=as_role(database_url, RECEIVER),
        REDIS_URL=redis_url,
        PORT="0",
        WEBHOOK_SECRET=secret,
    )
    pluggy = PluggyControl(session, await simulator.wait_for_log(simulator_url))
    port = await receiver.wait_for_log(receiver_port)
    postman = Postman(f"http://127.0.0.1:{port}/webhooks/pluggy", secret, give_up_s=HANG_S)
    await postman.open()
    await pluggy.subscribe(postman.url, client_id=CLIENT_ID, secret=CLIENT_SECRET)

    def start(name: str, port: int) -> Child:
        return started.start(
            name,
            ["tests.oracle.spare"],
            DATABASE_URL=as_role(database_url, WORKER),
            REDIS_URL=redis_url,
            LOG_LEVEL="WARNING",
            METRICS_PORT=str(port),
            WORKER_SLOTS=SLOTS,
            ADOPT_UNKNOWN_ITEMS="1",
            **pluggy_settings(pluggy.base_url, CLIENT_ID, CLIENT_SECRET),
        )

    worker_group = WorkerGroup(start, workers)
    # Not as a worker connects, which gives up after five seconds.
    db = await asyncpg.create_pool(
        database_url, min_size=4, max_size=16, timeout=HANG_S, command_timeout=HANG_S
    )
    redis = connect(redis_url, timeout_s=HANG_S)
    stack = OracleStack(db, redis, pluggy, postman, worker_group, receiver)
    await fill_budget(stack.redis)
    await worker_group.begin()
    return stack
