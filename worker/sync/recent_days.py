"""The daily recent read: the last 14 days of an account, which finds rows of lost webhooks.

It finds no deletion candidates and moves no watermark: rows are listed by date, not by creation.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time
from typing import Final

from worker.infra.lanes import Lane
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.planner.steps import ReadRecent
from worker.store import account_walks, reconciliation
from worker.sync.transactions import deferred, store_page, witnessed

RECENT: Final = "recent"


async def sync_recent(session: SyncSession, step: ReadRecent) -> None:
    """Read the first page; further pages are read as a walk. Raises PluggyError, LeaseLost."""
    started_at = session.now
    page = await session.pluggy.transactions(step.account_id, date_from=step.date_from)
    if not page.rows and page.next is None and await _proves_nothing(session, step):
        await deferred(session, step.account_id)
        return
    async with session.page() as conn:
        await store_page(conn, session, step.account_id, page)
        if page.next is None:
            await mark_recent_complete(conn, session, step.account_id, started_at, session.read_seq)
            return
        await account_walks.start_walk(
            conn,
            session.item_id,
            step.account_id,
            kind=RECENT,
            lane=int(Lane.RETRY),
            next=page.next,
            started_at=started_at,
            pluggy_started_at=page.pluggy_now,
            pages=1,
            rows_seen=len(page.rows),
            read_since=datetime.combine(step.date_from, time.min, UTC),
            read_seq=session.read_seq,
        )


async def mark_recent_complete(
    conn: Connection,
    session: SyncSession,
    account_id: uuid.UUID,
    started_at: datetime | None,
    read_seq: int | None,
) -> None:
    """Record the read in the transaction of its last page."""
    await reconciliation.mark_recent_complete(
        conn, session.item_id, account_id, started_at=started_at, read_seq=read_seq
    )
    await reconciliation.plan_recent_read(conn, session.item_id)


async def _proves_nothing(session: SyncSession, step: ReadRecent) -> bool:
    """Whether an empty answer needs a witness and has none."""
    expects_rows = await reconciliation.holds_rows_dated_since(
        session.db, session.item_id, step.account_id, day=step.date_from
    )
    return bool(expects_rows) and not await witnessed(session, step.account_id, suspicious=True)
