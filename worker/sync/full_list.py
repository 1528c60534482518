"""Complete lists: read a product that Pluggy lists whole, and ask by id for missing rows."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from worker.entities.declaration import Listing
from worker.infra.parsing import parse_uuid
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.lease.progress import Read
from worker.planner.state import WHOLE_ITEM
from worker.pluggy_api.errors import PluggyNotFound
from worker.pluggy_api.payloads import decode_object
from worker.sync.deletions import WITNESSES
from worker.sync.empty_lists import note_missed, plan_recheck
from worker.sync.inner_items import is_owner, read_rows_of_item
from worker.sync.page_rows import Listed, Row
from worker.sync.store_rows import are_stored, by_number, in_page, store_rows
from worker.sync.tombstones import tombstone_row

ASK_TIMEOUT_S: Final = 10.0
"""A step has to end well within a plan; the next claim asks for the rest."""
UNASKED: Final = "absent_rows_unasked"


async def sync_listing(
    session: SyncSession,
    listing: Listing,
    *,
    source_updated_at: datetime | None,
    scope_id: uuid.UUID = WHOLE_ITEM,
    suspects: Collection[uuid.UUID] = (),
) -> None:
    """Read the list and store it; tombstone proven absences. Raises PluggyError, LeaseLost.

    A row missing from the list is absent if GET by id answers 404 with the entity's own code, or
    returns a row of another owner (it has moved). An empty list where live rows are stored proves
    nothing (consent revoked or bank down: lists are empty, with 200) unless one of those rows comes
    back by id; see empty_lists.py for what two empty lists prove. Of a list that may go on, the
    rows are stored, only suspects are asked for, and the product is incomplete. suspects: rows that
    another answer does not know.
    """
    read = Read.begin(session, listing.product, scope_id, source_updated_at)
    owner = session.item_id if scope_id == WHOLE_ITEM else scope_id
    page = await listing.read(session.pluggy, owner)
    rows, rejected = await read_rows_of_item(
        session, page.rows, owner_key=listing.owner_key, owner=owner
    )
    found = await listing.load_live(session.db, session.item_id, scope_id)
    versions = by_number(found)
    stored = {version.id for version in found}
    suspicious = not page.rows and bool(stored)
    listed = Listed(rows, rejected).ids
    missing = stored - listed
    if not (page.is_complete or suspicious):
        missing &= set(suspects)
    proves = suspicious and page.is_complete
    recheck = await plan_recheck(session, listing.product, stored) if proves else None
    if recheck is None:
        answers = await _ask(session, listing, owner, missing, for_witness=suspicious)
    else:
        answers = await _ask(session, listing, owner, set(recheck.ask))
        answers.unasked += len(missing) - len(recheck.ask)
    complete = partial(
        read.complete,
        incomplete_reason=page.incomplete_reason,
        found=bool(page.rows),
        fences=True,
    )
    known = bool(rows) and stored.issuperset(listed) and not rejected
    if known and not missing and are_stored(session, listing, rows, versions):
        await complete(session.db)
        return
    proven = recheck is not None and recheck.proves and bool(answers.absent) and not answers.moved
    proves_nothing = suspicious and not answers.returned and not proven
    completes = not proves_nothing and not answers.go_on

    async def write(conn: Connection) -> None:
        if proves_nothing:
            if recheck is not None and answers.absent:
                await note_missed(conn, session, listing.product, recheck, answers.absent)
            await read.defer(conn)
            return
        found = [*rows, *answers.returned]
        owned = {} if scope_id == WHOLE_ITEM else {"account_id": scope_id}
        await store_rows(
            conn,
            session,
            listing,
            found,
            rejected,
            scope_id=scope_id,
            owner_columns=owned,
            stored=versions if known else None,
        )
        gone = [*answers.absent, *(answers.moved if page.rows else ())]
        session.tombstoned.update(gone)
        for row_id in gone:
            session.run.counts.deleted += await tombstone_row(
                conn, listing, session.item_id, row_id, run_id=session.run.id, now=session.now
            )
        if answers.go_on:
            await read.defer(conn, reason=UNASKED)
            return
        if not page.rows:
            await read.expect_first_rows(conn)

    # Completing the read checks the lease too: one statement in place of two.
    await in_page(session, write, fence=complete if completes else None)


async def live_ids(session: SyncSession, listing: Listing) -> set[uuid.UUID]:
    """Ids of the stored live rows of a list of the item."""
    return {row.id for row in await listing.load_live(session.db, session.item_id, WHOLE_ITEM)}


@dataclass(slots=True)
class _Answers:
    """The answers to requests for single rows."""

    absent: list[uuid.UUID] = field(default_factory=list)
    moved: list[uuid.UUID] = field(default_factory=list)
    """Rows that exist, but belong to another owner."""
    returned: list[Row] = field(default_factory=list)
    unasked: int = 0

    @property
    def go_on(self) -> bool:
        """Whether the next claim goes on: rows are left to ask for, and each claim ends some."""
        return self.unasked > 0 and bool(self.absent)


async def _ask(
    session: SyncSession,
    listing: Listing,
    owner: uuid.UUID,
    row_ids: set[uuid.UUID],
    *,
    for_witness: bool = False,
) -> _Answers:
    """Ask for rows by id while time lasts; after an empty list, until a witness is found.

    In random order, so that rows which exist although their list lacks them do not always come
    before the others.
    """
    answers = _Answers(unasked=len(row_ids))
    clock = asyncio.get_running_loop().time
    until = clock() + ASK_TIMEOUT_S
    for row_id in random.sample(sorted(row_ids), len(row_ids)):
        if for_witness and not answers.returned and len(answers.absent) >= WITNESSES:
            break
        if answers.unasked < len(row_ids) and clock() > until:
            break
        await _ask_one(session, listing, owner, row_id, answers)
        answers.unasked -= 1
    return answers


async def _ask_one(
    session: SyncSession, listing: Listing, owner: uuid.UUID, row_id: uuid.UUID, answers: _Answers
) -> None:
    """Ask for a row, and renew the lease: many requests may take longer than it lasts."""
    try:
        body = await listing.read_row(session.pluggy, row_id)
    except PluggyNotFound as answer:
        if answer.code != listing.absent:
            raise
        answers.absent.append(row_id)
    else:
        key = listing.owner_key
        named = parse_uuid(decode_object(body).get(key))
        if not await is_owner(session, named, owner_key=key, owner=owner):
            answers.moved.append(row_id)
        else:
            rows = [msgspec.Raw(body)]
            found, _ = await read_rows_of_item(session, rows, owner_key=key, owner=owner)
            answers.returned += found
    await session.renew()
