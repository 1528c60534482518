"""A claim and its settlement cost as many blocks beside a backlog as with nothing else to do.

Postgres's statistics are those of a quiet moment, when every event was settled and no item was due:
a burst of less than a tenth of the events that are stored is not analyzed. What looks for the item
or its events by their state would read all of the backlog.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from bench.growth_rows import blocks
from tests.support.shared_database import database_from
from worker.inbox.accept import accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.store import item_state, lease

SETTLED, BACKLOG = 20_000, 2_000
LEASE: Final = timedelta(seconds=30)
ORDER: Final = 2**40
"""A lock that nobody else takes."""
QUIET: Final = (
    """
    INSERT INTO pluggy_sync.webhook_events
        (event_id, body_sha256, event, item_id, body, received_at, lane, state, settled_at)
    SELECT 'settled' || n, '', 'item/updated', md5('item' || n)::uuid, '', now(), 0, 'applied',
           now()
    FROM generate_series(1, $1::integer) AS n
    """,
    """
    INSERT INTO pluggy_sync.item_sync (item_id, generation, done_generation, lane)
    SELECT md5('item' || n)::uuid, 1, 1, 3 FROM generate_series(1, $1::integer) AS n
    """,
    """
    INSERT INTO pluggy_sync.item_leases (item_id)
    SELECT md5('item' || n)::uuid FROM generate_series(1, $1::integer) AS n
    """,
)
BURST: Final = (
    """
    INSERT INTO pluggy_sync.webhook_events
        (event_id, body_sha256, event, item_id, body, received_at, lane, state)
    SELECT 'open' || n, '', 'item/updated', md5('item' || n)::uuid, '', now(), 0, 'pending'
    FROM generate_series(1, $1::integer) AS n
    """,
    """
    UPDATE pluggy_sync.item_sync SET generation = 2, lane = 0, run_at = now()
    WHERE item_id IN (SELECT md5('item' || n)::uuid FROM generate_series(1, $1::integer) AS n)
    """,
)


@pytest.fixture
async def quiet(postgres_url: str, template: str) -> AsyncIterator[Pool]:
    """A pool of one connection, on tables that were analyzed when nothing was to be done."""
    async with database_from(template, postgres_url) as url:
        pool = await open_pool(url, max_size=1, statement_cache=100)
        try:
            for table in ("webhook_events", "item_sync", "item_leases"):
                await pool.execute(
                    f"ALTER TABLE pluggy_sync.{table} SET (autovacuum_enabled = false)"
                )
            for statement in QUIET:
                await pool.execute(statement, SETTLED)
            await pool.execute("VACUUM ANALYZE")
            await pool.execute("SET plan_cache_mode = force_generic_plan")
            yield pool
        finally:
            await close_pool(pool)


async def one_sync(db: Pool) -> dict[str, int]:
    """Blocks of each statement, of an item with two events, one of which is settled early."""
    item_id, now, costs = uuid.uuid4(), datetime.now(UTC), {}

    async def cost(name: str, since: int) -> int:
        used = await blocks(db)
        costs[name] = used - since
        return used

    await accept_events(
        db, [own_event(f"sync/{n}", item_id, lane=Lane.LIVE, now=now) for n in ("verify", "recent")]
    )
    used = await blocks(db)
    claim = await lease.claim_woken_item(db, item_id, lease_for=LEASE)
    assert claim is not None
    used = await cost("claim", used)
    state = await item_state.load_item_state(db, item_id, token=claim.token, lease_for=LEASE)
    assert state is not None
    used = await cost("load", used)
    early, late = await db.fetchval(
        "SELECT event_ids FROM pluggy_sync.runs WHERE id = $1", state.run_id
    )
    used = await blocks(db)
    assert await lease.settle_events(
        db, item_id, token=claim.token, event_ids=[early], run_id=1, visible_ats=[None]
    )
    used = await cost("early settlement", used)
    assert await lease.settle_item(
        db,
        item_id,
        token=claim.token,
        generation=state.generation,
        due_at=None,
        lane=Lane.AUDIT,
        keep_for=None,
        event_ids=[late],
        states=["applied"],
        reasons=[None],
        error_ids=[None],
        ask_again_ats=[None],
        run_id=1,
        confirmings=[None],
        confirming_sinces=[None],
        visible_ats=[None],
        lowest_lane=Lane.AUDIT,
        sets_webhook_check=False,
        webhook_check_at=None,
        run=None,
        run_order=ORDER,
    )
    await cost("settlement", used)
    return costs


async def test_a_backlog_makes_no_claim_and_no_settlement_dearer(quiet: Pool) -> None:
    for _ in range(3):
        await one_sync(quiet)
    alone = await one_sync(quiet)
    for statement in BURST:
        await quiet.execute(statement, BACKLOG)
    for _ in range(2):
        beside = await one_sync(quiet)
    assert {name: cost for name, cost in beside.items() if cost > 1.4 * alone[name] + 20} == {}
