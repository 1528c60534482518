"""Real worker processes killed, stopped and deployed during a sync lose nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import asyncpg

from tests.support.service import Service
from tests.support.waiting import is_blocked, until
from tests.support.worker_process import WorkerProcess
from worker.infra.postgres import Pool
from worker.infra.redis_keys import PREFIX


@asynccontextmanager
async def mid_sync(
    service: Service, item_id: str, *, seconds: float
) -> AsyncIterator[WorkerProcess]:
    """A worker in the middle of a sync: Pluggy does not answer yet."""
    await service.slow("GET /v2/transactions", seconds=seconds)
    await service.deliver(item_id)
    async with service.worker() as worker:
        await service.asked("GET /v2/transactions")
        yield worker


async def test_what_a_killed_worker_began_another_finishes(service: Service) -> None:
    item = await service.stack.item(transactions=1200)
    async with mid_sync(service, item["id"], seconds=60) as victim, service.worker():
        await victim.kill()
        await service.let_lapse()
        await service.quiet()
    await service.stack.assert_equal(item["id"])
    assert await service.stack.states(item["id"]) == ["applied"]
    assert await service.attempts() == 0
    runs = await service.db.fetch("SELECT outcome, seq FROM pluggy_sync.runs ORDER BY id")
    assert runs[0]["outcome"] in ("done", "lost")
    assert all(run["seq"] for run in runs)


async def test_a_worker_that_stood_still_too_long_is_fenced_off_when_it_wakes(
    service: Service,
) -> None:
    item = await service.stack.item(transactions=300)
    async with mid_sync(service, item["id"], seconds=6) as stalled:
        stalled.pause()
        for _ in range(20):
            await service.deliver(item["id"])
        await service.let_lapse()
        async with service.worker() as other:
            await service.quiet()
            other.stop()
            assert await other.ended() == 0
        await service.stack.clear_faults()
        rows = await mirrored(service.db)
        stalled.resume()

        async def lease_lost() -> bool:
            return bool(stalled.said("lease_lost"))

        await until(lease_lost, "the worker that woke notices")
        assert await mirrored(service.db) == rows
        await service.quiet()
    await service.stack.assert_equal(item["id"])
    assert set(await service.stack.states(item["id"])) == {"applied"}


async def mirrored(db: Pool) -> list[asyncpg.Record]:
    """Every row of the mirror with the transaction that wrote it."""
    return await db.fetch("SELECT ctid, xmin, t FROM pluggy.transactions t ORDER BY item_id, id")


async def test_a_stopped_worker_leaves_nothing_behind(service: Service) -> None:
    """It may finish or release its items; both within the grace time."""
    item = await service.stack.item(transactions=40)
    await service.slow("GET /accounts", seconds=1.0)
    await service.deliver(item["id"])
    async with service.worker() as worker:
        await service.asked("GET /accounts")
        worker.stop()
        assert await worker.ended() == 0
        assert worker.said("worker_stopped")
    assert not await service.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.item_leases WHERE token IS NOT NULL"
    )
    assert not await service.db.fetchval("SELECT count(*) FROM pluggy_sync.workers")
    assert await service.attempts() == 0
    async with service.worker():
        await service.quiet()
    await service.stack.assert_equal(item["id"])


async def test_a_stopped_worker_takes_nothing_more(service: Service) -> None:
    items = [await service.stack.item(transactions=40) for _ in range(2)]
    for item in items:
        await service.deliver(item["id"])
    async with AsyncExitStack() as entered:
        async with service.db.acquire() as conn, conn.transaction():
            await conn.execute("LOCK TABLE pluggy.accounts IN SHARE MODE")
            worker = await entered.enter_async_context(service.worker(WORKER_SLOTS="1"))
            await until(partial(is_blocked, service.db), "a sync stands")
            worker.stop()
        assert await worker.ended() == 0
    states = [await service.stack.states(item["id"]) for item in items]
    assert states.count(["pending"]) == 1, "the item under way was finished, the other not begun"


async def test_a_redis_that_forgets_everything_loses_no_work(service: Service) -> None:
    items = [await service.stack.item(transactions=20) for _ in range(14)]
    for item in items:
        await service.deliver(item["id"])
    await service.stack.redis.flushall()
    async with service.worker(WORKER_SLOTS="2") as first, service.worker(WORKER_SLOTS="2"):
        await service.asked("GET /items/{id}", 5)
        await service.stack.redis.flushall()
        first.stop()
        await service.quiet()
    for item in items:
        assert await service.stack.states(item["id"]) == ["applied"]
        await service.stack.assert_equal(item["id"])


async def test_sixty_webhooks_within_a_second_lead_to_at_most_two_more_syncs(
    service: Service,
) -> None:
    item = await service.stack.synced_item(transactions=40)
    await service.stack.collect(item["id"], created=1)
    before = await syncs(service, item["id"])
    await service.stack.worker.engine.ledger.reset()
    await service.stack.reset_requests()
    async with service.worker(), service.worker():
        async with service.db.acquire() as conn, conn.transaction():
            # The first sync stands until the others have come.
            await conn.execute("SELECT FROM pluggy.items FOR UPDATE")
            await service.deliver(item["id"])
            await until(partial(is_blocked, service.db), "a sync stands")
            await asyncio.gather(*[service.deliver(item["id"]) for _ in range(59)])
        await service.quiet()
        await until(partial(all_calls_are_counted, service), "what was answered is counted")
    assert 1 <= await syncs(service, item["id"]) - before <= 2
    assert await service.stack.states(item["id"]) == ["applied"] * 61


async def all_calls_are_counted(service: Service) -> bool:
    """Whether the shared counts have every answer about an item, also of workers that rest."""
    redis = service.stack.redis
    keys = [key async for key in redis.scan_iter(f"{PREFIX}calls:*[0-9]")]
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hget(key, "answered")
        counted = sum(int(answered or 0) for answered in await pipe.execute())
    asked = await service.stack.requests()
    of_no_item = {"GET /connectors", "GET /categories", "GET /webhooks", "GET /v2/items"}
    gets = [asked[name] for name in asked if name.startswith("GET ") and name not in of_no_item]
    return counted == sum(gets) and counted > 1


async def syncs(service: Service, item_id: str) -> int:
    found: int = await service.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.runs WHERE item_id = $1 AND kind = 'sync'",
        uuid.UUID(item_id),
    )
    return found
