"""Rolling restarts of the workers under load: no attempt is burnt, hardly a sync is repeated."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.service import Service
from tests.support.waiting import until
from worker.infra.postgres import Pool

ROUNDS = 10
WORKERS = 2
ITEMS = 24
EVENT_EVERY_S = 0.1

REPEATS = """
SELECT event_id, count(*) AS syncs FROM pluggy_sync.runs, unnest(event_ids) AS event_id
WHERE kind = 'sync' GROUP BY event_id
"""


GIVEN_BACK = """
SELECT count(*) FROM pluggy_sync.webhook_events e
WHERE e.state IN ('pending', 'walking') AND EXISTS (
    SELECT FROM pluggy_sync.runs r WHERE r.outcome = 'released' AND e.id = ANY (r.event_ids))
"""
HANGS_AFTER_S = 300.0


async def load(
    service: Service, items: list[str], delivered: Counter[str], enough: asyncio.Event
) -> None:
    """Collections, each with its webhooks, until there are enough.

    An item is collected when its last events are applied: a sync of many investments gives way to
    newer events of its item, and would be in two runs for that reason.
    """
    while True:
        for item_id in items:
            if enough.is_set():
                return
            if set(await service.stack.states(item_id)) == {"applied"}:
                await service.stack.collect(item_id, created=1)
                await service.deliver(item_id)
                delivered[item_id] += 1
            await asyncio.sleep(EVENT_EVERY_S)


@pytest.mark.timeout(1800)
async def test_rolling_restarts_burn_no_attempt_and_repeat_no_sync_twice(service: Service) -> None:
    db, stack = service.db, service.stack
    items = [(await stack.synced_item(transactions=60))["id"] for _ in range(ITEMS)]
    await stack.reset_requests()
    synced_before = await db.fetchval("SELECT max(id) FROM pluggy_sync.runs")
    # Half of the reads last, so that every stop finds syncs under way.
    slow = {"match": "GET /v2/transactions", "kind": "slow", "seconds": 0.4, "rate": 0.5}
    await stack.simulator.apost("/_simulator/faults", slow)
    delivered: Counter[str] = Counter()
    enough = asyncio.Event()
    loading = asyncio.create_task(load(service, items, delivered, enough))
    worker_group = [await service.worker(WORKER_SLOTS="4").__aenter__() for _ in range(WORKERS)]
    under_way = 0

    async def taken_over() -> bool:
        # On a slow machine one sync could be met by two restarts.
        return not await db.fetchval(GIVEN_BACK)

    try:
        for _ in range(ROUNDS):
            for place, old in enumerate(worker_group):
                worker_group[place] = await service.worker(WORKER_SLOTS="4").__aenter__()
                under_way += await leases(db)
                old.stop()
                assert await old.ended() == 0, "".join(old.lines[-20:])
                await until(taken_over, "what was given back is done", timeout_s=HANGS_AFTER_S)
                assert not loading.done(), loading.exception()
        enough.set()
        await loading
        await stack.clear_faults()
        await service.quiet()
    finally:
        loading.cancel()
        for worker in worker_group:
            await worker.kill()
    assert under_way >= ROUNDS, "the restarts found too little under way to prove anything"
    assert sum(delivered.values()) >= 10 * ROUNDS
    assert await service.attempts() == 0
    for item_id in items:
        # The one by which it was mirrored came first.
        assert await stack.states(item_id) == ["applied"] * (1 + delivered[item_id])
        await stack.assert_equal(item_id)
    outcomes = Counter(
        row["outcome"]
        for row in await db.fetch(
            "SELECT outcome FROM pluggy_sync.runs WHERE id > $1", synced_before
        )
    )
    assert set(outcomes) <= {"done", "released"}, outcomes
    repeats = Counter(row["syncs"] for row in await db.fetch(REPEATS))
    assert max(repeats) <= 2, repeats
    assert await asked_without_a_run(service, synced_before) == {}
    print({"events": sum(delivered.values()), "under_way": under_way, "runs": outcomes})


async def leases(db: Pool) -> int:
    found: int = await db.fetchval(
        "SELECT count(*) FROM pluggy_sync.item_leases WHERE until > now()"
    )
    return found


async def asked_without_a_run(service: Service, since: int) -> dict[str, tuple[int, int]]:
    """Items that Pluggy was asked for more often than runs say: what a lost run would leave."""
    log = (await service.stack.simulator.aget("/_simulator/requests?last=20000"))["log"]
    asked = Counter(
        entry["path"].removeprefix("/items/")
        for entry in log
        if entry["method"] == "GET" and entry["path"].startswith("/items/")
    )
    synced = {
        str(row["item_id"]): row["syncs"]
        for row in await service.db.fetch(
            "SELECT item_id, count(*) AS syncs FROM pluggy_sync.runs"
            " WHERE kind = 'sync' AND id > $1 GROUP BY item_id",
            since,
        )
    }
    return {
        item_id: (times, synced.get(item_id, 0))
        for item_id, times in asked.items()
        if times > synced.get(item_id, 0)
    }
