"""Walks: a resumable scan of an account, one page a transaction, that finds deletion candidates."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg
import msgspec

from worker.infra.postgres import Connection
from worker.lease.lease import LEASE, SyncSession
from worker.lease.progress import Read
from worker.planner.due_reads import RECENT_DAYS
from worker.planner.state import Walk
from worker.planner.steps import AskWalk
from worker.pluggy_api.endpoints import Page
from worker.pluggy_api.errors import MAX_RESTARTS, CursorRefused, PluggyUnavailable
from worker.store import account_walks
from worker.store.account_walks import WalkRow
from worker.store.entities import transactions
from worker.store.reconciliation import hurry_deletions
from worker.sync.deletions import QUESTION_SIZE, WITNESSES, Absence, Deletions, Question
from worker.sync.next_page import NextPage
from worker.sync.recent_days import RECENT, mark_recent_complete
from worker.sync.store_rows import in_page
from worker.sync.transactions import PRODUCT, deferred, store_listed, store_page, witnessed

WALK_TIMEOUT_S: Final = 20.0
"""A claim walks at most for this time before it releases the item."""
CHECK_EVERY_PAGES: Final = 100
MAX_PAGES: Final = 10_000
FAILS_BEFORE_RESTART: Final = 3
MAX_CANDIDATES: Final = 5000
"""Candidates considered together; more than these wait for a person anyway."""


async def ask_walk(session: SyncSession, step: AskWalk) -> None:
    """Store the walk; it is read under this claim or a later one. Raises LeaseLost."""
    start = partial(
        account_walks.start_walk,
        item_id=session.item_id,
        account_id=step.account_id,
        kind="walk",
        lane=int(step.lane),
        expects_rows=step.expects_rows,
        source_updated_at=step.source_updated_at,
        verifies=step.verifies,
        revives=True,
    )
    if not step.for_unreadable:
        session.note_renewed(await start(session.db, token=session.lease.token, lease_for=LEASE))
        return
    async with session.page() as conn:
        await start(conn)
        await account_walks.note_unreadable_walk(conn, session.item_id, step.account_id)


async def continue_walk(
    session: SyncSession, walk: Walk, *, settled_generation: int, timeout_s: float
) -> bool:
    """Continue a walk until it ends, time is up or a new event arrives; returns whether it ended.

    Raises PluggyError, LeaseLost.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + min(timeout_s, WALK_TIMEOUT_S)
    session.run.drift_of = (PRODUCT, walk.account_id) if walk.verifies else None

    def goes_on() -> bool:
        return session.generation <= settled_generation and clock() <= until

    async with NextPage(session.pluggy) as ahead:
        while isinstance(advanced := await _advance(session, walk, ahead, goes_on), Walk):
            walk = advanced
            # A page that was asked for is read: it has cost a request.
            if not (ahead.is_asked or goes_on()):
                return False
    return advanced


async def _advance(
    session: SyncSession, walk: Walk, ahead: NextPage, goes_on: Callable[[], bool]
) -> Walk | bool:
    """Read one page, ask for one block of candidates, or finish.

    Returns the walk as it goes on; True: it has ended; False: deferred, stop for now.
    """
    if walk.read_at is None:
        return await _read_page(session, walk, ahead, goes_on)
    if candidates := await _load_candidates(session, walk):
        return await _ask_about(session, walk, candidates)
    await _finish(session, walk)
    return True


def _going_on(row: WalkRow | None) -> Walk | bool:
    return True if row is None else _walk_of(row)


def _walk_of(row: WalkRow) -> Walk:
    return msgspec.convert(row, Walk, from_attributes=True)


async def _loaded(session: SyncSession, walk: Walk) -> Walk | bool:
    return _going_on(await account_walks.load_walk(session.db, session.item_id, walk.account_id))


async def _read_page(
    session: SyncSession, walk: Walk, ahead: NextPage, goes_on: Callable[[], bool]
) -> Walk | bool:
    started_at = session.now
    try:
        await _raise_if_endless(session, walk)
        page = await _fetch(session, walk, ahead)
        if not page.rows and page.next is None and await _proves_nothing(session, walk):
            await deferred(session, walk.account_id)
            return False

        async def write(conn: Connection) -> Walk | bool:
            # The fence has loaded the generation: new events are known.
            if page.next is not None and goes_on() and _may_ask_ahead(session, walk, ahead):
                ahead.ask(page.next)
            return await _store(conn, session, walk, page, started_at)

        return await in_page(session, write)
    except (CursorRefused, asyncpg.UniqueViolationError) as error:
        await ahead.drop()
        refusal = error if isinstance(error, CursorRefused) else CursorRefused("cursor_repeated")
        return await _restart(session, walk, refusal)


def _may_ask_ahead(session: SyncSession, walk: Walk, ahead: NextPage) -> bool:
    """A probe has one request at a time; before some pages the walk itself is checked.

    A page that is written twice has asked already.
    """
    checks = (walk.pages + 1) % CHECK_EVERY_PAGES == 0
    return not (session.lease.probe or checks or ahead.is_asked)


async def _restart(session: SyncSession, walk: Walk, refusal: CursorRefused) -> Walk | bool:
    """Read from the first page again, keeping stored rows. Raises the refusal after a few restarts.

    Later attempts restart too: a cursor that is refused once may be refused for ever.
    """
    async with session.page() as conn:
        restarts = await account_walks.restart_walk(conn, session.item_id, walk.account_id)
    if restarts is None or restarts > MAX_RESTARTS:
        raise refusal
    return await _loaded(session, walk)


async def _raise_if_endless(session: SyncSession, walk: Walk) -> None:
    """Raise CursorRefused for an endless list: each page of a real one has at least one new row."""
    if walk.pages == 0 or walk.pages % CHECK_EVERY_PAGES:
        return
    rows = await account_walks.count_rows_known(
        session.db, session.item_id, walk.account_id, limit=walk.pages
    )
    if walk.pages >= MAX_PAGES or walk.pages > rows + CHECK_EVERY_PAGES:
        raise CursorRefused("endless_list")


async def _fetch(session: SyncSession, walk: Walk, ahead: NextPage) -> Page:
    if walk.next is None:
        return await _fetch_first(session, walk)
    try:
        return await ahead.read(walk.next)
    except PluggyUnavailable as error:
        # Some cursors are refused with a 5xx; after repeated failures of a page the cursor is
        # blamed.
        if (error.status or 0) >= 500 and await _has_failed_often(session, walk):
            raise CursorRefused("cursor_refused", status=error.status) from error
        raise


async def _fetch_first(session: SyncSession, walk: Walk) -> Page:
    if walk.kind == RECENT:
        since = session.now - RECENT_DAYS if walk.read_since is None else walk.read_since
        return await session.pluggy.transactions(walk.account_id, date_from=since.date())
    since_created = walk.read_since if walk.kind == "delta" else None
    return await session.pluggy.transactions(walk.account_id, created_at_from=since_created)


async def _has_failed_often(session: SyncSession, walk: Walk) -> bool:
    attempts = await account_walks.load_attempts(
        session.db, session.item_id, PRODUCT, walk.account_id
    )
    return (attempts or 0) >= FAILS_BEFORE_RESTART


async def _proves_nothing(session: SyncSession, walk: Walk) -> bool:
    """Whether an empty last page needs a witness and has none."""
    suspicious = walk.pages > 0 or await transactions.holds_rows_seen_before(
        session.db, session.item_id, walk.account_id, before=session.now
    )
    if not suspicious and not walk.expects_rows:
        return False
    return not await witnessed(session, walk.account_id, suspicious=bool(suspicious))


async def _store(
    conn: Connection, session: SyncSession, walk: Walk, page: Page, started_at: datetime
) -> Walk | bool:
    if walk.started_at is None:
        begun = await account_walks.begin_walk(
            conn,
            session.item_id,
            walk.account_id,
            started_at=started_at,
            pluggy_started_at=page.pluggy_now,
            read_seq=session.read_seq,
        )
        if begun is None:
            return True
        walk = _walk_of(begun)
    before = session.run.counts.inserted
    listed = await store_listed(conn, session, walk.account_id, page)
    has_new_rows = session.run.counts.inserted > before
    if page.next is None and not walk.finds_candidates:
        await _complete(conn, session, walk, has_new_rows=has_new_rows)
        return True
    # A repeated cursor violates a unique index.
    cursor_hash = None if page.next is None else hashlib.sha256(page.next.encode()).digest()
    row = await account_walks.advance_walk(
        conn,
        session.item_id,
        walk.account_id,
        next=page.next,
        rows=len(page.rows),
        read_at=session.now if page.next is None else None,
        cursor_hash=cursor_hash,
        listed=listed.ids if walk.finds_candidates else (),
        has_new_rows=has_new_rows,
        now=session.now,
    )
    return _going_on(row)


async def _note(conn: Connection, walk: Walk, kind: str, ids: Iterable[uuid.UUID]) -> None:
    await account_walks.add_walk_page(conn, walk_id=walk.walk_id, kind=kind, ids=list(ids))


async def _load_candidates(session: SyncSession, walk: Walk) -> list[uuid.UUID]:
    if not walk.finds_candidates:
        return []
    return await account_walks.load_deletion_candidates(
        session.db,
        session.item_id,
        walk.account_id,
        walk_id=walk.walk_id,
        started_at=walk.started_at,
        limit=MAX_CANDIDATES,
    )


async def _ask_about(
    session: SyncSession, walk: Walk, candidates: Sequence[uuid.UUID]
) -> Walk | bool:
    block = candidates[: QUESTION_SIZE - WITNESSES]
    question = await Question.about(session, walk.account_id, block, candidates)
    if not question.witnesses:
        # The list was empty, so every row is a candidate: those of other blocks serve as witnesses.
        question = await Question.about(session, walk.account_id, block)
    page = await session.pluggy.transactions(walk.account_id, ids=question.ids)
    async with session.page() as conn:
        listed = (await store_page(conn, session, walk.account_id, page)).among(question.ids)
        proven = not question.unanswered(listed)
        if proven:
            absence = question.absence(listed)
            await _note(conn, walk, "returned", question.suspects & listed)
            await _note(conn, walk, "absent", absence.proven)
            await _note(conn, walk, "waiting", absence.waiting)
            await _note(conn, walk, "unproven", absence.unproven)
    if not proven:
        await deferred(session, walk.account_id)
        return False
    return await _loaded(session, walk)


async def _finish(session: SyncSession, walk: Walk) -> None:
    """Finish the walk: tombstone the absent rows and move the watermark in one transaction."""
    async with session.page() as conn:
        absence = await _load_absence(conn, walk)
        await Deletions(conn, session, walk.account_id).tombstone_or_mark(absence)
        await _complete(conn, session, walk)


async def _complete(
    conn: Connection, session: SyncSession, walk: Walk, *, has_new_rows: bool = False
) -> None:
    """End the walk. has_new_rows: this transaction has stored some, so that deletions that lacked a
    witness are asked for again."""
    if walk.kind == RECENT:
        await mark_recent_complete(conn, session, walk.account_id, walk.started_at, walk.read_seq)
        if has_new_rows:
            await hurry_deletions(conn, session.item_id, walk.account_id, now=session.now)
    else:
        began = walk.source_updated_at, walk.started_at, walk.read_seq
        await Read(session, PRODUCT, walk.account_id, *began).complete_transactions(
            conn,
            pluggy_started_at=walk.pluggy_started_at,
            since=walk.read_since,
            walked=walk.kind == "walk",
            has_new_rows=has_new_rows,
        )
    await account_walks.finish_walk(conn, session.item_id, walk.account_id)


async def _load_absence(conn: Connection, walk: Walk) -> Absence:
    found: dict[str, set[uuid.UUID]] = {"absent": set(), "waiting": set(), "unproven": set()}
    for record in await account_walks.load_absent(conn, walk_id=walk.walk_id):
        found[record.kind].add(record.id)
    return Absence(*map(frozenset, (found["absent"], found["waiting"], found["unproven"])))
