"""Investment transactions: a complete list by investment; Pluggy has no GET by id for them.

A row missing from a complete, non-empty list is a deletion candidate; it is tombstoned when a
second such list leaves it out too.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import partial
from typing import Final

from worker.entities.investment_transactions import ENTITY
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.lease.progress import Read
from worker.planner.steps import ReadInvestmentTransactions
from worker.store.entities import investment_transactions
from worker.sync.page_rows import Listed, read_rows
from worker.sync.store_rows import are_stored, by_number, in_page, store_rows

PRODUCT: Final = "investment_transactions"
ASK_AGAIN_AFTER: Final = timedelta(minutes=5)
MISSING_ROWS: Final = "missing_rows"


async def sync_investment_transactions(
    session: SyncSession, step: ReadInvestmentTransactions
) -> None:
    """Read the movements of one investment. Raises PluggyError, LeaseLost."""
    read = Read.begin(session, PRODUCT, step.investment_id, step.source_updated_at)
    page = await session.pluggy.rows(f"/investments/{step.investment_id}/transactions")
    rows, rejected = await read_rows(page.rows, owner_key="investmentId", owner=step.investment_id)
    found = await investment_transactions.load_live_investment_transactions(
        session.db, session.item_id, step.investment_id
    )
    versions = by_number(found)
    stored = {version.id for version in found}
    listed = Listed(rows, rejected).among(stored)
    missing = stored - listed if page.is_complete else set()
    known = bool(rows) and not rejected and len(rows) == len(listed)
    complete = partial(
        read.complete,
        fingerprint=step.fingerprint,
        incomplete_reason=page.incomplete_reason,
        fences=True,
    )
    if known and not missing and are_stored(session, ENTITY, rows, versions):
        await complete(session.db, found=True)
        return
    proves_nothing = bool(stored) and not page.rows

    async def write(conn: Connection) -> None:
        if proves_nothing:
            await read.defer(conn)
            return
        owner = step.investment_id
        await store_rows(
            conn,
            session,
            ENTITY,
            rows,
            rejected,
            scope_id=owner,
            owner_columns={"investment_id": owner},
            stored=versions if known else None,
        )
        if not missing:
            return
        if await _doubt(conn, session, step.investment_id, missing):
            await read.defer(conn, reason=MISSING_ROWS, pause=ASK_AGAIN_AFTER)
        else:
            await complete(conn)

    completes = not proves_nothing and not missing
    await in_page(session, write, fence=complete if completes else None)


async def _doubt(
    conn: Connection, session: SyncSession, investment_id: uuid.UUID, missing: set[uuid.UUID]
) -> bool:
    """Tombstone rows missing from two lists; returns whether some are newly missing."""
    proven = await investment_transactions.doubt_investment_transactions(
        conn, session.item_id, investment_id=investment_id, ids=sorted(missing), now=session.now
    )
    tombstoned = await investment_transactions.tombstone_investment_transactions(
        conn, session.item_id, ids=proven, run_id=session.run.id, now=session.now
    )
    session.run.counts.deleted += len(tombstoned)
    return len(proven) < len(missing)
