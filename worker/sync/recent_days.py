"""The last days of an account, read again once a day: what a lost event has left behind.

Nominates nothing and moves no watermark: rows are listed by their date, and old ones are not.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time
from typing import Final

from worker.infra.lanes import Lane
from worker.infra.postgres import Connection
from worker.infra.queries import QUERIES
from worker.lease.lease import Claim
from worker.planner.steps import ReadRecent
from worker.sync.entities.transactions import put_off, store_page, witnessed

RECENT: Final = "recent"


async def sync_recent(claim: Claim, step: ReadRecent) -> None:
    """Read one page; more of them go on as a walk. Raises PluggyError, FencedOff."""
    started_at = claim.now
    page = await claim.pluggy.transactions(step.account_id, date_from=step.date_from)
    if not page.rows and page.next is None and await _proves_nothing(claim, step):
        await put_off(claim, step.account_id)
        return
    async with claim.page() as conn:
        await store_page(conn, claim, step.account_id, page)
        if page.next is None:
            await stamp_recent(conn, claim, step.account_id, started_at, claim.read_seq)
            return
        await conn.execute(
            QUERIES["start_walk"],
            claim.item_id,
            step.account_id,
            RECENT,
            int(Lane.RETRY),
            False,
            None,
            page.next,
            started_at,
            page.pluggy_now,
            1,
            len(page.rows),
            False,
            datetime.combine(step.date_from, time.min, UTC),
            claim.read_seq,
        )


async def stamp_recent(
    conn: Connection,
    claim: Claim,
    account_id: uuid.UUID,
    started_at: datetime | None,
    read_seq: int | None,
) -> None:
    """Remember the read in the transaction of its last page."""
    await conn.execute(QUERIES["stamp_recent"], claim.item_id, account_id, started_at, read_seq)
    await conn.execute(QUERIES["plan_reread"], claim.item_id)


async def _proves_nothing(claim: Claim, step: ReadRecent) -> bool:
    """Whether an empty answer needs a witness, and there is none."""
    expects_rows = await claim.db.fetchval(
        QUERIES["holds_rows_dated_since"], claim.item_id, step.account_id, step.date_from
    )
    return bool(expects_rows) and not await witnessed(claim, step.account_id, suspicious=True)
