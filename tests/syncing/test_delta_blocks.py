"""What an event asks costs as many blocks in a large account as in a small one.

But for the depth of indexes: each look-up reads a page more for a level more. The page of a delta
is stored without statistics. With those of many items Postgres takes an item's account for one row,
because it knows the columns apart: it reads the whole account, unless a statement leaves no choice.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import pytest

from bench.growth_rows import FILL, Account, blocks
from bench.pages import OURS, open_session
from tests.support.shared_database import database_from
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.lease.progress import Read
from worker.store import account_walks, id_progress, reconciliation, restatements
from worker.store.entities import transactions
from worker.sync.deletions import ONE_IN

ACCOUNT: Final = uuid.UUID(int=7)
FEW_ROWS, ROWS = 2_000, 12_000
ROUNDS: Final = 3
MORE: Final = FILL.replace("generate_series(1, $3", "generate_series($4::integer, $3")
"""Rows so many to so many."""
IMPORT: Final = MORE.replace("at, at, '{", "timestamptz '2026-01-02', at, '{")
"""Rows of a first import share one createdAt, and the index of it is smaller than any other."""
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


OTHERS: Final = """
INSERT INTO pluggy.transactions (item_id, id, account_id, currency_code, amount, date, posted_on,
    source_created_at, payload, row_hash, row_version, run_id)
SELECT md5('item' || n)::uuid, md5(n || 'row' || r)::uuid, md5('account' || n)::uuid, 'BRL', r,
       now(), current_date, now(), '{}', '\\x00', 1, 1
FROM generate_series(1, $1::integer) AS n, generate_series(1, 5) AS r
"""
"""Of so many accounts that have few rows."""
ITS_ACCOUNT: Final = """
INSERT INTO pluggy.accounts (item_id, id, payload, row_hash, row_version, run_id)
VALUES ($1, $2, '{}', '\\x00', 1, 1)
"""
EVENT: Final = """
INSERT INTO pluggy_sync.webhook_events
    (event_id, body_sha256, event, body, received_at, lane, state, transaction_ids)
VALUES ('named', '', 'transactions/deleted', '', now(), 0, 'applied', $1) RETURNING id
"""
IDS: Final = [uuid.UUID(hashlib.md5(b"%d" % n).hexdigest()) for n in range(1, 4)]  # noqa: S324
Asked: TypeAlias = Callable[[Any, int], Awaitable[object]]
QUESTIONS: Final[dict[str, Asked]] = {
    "the end of a read": lambda session, _: Read.begin(
        session, "transactions", ACCOUNT
    ).complete_transactions(session.db, pluggy_started_at=session.now, since=None),
    "the witnesses of a question": lambda session, event: transactions.load_witnesses(
        session.db, OURS, ACCOUNT, suspected=IDS, asked=IDS, event_ids=[event]
    ),
    "the rows that an event names": lambda session, event: id_progress.count_named_rows(
        session.db, OURS, ACCOUNT, event_ids=[event], absent=IDS, asked=[]
    ),
    "absent rows": lambda session, _: transactions.load_absent_rows(
        session.db, OURS, ACCOUNT, ids=IDS
    ),
    "the limit of deletions": lambda session, _: transactions.count_deletions(
        session.db, OURS, ACCOUNT, since=SINCE, absent=len(IDS), one_in=ONE_IN
    ),
    "tombstones": lambda session, _: transactions.tombstone_transactions(
        session.db, OURS, ACCOUNT, ids=IDS, run_id=1, cause="named", now=SINCE
    ),
    "pending deletions": lambda session, _: transactions.mark_transaction_deletions(
        session.db,
        OURS,
        ACCOUNT,
        ids=IDS,
        run_id=1,
        reason="no_witness",
        cause="named",
        now=SINCE,
        waiting=[],
    ),
    "rows that a delta must list": lambda session, _: transactions.holds_rows_created_since(
        session.db, OURS, ACCOUNT, since=session.now
    ),
    "rows that a read by date must list": lambda session, _: reconciliation.holds_rows_dated_since(
        session.db, OURS, ACCOUNT, day=session.now.date() + timedelta(days=1)
    ),
    "rows that a walk has to outnumber": lambda session, _: account_walks.count_rows_known(
        session.db, OURS, ACCOUNT, limit=100
    ),
    "deleted rows that may be restated": lambda session, _: restatements.load_deleted(
        session.db, OURS, deleted_after=SINCE, limit=100
    ),
}


# Of others so many that the index that is not to be used is no deeper than the other.
@pytest.mark.parametrize(
    ("fill", "others"), [(MORE, 3000), (IMPORT, 4000)], ids=["new", "imported"]
)
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
async def test_a_question_about_rows_costs_no_more_in_a_large_account(
    one_connection: Pool, question: Asked, fill: str, others: int
) -> None:
    db = one_connection
    session = await open_session(db, None)
    await db.execute(OTHERS, others)
    await db.execute(ITS_ACCOUNT, OURS, ACCOUNT)
    await db.execute(fill, OURS, ACCOUNT, FEW_ROWS, 1)
    event = await db.fetchval(EVENT, IDS)
    await db.execute("ANALYZE")
    await blocks(db)  # reads catalogs

    async def cost() -> int:
        await question(session, event)
        before = await blocks(db)
        await question(session, event)
        return await blocks(db) - before

    small = await cost()
    await db.execute(fill, OURS, ACCOUNT, ROWS, FEW_ROWS + 1)
    assert await cost() < 1.4 * small + 10
