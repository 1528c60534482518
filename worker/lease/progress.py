"""Records the outcome of a read: complete with its watermark, or deferred if it proves nothing."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Final

from worker.entities.registry import PRODUCTS
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.planner.freshness import NARROW_TTL, OVERLAP, bounded, is_narrow
from worker.planner.state import WHOLE_ITEM
from worker.store import product_sync, reconciliation

EMPTY_ANSWER = "empty_answer"
ROWS_OF_A_PAGE: Final = 500
"""Rows on Pluggy's page of /v2/transactions: an overlap of up to one page costs no extra request.
"""


async def mark_complete(
    conn: Connection,
    session: SyncSession,
    product: str,
    scope_id: uuid.UUID = WHOLE_ITEM,
    *,
    started_at: datetime | None,
    source_updated_at: datetime | None,
    watermark: datetime | None = None,
    walked_at: datetime | None = None,
    fingerprint: str | None = None,
    read_since: datetime | None = None,
    read_seq: int | None = None,
    incomplete_reason: str | None = None,
) -> None:
    """Mark a step complete in the transaction of its last page, and clear its failures.

    read_seq is the position of the read's start; None: it started in this claim. incomplete_reason:
    why its list may have more rows than were read; it answers events, and proves no absence.
    """
    read_up_to, before = bounded(watermark, started_at), None
    if product == "transactions":
        before = await product_sync.load_watermark(conn, session.item_id, scope_id)
    narrow = is_narrow(read_since, before)
    await product_sync.mark_complete(
        conn,
        session.item_id,
        product,
        scope_id,
        complete_read_at=started_at,
        source_updated_at=source_updated_at,
        watermark=before if narrow else read_up_to,
        walked_at=walked_at,
        fingerprint=fingerprint,
        read_since=read_since,
        read_seq=session.read_seq if read_seq is None else read_seq,
        incomplete_reason=incomplete_reason,
    )
    if product == "transactions":
        await reconciliation.plan_recent_read(conn, session.item_id)
        await product_sync.note_overlap(
            conn,
            session.item_id,
            scope_id,
            started_at=started_at,
            pluggy_started_at=read_up_to,
            narrow=narrow,
            walked=walked_at is not None,
            free_rows=ROWS_OF_A_PAGE if before is not None else 0,
            narrow_for=NARROW_TTL,
            overlap=OVERLAP,
        )


async def expect_first_rows(
    conn: Connection,
    session: SyncSession,
    product: str,
    scope_id: uuid.UUID = WHOLE_ITEM,
    *,
    found: bool | None = None,
) -> None:
    """After a complete list: schedule another read if it has been empty since its first read.

    found: whether it had rows; None: whether transactions of the account are stored.
    """
    declared = PRODUCTS[product]
    if declared.rechecks_first:
        await product_sync.expect_first_rows(
            conn,
            session.item_id,
            product,
            scope_id,
            found=found,
            collected_as=declared.collected_as,
        )


async def defer_step(
    conn: Connection,
    session: SyncSession,
    product: str,
    scope_id: uuid.UUID = WHOLE_ITEM,
    *,
    reason: str = EMPTY_ANSWER,
    pause: timedelta | None = None,
) -> None:
    """Defer a step until after the pause: no watermark moves, no event is settled.

    Without a pause given, it doubles with the age of the deferral, from 30 s to an hour.
    """
    await product_sync.defer_step(
        conn, session.item_id, product, scope_id, reason=reason, pause=pause
    )
    session.deferred.add((product, scope_id))
