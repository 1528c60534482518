"""Worker processes while Redis and Postgres are killed, restarted or paused."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

import embedded
from ops.migrations import migrate
from tests.support.kept_database import execute, with_database
from tests.support.service import Service, open_service
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.engine.at_once import AT_ONCE
from worker.infra.postgres import close_pool, open_pool

LINES_AN_OUTAGE = 8 + AT_ONCE
"""Warnings and errors of a process: that the outage began and ended, and what was under way, which
may be a claim with as many steps as are begun at once."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[embedded.Postgres]:
    with embedded.Postgres(durable=True, tcp=True) as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    with embedded.Valkey() as server:
        yield server


@dataclass
class WorkerGroup:
    """Worker processes, with the process ids of their start."""

    service: Service
    workers: Sequence[WorkerProcess]
    session: aiohttp.ClientSession

    async def reported(self, event: str, times: int = 1) -> None:
        """Wait until each worker has logged the event."""

        async def said() -> bool:
            self.assert_alive()
            return all(len(worker.said(event)) >= times for worker in self.workers)

        await until(said, f"every worker says {event}")

    async def health(self, path: str) -> set[int]:
        """What the workers answer."""
        answers = set[int]()
        for worker in self.workers:
            [line] = worker.said("health_server_started")
            async with self.session.get(f"http://127.0.0.1:{line['port']}{path}") as answer:
                answers.add(answer.status)
        return answers

    async def ready(self) -> None:
        async def all_ready() -> bool:
            return await self.health("/readyz") == {200}

        await until(all_ready, "every worker is ready")

    def assert_alive(self) -> None:
        for worker in self.workers:
            assert worker.child.running, "".join(worker.lines[-40:])

    def assert_rode_out(self, *servers: str) -> None:
        """The same processes run, and each has logged the begin and the end of each outage."""
        self.assert_alive()
        for worker in self.workers:
            said = Counter(line["event"] for line in warnings(worker))
            for server in servers:
                assert said[f"{server}_away"] == said[f"{server}_back"] == 1, said
            assert sum(said.values()) <= LINES_AN_OUTAGE * len(servers), said


def warnings(worker: WorkerProcess) -> list[dict[str, Any]]:
    """Warnings of a process, apart from routine ones; arq's own lines are not JSON."""
    lines = [json.loads(line) for line in worker.lines if line.startswith("{")]
    return [line for line in lines if line["level"] not in ("debug", "info")]


@pytest.fixture
async def service(
    postgres: embedded.Postgres, valkey: embedded.Valkey, quiet_simulator: SimulatorProcess
) -> AsyncIterator[Service]:
    """A receiver and a simulator over servers that a test may kill."""
    name = f"ride_out_{uuid.uuid4().hex[:8]}"
    await execute(postgres.url, f"CREATE DATABASE {name}")
    database_url = with_database(postgres.url, name)
    await migrate(database_url)
    db = await open_pool(database_url, max_size=4, statement_cache=0)
    async with open_service(database_url, db, valkey.url, quiet_simulator) as opened:
        yield opened
    await close_pool(db)
    await execute(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def worker_group_of(service: Service) -> AsyncIterator[WorkerGroup]:
    async with AsyncExitStack() as entered, aiohttp.ClientSession() as session:
        workers = [
            await entered.enter_async_context(service.worker(WORKER_SLOTS="4")) for _ in range(2)
        ]
        worker_group = WorkerGroup(service, workers, session)
        await worker_group.ready()
        yield worker_group


async def begin_work(service: Service, items: int = 12) -> list[str]:
    """Deliver first events and return while they are being worked on."""
    made = [(await service.stack.item(transactions=60))["id"] for _ in range(items)]
    # So slow that no worker is done with its first items when the servers go away.
    await service.slow("GET /accounts", seconds=0.5, times=items)
    for item_id in made:
        await service.deliver(item_id)
    await service.asked("GET /accounts", 4)
    return made


async def assert_done(service: Service, items: Sequence[str], events: int = 1) -> None:
    """Every event is applied, every row is there, and the outage has cost no attempt."""
    await service.quiet()
    for item_id in items:
        assert await service.stack.states(item_id) == ["applied"] * events
        await service.stack.assert_equal(item_id)
    assert await service.attempts() == 0


async def applied(service: Service, events: int) -> None:
    async def all_applied() -> bool:
        query = "SELECT count(*) FROM pluggy_sync.webhook_events WHERE state = 'applied'"
        return bool(await service.db.fetchval(query) == events)

    await until(all_applied, "all events are applied")


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_without_redis_workers_go_on_from_what_postgres_knows(
    service: Service, valkey: embedded.Valkey, how: str
) -> None:
    async with worker_group_of(service) as worker_group:
        items = await begin_work(service)
        await asyncio.to_thread(valkey.kill if how == "killed" else valkey.pause)
        try:
            await worker_group.reported("redis_away")
            for item_id in items:
                await service.deliver(item_id)
            # No ring reaches anybody: the rest is claimed not woken.
            await applied(service, 2 * len(items))
            assert await worker_group.health("/livez") == {200}
        finally:
            await asyncio.to_thread(valkey.start if how == "killed" else valkey.resume)
        await worker_group.reported("redis_back")
        await worker_group.ready()
        for item_id in items:
            await service.deliver(item_id)
        await assert_done(service, items, events=3)
        worker_group.assert_rode_out("redis")


async def test_a_postgres_that_is_killed_costs_no_worker_and_no_attempt(
    service: Service, postgres: embedded.Postgres
) -> None:
    async with worker_group_of(service) as worker_group:
        items = await begin_work(service)
        await asyncio.to_thread(postgres.kill)
        try:
            await worker_group.reported("postgres_away")
            assert await worker_group.health("/livez") == {200}
        finally:
            await asyncio.to_thread(postgres.start)
        await worker_group.reported("postgres_back")
        # What was under way is due when its leases lapse.
        await service.let_lapse()
        await assert_done(service, items)
        worker_group.assert_rode_out("postgres")


async def test_a_worker_that_starts_before_its_servers_waits_for_them(
    service: Service, postgres: embedded.Postgres, valkey: embedded.Valkey
) -> None:
    item = await service.stack.item(transactions=10)
    await service.deliver(item["id"])
    await asyncio.gather(asyncio.to_thread(postgres.kill), asyncio.to_thread(valkey.kill))
    worker = service.worker()
    starting = asyncio.create_task(worker.__aenter__())
    try:

        async def waits() -> bool:
            assert not starting.done(), starting
            return bool(worker.said("postgres_away"))

        await until(waits, "it waits")
        [line] = worker.said("health_server_started")
        async with aiohttp.ClientSession() as session:
            answers = [
                (await session.get(f"http://127.0.0.1:{line['port']}{path}")).status
                for path in ("/livez", "/readyz")
            ]
        assert answers == [200, 503]
    finally:
        await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
    await starting
    try:
        await assert_done(service, [item["id"]])
        assert len(worker.said("postgres_away")) == 1
    finally:
        await worker.kill()


async def test_a_worker_is_stopped_while_redis_is_away_as_at_other_times(
    service: Service, valkey: embedded.Valkey
) -> None:
    item = await service.stack.item(transactions=10)
    async with service.worker() as worker:
        await service.slow("GET /accounts", seconds=2.0)
        await asyncio.to_thread(valkey.kill)
        try:
            await service.deliver(item["id"])
            await service.asked("GET /accounts")
            worker.stop()
            assert await worker.ended() == 0
        finally:
            await asyncio.to_thread(valkey.start)
        assert worker.said("worker_stopped")
    # Begun not woken and handed back at once.
    assert not await service.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.item_leases WHERE token IS NOT NULL"
    )
    async with service.worker():
        await assert_done(service, [item["id"]])
