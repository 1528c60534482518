"""Walks: all pages of an account, one a transaction, resumable; then what is missing is asked."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from worker.infra.postgres import Connection
from worker.infra.queries import QUERIES
from worker.lease.lease import Claim
from worker.lease.progress import expect_first_rows, stamp_step
from worker.planner.due_reads import RECENT as RECENT_DAYS
from worker.planner.state import Walk
from worker.planner.steps import (
    AskWalk,
)
from worker.pluggy_api.endpoints import Page
from worker.pluggy_api.errors import MAX_RESTARTS, CursorRefused, PluggyUnavailable
from worker.sync.deletions import QUESTION_SIZE, WITNESSES, Absence, Question, bury_or_flag
from worker.sync.entities.transactions import PRODUCT, put_off, store_page, witnessed
from worker.sync.recent_days import RECENT, stamp_recent

WALK_FOR_S: Final = 20.0
"""So long a claim walks at most before it hands the item back."""
LOOK_EVERY_PAGES: Final = 100
MAX_PAGES: Final = 10_000
FAILS_BEFORE_RESTART: Final = 3
MAX_NOMINEES: Final = 5000
"""So many are looked at together; more than that are flagged for a person anyway."""


async def ask_walk(claim: Claim, step: AskWalk) -> None:
    """Store the wish; the walk itself goes on under this or a later claim."""
    async with claim.page() as conn:
        await conn.execute(QUERIES["revive_walk_step"], claim.item_id, step.account_id)
        await conn.execute(
            QUERIES["start_walk"],
            claim.item_id,
            step.account_id,
            "walk",
            int(step.lane),
            step.expects_rows,
            step.source_updated_at,
            None,
            None,
            None,
            0,
            0,
            step.verifies,
            None,
            None,
        )
        if step.for_unreadable:
            await conn.execute(QUERIES["note_unreadable_walk"], claim.item_id, step.account_id)


async def continue_walk(claim: Claim, walk: Walk, *, settled_generation: int, for_s: float) -> bool:
    """Go on with a walk until it ends, time is up or the item has news; returns whether it ended.

    Raises PluggyError, FencedOff.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + min(for_s, WALK_FOR_S)
    claim.drift_of = (PRODUCT, walk.account_id) if walk.verifies else None
    while await _advance(claim, walk):
        found = await claim.db.fetchrow(QUERIES["load_walk"], claim.item_id, walk.account_id)
        if found is None:
            return True
        walk = msgspec.convert(dict(found), Walk)
        if claim.generation > settled_generation or clock() > until:
            return False
    return False


async def _advance(claim: Claim, walk: Walk) -> bool:
    """Read one page, ask one question, or finish. False: put off, nothing more to do now."""
    if walk.read_at is None:
        return await _read_page(claim, walk)
    if nominees := await _load_nominees(claim, walk):
        return await _ask_about(claim, walk, nominees)
    await _finish(claim, walk)
    return True


async def _read_page(claim: Claim, walk: Walk) -> bool:
    started_at = claim.now
    try:
        await _raise_if_endless(claim, walk)
        page = await _fetch(claim, walk)
        if not page.rows and page.next is None and await _proves_nothing(claim, walk):
            await put_off(claim, walk.account_id)
            return False
        async with claim.page() as conn:
            await _store(conn, claim, walk, page, started_at)
    except CursorRefused as error:
        await _begin_anew(claim, walk, error)
    except asyncpg.UniqueViolationError:
        await _begin_anew(claim, walk, CursorRefused("cursor_repeated"))
    return True


async def _begin_anew(claim: Claim, walk: Walk, refusal: CursorRefused) -> None:
    """Read from the first page again; what is stored stays. Raises the refusal after a few times.

    Later tries begin anew too: a cursor that is refused would be refused for ever.
    """
    async with claim.page() as conn:
        restarts = await conn.fetchval(QUERIES["restart_walk"], claim.item_id, walk.account_id)
    if restarts is None or restarts > MAX_RESTARTS:
        raise refusal


async def _raise_if_endless(claim: Claim, walk: Walk) -> None:
    """Each page of an honest list has a row that no other page has."""
    if walk.pages == 0 or walk.pages % LOOK_EVERY_PAGES:
        return
    rows = await claim.db.fetchval(QUERIES["count_rows_known"], claim.item_id, walk.account_id)
    if walk.pages >= MAX_PAGES or walk.pages > rows + LOOK_EVERY_PAGES:
        raise CursorRefused("endless_list")


async def _fetch(claim: Claim, walk: Walk) -> Page:
    if walk.next is None:
        return await _fetch_first(claim, walk)
    try:
        return await claim.pluggy.next_transactions(walk.next)
    except PluggyUnavailable as error:
        # Some cursors are refused with a 5xx: so often the same page fails only because of its own.
        if (error.status or 0) >= 500 and await _has_failed_often(claim, walk):
            raise CursorRefused("cursor_refused", status=error.status) from error
        raise


async def _fetch_first(claim: Claim, walk: Walk) -> Page:
    if walk.kind == RECENT:
        since = claim.now - RECENT_DAYS if walk.read_since is None else walk.read_since
        return await claim.pluggy.transactions(walk.account_id, date_from=since.date())
    since_created = walk.read_since if walk.kind == "delta" else None
    return await claim.pluggy.transactions(walk.account_id, created_at_from=since_created)


async def _has_failed_often(claim: Claim, walk: Walk) -> bool:
    attempts = await claim.db.fetchval(
        QUERIES["load_attempts"], claim.item_id, PRODUCT, walk.account_id
    )
    return (attempts or 0) >= FAILS_BEFORE_RESTART


async def _proves_nothing(claim: Claim, walk: Walk) -> bool:
    """Whether an empty last page needs a witness, and there is none."""
    suspicious = walk.pages > 0 or await claim.db.fetchval(
        QUERIES["holds_rows_seen_before"], claim.item_id, walk.account_id, claim.now
    )
    if not suspicious and not walk.expects_rows:
        return False
    return not await witnessed(claim, walk.account_id, suspicious=bool(suspicious))


async def _store(
    conn: Connection, claim: Claim, walk: Walk, page: Page, started_at: datetime
) -> None:
    nominates = walk.nominates
    if walk.started_at is None:
        nominates = walk.kind == "walk" and await conn.fetchval(
            QUERIES["holds_rows_seen_before"], claim.item_id, walk.account_id, started_at
        )
        await conn.execute(
            QUERIES["begin_walk"],
            claim.item_id,
            walk.account_id,
            started_at,
            page.pluggy_now,
            nominates,
            claim.read_seq,
        )
    listed = await store_page(conn, claim, walk.account_id, page)
    await _note(conn, walk, "listed", listed.ids if nominates else (), cursor=page.next)
    await conn.execute(
        QUERIES["advance_walk"],
        claim.item_id,
        walk.account_id,
        page.next,
        len(page.rows),
        claim.now if page.next is None else None,
    )


async def _note(
    conn: Connection, walk: Walk, kind: str, ids: Iterable[uuid.UUID], cursor: str | None = None
) -> None:
    """Remember what a page listed; a cursor that comes a second time violates a unique index."""
    cursor_hash = None if cursor is None else hashlib.sha256(cursor.encode()).digest()
    await conn.execute(QUERIES["add_walk_page"], walk.walk_id, cursor_hash, kind, list(ids))


async def _load_nominees(claim: Claim, walk: Walk) -> list[uuid.UUID]:
    if not walk.nominates:
        return []
    records = await claim.db.fetch(
        QUERIES["load_nominees"],
        claim.item_id,
        walk.account_id,
        walk.walk_id,
        walk.started_at,
        MAX_NOMINEES,
    )
    return [record["id"] for record in records]


async def _ask_about(claim: Claim, walk: Walk, nominees: Sequence[uuid.UUID]) -> bool:
    block = nominees[: QUESTION_SIZE - WITNESSES]
    question = await Question.about(claim, walk.account_id, block, nominees)
    if not question.witnesses:
        # All are suspects, for the list was empty: then those of other questions are witnesses.
        question = await Question.about(claim, walk.account_id, block)
    page = await claim.pluggy.transactions(walk.account_id, ids=question.ids)
    async with claim.page() as conn:
        listed = (await store_page(conn, claim, walk.account_id, page)).among(question.ids)
        proven = not question.unanswered(listed)
        if proven:
            absence = question.absence(listed)
            await _note(conn, walk, "returned", question.suspects & listed)
            await _note(conn, walk, "absent", absence.proven)
            await _note(conn, walk, "waiting", absence.waiting)
            await _note(conn, walk, "unproven", absence.unproven)
    if not proven:
        await put_off(claim, walk.account_id)
    return proven


async def _finish(claim: Claim, walk: Walk) -> None:
    """The one transaction in which the absent are buried and the watermark moves."""
    async with claim.page() as conn:
        await bury_or_flag(conn, claim, walk.account_id, await _load_absence(conn, walk))
        if walk.kind == RECENT:
            await stamp_recent(conn, claim, walk.account_id, walk.started_at, walk.read_seq)
        else:
            await _stamp(conn, claim, walk)
            await expect_first_rows(conn, claim, PRODUCT, walk.account_id)
        await conn.execute(QUERIES["finish_walk"], claim.item_id, walk.account_id)


async def _load_absence(conn: Connection, walk: Walk) -> Absence:
    found: dict[str, set[uuid.UUID]] = {"absent": set(), "waiting": set(), "unproven": set()}
    for record in await conn.fetch(QUERIES["load_absent"], walk.walk_id):
        found[record["kind"]].add(record["id"])
    return Absence(*map(frozenset, (found["absent"], found["waiting"], found["unproven"])))


async def _stamp(conn: Connection, claim: Claim, walk: Walk) -> None:
    await stamp_step(
        conn,
        claim,
        PRODUCT,
        walk.account_id,
        started_at=walk.started_at,
        source_updated_at=walk.source_updated_at,
        watermark=walk.pluggy_started_at,
        walked_at=walk.started_at if walk.kind == "walk" else None,
        read_since=walk.read_since,
        read_seq=walk.read_seq,
    )
