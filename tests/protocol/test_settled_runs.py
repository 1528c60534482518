"""A settlement closes its claim's run: both at once, under the lease; no receiver waits."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

import pytest

from tests.protocol.test_protocol import (
    WAITING,
    by_settlement,
    claimed,
    feed,
    let_lapse,
    running,
    stopping,
    worker,
)
from tests.support.interleaving import Actor
from tests.support.stack import now
from tests.support.waiting import until
from worker.engine.job import Worker
from worker.inbox.accept import accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.lease.lease import LeaseLost
from worker.lease.runs import RUN_SEQ_LOCK

__all__ = ["worker"]

EVENT_STATES = "SELECT array_agg(state) FROM pluggy_sync.webhook_events"
OPEN_RUNS = "SELECT count(*) FROM pluggy_sync.runs WHERE seq IS NULL OR finished_at IS NULL"
WRITERS = """
SELECT array_agg(DISTINCT by::text)
FROM (SELECT xmin AS by FROM pluggy_sync.runs
      UNION ALL SELECT xmin FROM pluggy_sync.webhook_events
      UNION ALL SELECT xmin FROM pluggy_sync.item_sync
      UNION ALL SELECT xmin FROM pluggy_sync.item_leases) AS written
"""


async def test_a_run_is_closed_by_the_transaction_that_settles_its_events(
    db: Pool, worker: Worker
) -> None:
    session = await running(db, worker)
    run = session.run
    run.plan.append("item")
    run.counts.seen, run.counts.inserted = 3, 2
    run.note_odd("request-1")
    session.pluggy.requests = 4
    await by_settlement(session)
    assert session.run_to_close() is None
    assert len(await db.fetchval(WRITERS)) == 1
    row = await db.fetchrow("SELECT * FROM pluggy_sync.runs")
    assert row is not None
    assert (row["id"], row["outcome"], row["plan"]) == (run.id, "done", '["item"]')
    assert (row["seen"], row["inserted"], row["changed"]) == (3, 2, 0)
    assert (row["api_requests"], row["error_id"]) == (4, "request-1")
    assert row["finished_at"] > row["started_at"]


async def test_a_settlement_without_the_lease_leaves_the_run_to_the_next_claim(
    db: Pool, worker: Worker
) -> None:
    late = await running(db, worker)
    await let_lapse(db)
    lease = await worker.claim(None)
    assert lease is not None
    with pytest.raises(LeaseLost):
        await by_settlement(late)
    assert await feed(db, 0) == []
    assert await db.fetchval(EVENT_STATES) == ["pending"]
    session = await worker.engine._begin(lease)
    assert [run["outcome"] for run in await feed(db, 0)] == ["lost"]
    await by_settlement(session)
    assert [run["outcome"] for run in await feed(db, 0)] == ["lost"], "a run is closed once"


@pytest.mark.parametrize(
    ("committed", "left"), [(False, (["pending"], 1)), (True, (["applied"], 0))]
)
async def test_a_worker_that_dies_at_its_settlement_leaves_both_or_neither(
    database_url: str, db: Pool, committed: bool, left: tuple[list[str], int]
) -> None:
    """Neither: the next claim closes the run and settles the event."""
    async with stopping(database_url) as (control, pool, worker):
        actor = Actor("worker", control)
        await actor.begin(by_settlement(await running(pool, worker)))
        while actor.at != "settle_item":
            await actor.advance()
        if committed:
            await actor.advance()
        await actor.kill()
        assert (await control.fetchval(EVENT_STATES), await control.fetchval(OPEN_RUNS)) == left
        await control.execute("UPDATE pluggy_sync.item_leases SET until = '-infinity'")
        if not committed:
            await by_settlement(await claimed(worker))
        assert (await control.fetchval(EVENT_STATES), await control.fetchval(OPEN_RUNS)) == (
            ["applied"],
            0,
        )


@pytest.mark.parametrize("again", [True, False])
async def test_no_receiver_waits_for_the_order_of_runs(
    db: Pool, worker: Worker, again: bool
) -> None:
    """Nothing that a delivery may need is locked by a settlement that waits.

    again: the event is delivered again while it is settled; else a new one bumps the same item.
    """
    event = own_event("sync/verify", uuid.uuid4(), lane=Lane.LIVE, now=now())
    await accept_events(db, [event])
    session = await claimed(worker)
    await session.open_run("sync")
    if not again:
        assert event.item_id is not None
        event = own_event("sync/verify", event.item_id, lane=Lane.LIVE, now=now())
    async with db.acquire() as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", RUN_SEQ_LOCK)
        settling = asyncio.create_task(by_settlement(session))
        await until(partial(waiting, db, 1), "the settlement waits")
        accepting = asyncio.create_task(accept_events(db, [event]))
        await until(partial(waiting_or_done, db, accepting), "the receiver waits or is done")
        assert accepting.done()
    await settling
    assert await db.fetchval(OPEN_RUNS) == 0


async def waiting(db: Pool, sessions: int) -> bool:
    return bool(await db.fetchval(WAITING) == sessions)


async def waiting_or_done(db: Pool, task: asyncio.Task[object]) -> bool:
    return task.done() or await waiting(db, 2)
