"""First uses in a session of Postgres are made when a worker starts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from embedded.ports import free_port
from tests.support.service import Service
from tests.support.waiting import until
from worker.entities.registry import ENTITIES, LISTINGS
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.maintenance.first_use import SESSIONS, use_sessions

NEEDED = {
    *("load_item_state", "fence", "mark_complete", "complete_transactions", "note_ids_asked"),
    *(f"load_live_{name}" for name in LISTINGS),
    *(f"load_{name}_versions" for name in ENTITIES),
    *(f"upsert_{name}" for name in ENTITIES),
    "load_transactions_hashes",
}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """As a worker opens it."""
    pool = await open_pool(database_url, max_size=SESSIONS + 1, statement_cache=100)
    yield pool
    await close_pool(pool)


async def test_sessions_have_prepared_what_syncs_need(pool: Pool) -> None:
    await use_sessions(pool)
    assert pool.get_size() == pool.get_idle_size() == SESSIONS
    async with AsyncExitStack() as taken:
        for _ in range(SESSIONS):
            conn = await taken.enter_async_context(pool.acquire())
            found = await conn.fetch("SELECT statement FROM pg_prepared_statements")
            named = {row["statement"].splitlines()[0].removeprefix("-- ") for row in found}
            assert named >= NEEDED


async def test_a_first_use_stores_nothing(pool: Pool) -> None:
    await use_sessions(pool)
    assert await pool.fetchval("SELECT count(*) FROM pluggy_sync.product_sync") == 0


async def test_a_first_use_fails_silently_where_postgres_is_away(database_url: str) -> None:
    away = await open_pool(
        f"postgresql://nobody@127.0.0.1:{free_port()}/none", max_size=5, statement_cache=100
    )
    await use_sessions(away)
    await close_pool(away)


async def test_a_worker_opens_its_sessions_at_its_start(
    service: Service, database_url: str
) -> None:
    watching = await asyncpg.connect(database_url)
    before = await sessions(watching)

    async def opened() -> bool:
        return await sessions(watching) >= before + SESSIONS

    async with service.worker():
        await until(opened, "the worker's sessions are open")
    await watching.close()


async def sessions(conn: asyncpg.Connection[asyncpg.Record]) -> int:
    """Sessions of this database, this one aside."""
    return int(
        await conn.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )
