"""The page of a delta costs as many blocks in a large account as in a small one, statistics or not.

But for the depth of indexes: each look-up reads a page more for a level more.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from bench.growth_rows import FILL, Account, blocks
from bench.pages import OURS, open_session
from tests.support.shared_database import database_from
from worker.infra.postgres import Pool, close_pool, open_pool

ACCOUNT: Final = uuid.UUID(int=7)
FEW_ROWS, ROWS = 2_000, 12_000
ROUNDS: Final = 3
MORE: Final = FILL.replace("generate_series(1, $3", "generate_series($4::integer, $3")
"""Rows so many to so many."""
SINCE: Final = datetime(2026, 1, 2, tzinfo=UTC)


def raw(number: int) -> bytes:
    """A row as Pluggy writes it."""
    at = (SINCE + timedelta(seconds=number)).isoformat(timespec="milliseconds")
    row = {
        "id": str(uuid.UUID(int=number)),
        "accountId": str(ACCOUNT),
        "description": f"PIX {number}",
        "amount": -10.5,
        "date": at,
        "type": "DEBIT",
        "createdAt": at,
        "updatedAt": at,
    }
    return json.dumps(row, separators=(",", ":")).encode()


@pytest.fixture
async def one_connection(postgres_url: str, template: str) -> AsyncIterator[Pool]:
    """A pool of one connection that plans once, on tables that nothing analyzes."""
    async with database_from(template, postgres_url) as url:
        pool = await open_pool(url, max_size=1, statement_cache=100)
        try:
            await pool.execute("ALTER TABLE pluggy.transactions SET (autovacuum_enabled = false)")
            await pool.execute("SET plan_cache_mode = force_generic_plan")
            yield pool
        finally:
            await close_pool(pool)


async def blocks_of(db: Pool, account: Account, *rounds: int) -> float:
    """Of a page, when so many are stored."""
    before = await blocks(db)
    for round_ in rounds:
        await account.store(round_)
    return (await blocks(db) - before) / len(rounds)


async def test_a_page_of_a_delta_costs_no_more_in_a_large_account(one_connection: Pool) -> None:
    db = one_connection
    session = await open_session(db, None)
    account = Account(0, ACCOUNT, session, [raw(n) for n in range(1, 200)], pid=0)
    for round_ in range(ROUNDS):
        await account.store(round_)
    await db.execute(MORE, OURS, ACCOUNT, FEW_ROWS, 1)
    small = await blocks_of(db, account, 4, 5, 6)
    await db.execute(MORE, OURS, ACCOUNT, ROWS, FEW_ROWS + 1)
    large = await blocks_of(db, account, 8, 9, 10)
    # Each look-up in an index reads a level more at most.
    assert large < 1.4 * small
