"""Transactions: how a page is stored, and the delta since an account's watermark."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from worker.entities.transactions import ENTITY
from worker.infra.lanes import Lane
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.lease.progress import Read
from worker.planner.steps import ReadDelta
from worker.pluggy_api.endpoints import Page
from worker.pluggy_api.errors import CursorRefused, PluggyNotFound
from worker.pluggy_api.paging import with_restarts
from worker.pluggy_api.tickets import since_ticket
from worker.store import account_walks, product_sync, reconciliation
from worker.store.entities import transactions
from worker.sync.deletions import Question
from worker.sync.page_rows import Listed, Rejected, Row, read_rows
from worker.sync.store_rows import Versions, are_stored, in_page, load_stored, store_rows

PRODUCT: Final = "transactions"
MAX_DELTA_PAGES: Final = 10
DELTA_TIMEOUT_S: Final = 15.0
"""A longer delta continues as a walk, page by page: a plan has to end soon."""
MIN_EMPTY_AGE: Final = timedelta(minutes=5)
"""An account without rows is believed to be empty after so long: rows may follow their event."""


async def store_page(
    conn: Connection, session: SyncSession, account_id: uuid.UUID, page: Page
) -> Listed:
    """Store a page of an account's rows; returns the rows that it listed.

    Raises PluggyUnavailable if a row is another account's.
    """
    before = session.run.counts.inserted
    listed = await store_listed(conn, session, account_id, page)
    if session.run.counts.inserted > before:
        # A new row may serve as the witness that the account lacked.
        await reconciliation.hurry_deletions(conn, session.item_id, account_id, now=session.now)
    return listed


async def store_listed(
    conn: Connection, session: SyncSession, account_id: uuid.UUID, page: Page
) -> Listed:
    """As store_page(); if rows are new, the caller has to hurry deletions that lacked a witness."""
    return await _store(conn, session, account_id, *await _rows_of(page, account_id))


async def _rows_of(page: Page, account_id: uuid.UUID) -> tuple[list[Row], list[Rejected]]:
    return await read_rows(page.rows, owner_key="accountId", owner=account_id)


async def _store(
    conn: Connection,
    session: SyncSession,
    account_id: uuid.UUID,
    rows: Sequence[Row],
    rejected: Sequence[Rejected],
    stored: Versions | None = None,
) -> Listed:
    unkept = await store_rows(
        conn, session, ENTITY, rows, rejected, scope_id=account_id, stored=stored
    )
    listed = Listed(rows, rejected)
    if session.has_absent and listed.ids:
        # Nothing else records that an unchanged row was shown.
        shown = list(listed.ids)
        await account_walks.delete_absent(conn, session.item_id, account_id, shown=shown)
    if unkept:
        await _unmark(conn, session, account_id, unkept)
    return listed


async def _unmark(
    conn: Connection, session: SyncSession, account_id: uuid.UUID, shown: Collection[uuid.UUID]
) -> None:
    """End the pending deletions of rows that an answer showed but that were not stored from it.

    These are unreadable rows, and rows that the answer shows older than they are stored.
    """
    returned = await transactions.unmark_transaction_deletions(
        conn, session.item_id, account_id, shown=list(shown), run_id=session.run.id, now=session.now
    )
    session.run.counts.changed += len(returned)
    session.run.counts.mapped_again += len(returned)


async def sync_delta(session: SyncSession, step: ReadDelta) -> None:
    """Read rows created since the watermark, which moves in the transaction of the last page.

    A refused cursor restarts the read. Raises PluggyError, LeaseLost.
    """
    began = asyncio.get_running_loop().time()
    await with_restarts(lambda: _read_delta(session, step, began))


async def _read_delta(session: SyncSession, step: ReadDelta, began: float) -> None:
    read = Read.begin(session, PRODUCT, step.account_id, step.source_updated_at)
    clock = asyncio.get_running_loop().time
    page = await session.pluggy.transactions(step.account_id, created_at_from=step.created_at_from)
    pluggy_started_at, pages, rows_seen = page.pluggy_now, 1, 0
    cursors: set[str] = set()
    while page.next is not None:
        if page.next in cursors:
            raise CursorRefused("cursor_repeated")
        cursors.add(page.next)
        rows_seen += len(page.rows)
        async with session.page() as conn:
            await store_page(conn, session, step.account_id, page)
            if pages >= MAX_DELTA_PAGES or clock() > since_ticket(began) + DELTA_TIMEOUT_S:
                await account_walks.start_walk(
                    conn,
                    session.item_id,
                    step.account_id,
                    kind="delta",
                    lane=int(Lane.RETRY),
                    source_updated_at=step.source_updated_at,
                    next=page.next,
                    started_at=read.started_at,
                    pluggy_started_at=pluggy_started_at,
                    pages=pages,
                    rows_seen=rows_seen,
                    read_since=step.created_at_from,
                    read_seq=read.read_seq,
                )
                return
        page = await session.pluggy.next_transactions(page.next)
        pages += 1
    if not page.rows and not await _is_believed(session, step, is_only_page=pages == 1):
        await deferred(session, step.account_id)
        return
    await _store_last_page(session, step, read, page, pluggy_started_at)


async def _is_believed(session: SyncSession, step: ReadDelta, *, is_only_page: bool) -> bool:
    """Whether an empty last page contradicts nothing, or has a witness."""
    suspicious = not is_only_page or await transactions.holds_rows_created_since(
        session.db, session.item_id, step.account_id, since=step.created_at_from
    )
    if not suspicious and not step.expects_rows:
        return True
    return await witnessed(session, step.account_id, suspicious=suspicious)


async def _store_last_page(
    session: SyncSession, step: ReadDelta, read: Read, page: Page, pluggy_started_at: datetime
) -> None:
    """Store the page and complete the read: one statement if all of its rows are stored."""
    rows, rejected = await _rows_of(page, step.account_id)
    stored = await load_stored(session.db, session, ENTITY, rows)
    complete = partial(
        read.complete_transactions, pluggy_started_at=pluggy_started_at, since=step.created_at_from
    )
    shows_absent = rows and session.has_absent
    if not (rejected or shows_absent) and are_stored(session, ENTITY, rows, stored):
        await complete(session.db, fences=True)
        return

    async def write(conn: Connection) -> None:
        before = session.run.counts.inserted
        await _store(conn, session, step.account_id, rows, rejected, stored)
        await complete(conn, has_new_rows=session.run.counts.inserted > before)

    await in_page(session, write)


async def witnessed(session: SyncSession, account_id: uuid.UUID, *, suspicious: bool) -> bool:
    """Whether a stored live row comes back by id, which proves that the empty answer is right.

    An account without such a row has nothing to lose: then the account itself is the witness, but
    only after the answer has been empty for some time, for rows may show up after their event. An
    answer that only an event contradicts is rechecked for it (see planner/confirmations.py).
    """
    question = await Question.about(session, account_id, ())
    if not question.witnesses:
        return not suspicious or await _lives_without_rows(session, account_id)
    page = await session.pluggy.transactions(account_id, ids=question.witnesses)
    async with session.page() as conn:
        listed = await store_page(conn, session, account_id, page)
    return bool(listed.ids.intersection(question.witnesses))


async def _lives_without_rows(session: SyncSession, account_id: uuid.UUID) -> bool:
    empty_for_long = await product_sync.is_deferred_for(
        session.db, session.item_id, PRODUCT, account_id, how_long=MIN_EMPTY_AGE
    )
    return bool(empty_for_long) and await account_answers(session, account_id)


async def account_answers(session: SyncSession, account_id: uuid.UUID) -> bool:
    """Whether the account itself can be read: the last witness, where no row can be one."""
    try:
        await session.pluggy.row(f"/accounts/{account_id}")
    except PluggyNotFound:
        return False
    return True


async def deferred(session: SyncSession, account_id: uuid.UUID) -> None:
    """Defer the step, for the answer proves nothing: no watermark moves, no event is settled."""
    async with session.page() as conn:
        await Read.begin(session, PRODUCT, account_id).defer(conn)
