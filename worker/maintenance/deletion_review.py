"""A person's decisions on pending deletions: tombstone these rows, or keep them.

A decision takes one transaction, which locks the item's lease row. Every page of a sync begins by
writing that row, so a decision and a page never interleave, a sync under way continues, and the
decision is visible at once. A sync ends only if an account is tombstoned, which it may be reading.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.entities.accounts import ENTITY as ACCOUNTS
from worker.infra.postgres import Connection, Pool
from worker.lease.runs import Run, run_of_its_own
from worker.store import deletions
from worker.sync.tombstones import tombstone_row


@dataclass(frozen=True, slots=True)
class Decided:
    """The rows of one item that a decision changed; the run is its place in the feed."""

    item_id: uuid.UUID
    run_id: int
    transaction_ids: tuple[uuid.UUID, ...]
    account_ids: tuple[uuid.UUID, ...] = ()


async def accept_deletions(
    db: Pool,
    *,
    item_id: uuid.UUID | None = None,
    transaction_ids: Sequence[uuid.UUID] | None = None,
) -> list[Decided]:
    """Tombstone pending deletions: those of an item, those named, or both. One run an item.

    transaction_ids may include ids of accounts; their transactions and bills are tombstoned
    too.

    Ids that are not (or no longer) pending are ignored: a row that came back stays. Raises
    ValueError if neither is given, asyncpg.LockNotAvailableError if a page takes over ten seconds;
    items decided by then stay decided.
    """
    return await _decide(db, item_id, transaction_ids, accepts=True)


async def refuse_deletions(
    db: Pool,
    *,
    item_id: uuid.UUID | None = None,
    transaction_ids: Sequence[uuid.UUID] | None = None,
) -> list[Decided]:
    """Keep these rows; otherwise as accept_deletions.

    The refusal is remembered: until Pluggy has shown such a row again, its absence neither
    tombstones it nor makes it pending, whatever event names it.
    """
    return await _decide(db, item_id, transaction_ids, accepts=False)


async def _decide(
    db: Pool,
    item_id: uuid.UUID | None,
    transaction_ids: Sequence[uuid.UUID] | None,
    *,
    accepts: bool,
) -> list[Decided]:
    if item_id is None and transaction_ids is None:
        raise ValueError("name an item or transactions")
    ids = None if transaction_ids is None else list(transaction_ids)
    found = await deletions.load_items_with_deletions(db, item_id, ids=ids)
    decided: list[Decided] = []
    for found_id in found:
        async with db.acquire() as conn, conn.transaction():
            done = await _decide_item(conn, found_id, ids, accepts=accepts)
        if accepts and done and done.account_ids:
            await deletions.make_due(db, found_id)
        decided += [done] if done else []
    return decided


async def _decide_item(
    conn: Connection, item_id: uuid.UUID, ids: list[uuid.UUID] | None, *, accepts: bool
) -> Decided | None:
    """Decide about one item in the caller's transaction; None if nothing is pending any more."""
    await deletions.lock_lease(conn, item_id)
    now = await conn.fetchval("SELECT clock_timestamp()")
    # Loaded after the lock: the page that held it may have shown the rows.
    rows = await deletions.load_transaction_deletions(conn, item_id, ids=ids)
    accounts = await deletions.load_account_deletions(conn, item_id, ids=ids)
    if not rows and not accounts:
        return None
    async with run_of_its_own(conn, "deletion_review", item_id=item_id) as run:
        run.plan = ["accept_deletions" if accepts else "refuse_deletions"]
        run.counts.seen = len(rows) + len(accounts)
        await (_accept if accepts else _refuse)(conn, item_id, rows, accounts, run, now)
    return Decided(item_id, run.id, tuple(rows), tuple(accounts))


Ids = list[uuid.UUID]


async def _accept(
    conn: Connection, item_id: uuid.UUID, rows: Ids, accounts: Ids, run: Run, now: datetime
) -> None:
    """Tombstone rows, and accounts with all that they own."""
    await deletions.accept_transaction_deletions(conn, item_id, ids=rows, run_id=run.id, now=now)
    run.counts.deleted = len(rows)
    for account_id in accounts:
        run.counts.deleted += await tombstone_row(
            conn, ACCOUNTS, item_id, account_id, run_id=run.id, now=now
        )
    if accounts:
        await deletions.end_claim(conn, item_id)


async def _refuse(
    conn: Connection, item_id: uuid.UUID, rows: Ids, accounts: Ids, run: Run, now: datetime
) -> None:
    await deletions.refuse_transaction_deletions(conn, item_id, ids=rows, run_id=run.id, now=now)
    await deletions.refuse_account_deletions(conn, item_id, ids=accounts, run_id=run.id, now=now)
    run.counts.changed = len(rows) + len(accounts)
