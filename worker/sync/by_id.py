"""Reads by id: the rows that events name, in blocks of one request, each recorded when answered."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.planner.outcomes import Answered
from worker.planner.steps import AskIds
from worker.store import id_progress, product_sync
from worker.sync.deletions import (
    NAMED,
    QUESTION_SIZE,
    WITNESSES,
    Absence,
    Deletions,
    Question,
    load_unwitnessed,
)
from worker.sync.transactions import PRODUCT, account_answers, deferred, store_page

BLOCK_SIZE: Final = QUESTION_SIZE - WITNESSES
LOAD_SIZE: Final = 1000
"""Ids loaded from Postgres at once: an event may name any number of them."""
UNDISTURBED_S: Final = 5.0
"""Blocks follow each other for this time whatever else is announced; then new events go first."""


@dataclass(slots=True)
class _List:
    """The ids of one event, and how many of them this claim has taken."""

    pending_seq: int
    ask_again_at: datetime | None
    taken: int
    is_loaded: bool = False
    """No ids are left to load."""
    came_back: bool = False


@dataclass(slots=True)
class OpenIds:
    """Ids that events name and that are not asked for yet, in blocks of one request each.

    An id that several events name is asked for once in a claim.
    """

    session: SyncSession
    waiting: deque[int]
    loaded: deque[tuple[int, uuid.UUID]] = field(default_factory=deque)
    lists: dict[int, _List] = field(default_factory=dict)
    asked: set[uuid.UUID] = field(default_factory=set)
    returned: set[uuid.UUID] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    """Events with no ids left to take."""
    answered_events: set[int] = field(default_factory=set)
    touched: list[tuple[int, uuid.UUID]] = field(default_factory=list)
    """The ids of the current block, each with its event."""

    async def next_block(self) -> list[uuid.UUID]:
        """Ids to ask for next. Empty with `touched`: all were asked for; without it: the end."""
        self.touched = []
        block: dict[uuid.UUID, None] = {}
        while len(block) < BLOCK_SIZE and (entry := await self._next()) is not None:
            self.touched.append(entry)
            if entry[1] not in self.asked:
                block[entry[1]] = None
        return list(block)

    async def _next(self) -> tuple[int, uuid.UUID] | None:
        while not self.loaded:
            if not self.waiting:
                return None
            await self._load(self.waiting[0])
        entry = self.loaded.popleft()
        if not self.loaded and self.lists[entry[0]].is_loaded:
            self.ended.add(self.waiting.popleft())
        return entry

    async def _load(self, event_id: int) -> None:
        stored = self.lists.get(event_id)
        row = await id_progress.load_open_ids(
            self.session.db,
            event_id=event_id,
            done=stored.taken if stored else None,
            limit=LOAD_SIZE,
        )
        if row is None or not row.ids:
            self.ended.add(self.waiting.popleft())
            return
        # Ids that are loaded and not taken are loaded again by the next claim.
        self.lists[event_id] = stored or _List(row.pending_seq, row.ask_again_at, row.done)
        self.lists[event_id].taken = row.done + len(row.ids)
        self.lists[event_id].is_loaded = len(row.ids) < LOAD_SIZE
        self.loaded.extend((event_id, row_id) for row_id in row.ids)

    async def note(self, conn: Connection, listed: set[uuid.UUID]) -> None:
        """Record the block as answered, in the transaction that stores its rows."""
        self.asked.update(row_id for _, row_id in self.touched)
        self.returned |= listed
        self.answered_events |= self.ended
        events = {event_id: self.lists[event_id] for event_id, _ in self.touched}
        for event_id, row_id in self.touched:
            events[event_id].came_back |= row_id in self.returned
        ahead = self.loaded[0][0] if self.loaded else None
        await id_progress.note_ids_asked(
            conn,
            event_ids=list(events),
            pending_seqs=[e.pending_seq for e in events.values()],
            ask_again_ats=[e.ask_again_at for e in events.values()],
            dones=[e.taken - (len(self.loaded) if i == ahead else 0) for i, e in events.items()],
            came_backs=[e.came_back for e in events.values()],
        )

    @property
    def answered(self) -> Answered:
        """Events whose ids are all answered, and events of which some rows came back."""
        came_back = {event_id for event_id, stored in self.lists.items() if stored.came_back}
        return Answered(frozenset(self.answered_events), frozenset(came_back))


async def sync_ids(session: SyncSession, step: AskIds, ids: OpenIds, *, until: float) -> None:
    """Ask for rows by id: store those that come back, tombstone the others or leave them pending.

    Blocks are begun until the loop's clock says `until` or a new event arrives, at least one; the
    next claim continues after the last answered one. An answer that proves nothing defers the step.
    A read by id never moves the watermark. Raises PluggyError, LeaseLost.
    """
    clock, generation = asyncio.get_running_loop().time, session.generation
    yields_at = clock() + UNDISTURBED_S
    while True:
        block = await ids.next_block()
        if not ids.touched:
            ids.answered_events |= ids.ended
            return
        if not await _ask(session, step, ids, block):
            await deferred(session, step.account_id)
            return
        has_changes = session.generation > generation and clock() > yields_at
        if has_changes or clock() > until:
            return


async def _ask(session: SyncSession, step: AskIds, ids: OpenIds, block: list[uuid.UUID]) -> bool:
    """Ask for a block and record its answer; False: the answer proves nothing."""
    if not block:
        async with session.page() as conn:
            await ids.note(conn, set())
        return True
    question = await Question.about(session, step.account_id, block, events=step.event_ids)
    page = await session.pluggy.transactions(step.account_id, ids=question.ids)
    async with session.page() as conn:
        listed = (await store_page(conn, session, step.account_id, page)).among(question.ids)
        absent = question.suspects - listed
        if not absent or (question.witnesses and not question.unanswered(listed)):
            await _record(conn, session, step, ids, question, listed)
            return True
    if not await _is_answered(session, step.account_id, question, listed):
        return False
    async with session.page() as conn:
        await _record(conn, session, step, ids, question, listed)
    return True


async def _record(
    conn: Connection,
    session: SyncSession,
    step: AskIds,
    ids: OpenIds,
    question: Question,
    listed: set[uuid.UUID],
) -> None:
    """Record an answer that proves something, and tombstone or mark what it lacks."""
    await ids.note(conn, listed)
    named = {row_id for event_id, row_id in ids.touched if event_id in step.deleting}
    absence = question.absence(listed)
    deletions = Deletions(conn, session, step.account_id)
    over_limit = await _exceeds_limit(deletions, step, ids, absence.ids & named)
    await deletions.tombstone_or_mark(absence, named=named, over_limit=over_limit)
    if listed:
        await product_sync.end_deferral(conn, session.item_id, PRODUCT, step.account_id)


async def _exceeds_limit(
    deletions: Deletions, step: AskIds, ids: OpenIds, absent: Set[uuid.UUID]
) -> bool:
    """Whether named rows of this block stay pending: all blocks together exceed the limit.

    Ids still to be asked for count as absent; a later claim keeps to the decision. The last block
    is judged by its own absent rows.
    """
    if not absent:
        return False
    events = sorted(step.deleting)
    found = await id_progress.count_named_rows(
        *deletions.key, event_ids=events, absent=list(absent), asked=list(ids.asked)
    )
    if found.marks_all:
        return True
    rows = found.absent + found.open
    if not found.open or await deletions.allows(NAMED, rows):
        return False
    await id_progress.mark_all_named(deletions.conn, event_ids=events)
    return True


async def _is_answered(
    session: SyncSession, account_id: uuid.UUID, question: Question, listed: set[uuid.UUID]
) -> bool:
    """Whether a row's absence from the answer proves anything."""
    if question.witnesses:
        return not question.unanswered(listed)
    return bool(listed) or await account_answers(session, account_id)


async def ask_again(session: SyncSession, account_id: uuid.UUID) -> bool:
    """Ask again for rows pending as `no_witness`, if their account has a witness by now.

    They are judged together, after at most six requests. False: an answer proves nothing, and the
    step is deferred. Raises PluggyError, LeaseLost.
    """
    rows, absence = await load_unwitnessed(session, account_id), Absence()
    if not rows:
        return True
    for start in range(0, len(rows), BLOCK_SIZE):
        block = rows[start : start + BLOCK_SIZE]
        question = await Question.about(session, account_id, block, rows)
        page = await session.pluggy.transactions(account_id, ids=question.ids)
        async with session.page() as conn:
            listed = (await store_page(conn, session, account_id, page)).among(question.ids)
        if not await _is_answered(session, account_id, question, listed):
            await deferred(session, account_id)
            return False
        absence |= question.absence(listed)
    async with session.page() as conn:
        await Deletions(conn, session, account_id).tombstone_or_mark(absence)
        await product_sync.end_deferral(conn, session.item_id, PRODUCT, account_id)
    return True
