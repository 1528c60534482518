"""A group of events costs as many blocks in a large table as in a small one, statistics or not.

A long-lived connection keeps the plan that it made while the tables were empty, until ANALYZE.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from tests.support.shared_database import database_from
from worker.inbox.accept import accept_events
from worker.inbox.events import WebhookEvent, own_event
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool, close_pool, open_pool

GROUP = 32
FEW_ROWS, ROWS = 2_000, 200_000
TABLES = ("webhook_events", "item_sync", "item_leases")
BLOCKS = """
SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
FROM pg_statio_all_tables WHERE schemaname = 'pluggy_sync' AND relname = ANY ($1)
"""
GROW = (
    """
    INSERT INTO pluggy_sync.webhook_events
        (event_id, body_sha256, event, item_id, body, received_at, lane, state, settled_at)
    SELECT gen_random_uuid(), sha256(i::text::bytea), 'item/updated', gen_random_uuid(),
           '{}', now(), 0, 'applied', now()
    FROM generate_series(1, $1::integer) AS i
    """,
    """
    INSERT INTO pluggy_sync.item_sync (item_id, generation, lane)
    SELECT gen_random_uuid(), 1, 0 FROM generate_series(1, $1::integer / 10)
    """,
    """
    INSERT INTO pluggy_sync.item_leases (item_id)
    SELECT gen_random_uuid() FROM generate_series(1, $1::integer / 10)
    """,
)


@pytest.fixture
async def one_connection(postgres_url: str, template: str) -> AsyncIterator[Pool]:
    """A pool of one connection that plans once, on tables that nothing analyzes."""
    async with database_from(template, postgres_url) as url:
        pool = await open_pool(url, max_size=1, statement_cache=100)
        try:
            for table in TABLES:
                await pool.execute(
                    f"ALTER TABLE pluggy_sync.{table} SET (autovacuum_enabled = false)"
                )
            await pool.execute("SET plan_cache_mode = force_generic_plan")
            yield pool
        finally:
            await close_pool(pool)


def group() -> list[WebhookEvent]:
    """New events of as many unknown items."""
    now = datetime.now(UTC)
    return [own_event("sync/verify", uuid.uuid4(), lane=Lane.LIVE, now=now) for _ in range(GROUP)]


async def blocks_of(db: Pool, events: Sequence[WebhookEvent]) -> int:
    """How many blocks of the tables and their indexes a group reads or finds in memory."""
    before = await counted(db)
    await accept_events(db, events)
    return await counted(db) - before


async def counted(db: Pool) -> int:
    await db.execute("SELECT pg_stat_force_next_flush()")
    return int(await db.fetchval(BLOCKS, list(TABLES)))


async def grow(db: Pool, events: int) -> None:
    for statement in GROW:
        await db.execute(statement, events, timeout=120)


async def test_a_plan_made_on_empty_tables_stays_cheap(one_connection: Pool) -> None:
    db, known = one_connection, group()
    for _ in range(3):
        await accept_events(db, group())
    await accept_events(db, known)
    # The first page of an index is its only one: a table of few events costs less.
    await grow(db, FEW_ROWS)
    small, small_known = await blocks_of(db, group()), await blocks_of(db, known)
    await grow(db, ROWS)
    assert await blocks_of(db, group()) < 1.15 * small
    # Looked up twice in one index, which is a level deeper.
    assert await blocks_of(db, known) <= small_known + 2 * GROUP
