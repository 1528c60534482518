"""A person's decisions on rows flagged as deleted: tombstone them, or keep them.

A decision takes one transaction, which locks the item's lease row. Every page of a sync begins by
writing that row, so a decision and a page never interleave, a sync under way continues, and the
decision is visible at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from worker.infra.postgres import Connection, Pool
from worker.infra.queries import QUERIES
from worker.lease.runs import run_of_its_own


@dataclass(frozen=True, slots=True)
class Decided:
    """The rows of one item that a decision changed; the run is its place in the feed."""

    item_id: uuid.UUID
    run_id: int
    transaction_ids: tuple[uuid.UUID, ...]
    account_ids: tuple[uuid.UUID, ...] = ()


async def list_deletions(
    db: Pool, *, item_id: uuid.UUID | None = None, limit: int | None = None
) -> list[asyncpg.Record]:
    """Flagged rows with their reasons, oldest flag first: pluggy_ops.flagged_deletions."""
    return await db.fetch(QUERIES["list_flagged_deletions"], item_id, limit)


async def accept_deletions(
    db: Pool,
    *,
    item_id: uuid.UUID | None = None,
    transaction_ids: Sequence[uuid.UUID] | None = None,
) -> list[Decided]:
    """Tombstone flagged rows: those of an item, those named, or both. One run an item.

    transaction_ids may include ids of flagged accounts; their transactions and bills are tombstoned
    too.

    Ids that are not (or no longer) flagged are ignored: a row that came back stays. Raises
    ValueError if neither is given, asyncpg.LockNotAvailableError if a page takes over ten seconds;
    items decided by then stay decided.
    """
    return await _decide(db, "accept_flagged", item_id, transaction_ids)


async def refuse_deletions(
    db: Pool,
    *,
    item_id: uuid.UUID | None = None,
    transaction_ids: Sequence[uuid.UUID] | None = None,
) -> list[Decided]:
    """Keep flagged rows; otherwise as accept_flags.

    The refusal is remembered: until Pluggy has shown such a row again, its absence neither
    tombstones nor flags it, whatever event names it.
    """
    return await _decide(db, "refuse_flagged", item_id, transaction_ids)


async def _decide(
    db: Pool, query: str, item_id: uuid.UUID | None, transaction_ids: Sequence[uuid.UUID] | None
) -> list[Decided]:
    if item_id is None and transaction_ids is None:
        raise ValueError("name an item or transactions")
    ids = None if transaction_ids is None else list(transaction_ids)
    found = await db.fetch(QUERIES["load_flagged_items"], item_id, ids)
    decided: list[Decided] = []
    for record in found:
        async with db.acquire() as conn, conn.transaction():
            done = await _decide_item(conn, query, record["item_id"], ids)
        decided += [done] if done else []
    return decided


async def _decide_item(
    conn: Connection, query: str, item_id: uuid.UUID, ids: list[uuid.UUID] | None
) -> Decided | None:
    """Decide about one item in the caller's transaction; None if nothing is flagged any more."""
    await conn.execute(QUERIES["lock_lease"], item_id)
    now = await conn.fetchval("SELECT clock_timestamp()")
    # Loaded after the lock: the page that held it may have shown the rows.
    rows = await _load(conn, "load_flagged", item_id, ids)
    accounts = await _load(conn, "load_flagged_accounts", item_id, ids)
    if not rows and not accounts:
        return None
    async with run_of_its_own(conn, "flag", item_id=item_id) as run:
        if rows:
            await conn.execute(QUERIES[query], item_id, rows, run.id, now)
        written = len(rows) + await _decide_accounts(conn, query, item_id, accounts, run.id, now)
        run.counts.seen = len(rows) + len(accounts)
        if query == "accept_flagged":
            run.counts.deleted = written
        else:
            run.counts.changed = written
        run.plan = [query]
    return Decided(item_id, run.id, tuple(rows), tuple(accounts))


async def _load(
    conn: Connection, query: str, item_id: uuid.UUID, ids: list[uuid.UUID] | None
) -> list[uuid.UUID]:
    return [record["id"] for record in await conn.fetch(QUERIES[query], item_id, ids)]


async def _decide_accounts(
    conn: Connection,
    query: str,
    item_id: uuid.UUID,
    accounts: Sequence[uuid.UUID],
    run_id: int,
    now: datetime,
) -> int:
    """Decide about accounts; accept includes their rows. Returns how many rows were written."""
    if query != "accept_flagged":
        refused = [item_id, list(accounts), run_id, now]
        await conn.execute(QUERIES["refuse_flagged_accounts"], *refused)
        return len(accounts)
    return sum(
        [
            await conn.fetchval(QUERIES["tombstone_accounts"], item_id, account_id, run_id, now)
            for account_id in accounts
        ]
    )
