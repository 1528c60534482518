"""Empty lists of accounts, investments and loans: what to ask for, and when absence is proven."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.entities.items import is_open_finance
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.planner.item_status import Item, read_item
from worker.pluggy_api.payloads import decode_object
from worker.store import empty_lists

MIN_READ_INTERVAL: Final = timedelta(days=1)
NEED_TWO_READS: Final = frozenset({"investments", "loans"})
"""The last row is tombstoned after two reads; the last account waits for a person."""
LOAD_MISSING: Final = {
    "accounts": empty_lists.load_missing_accounts,
    "investments": empty_lists.load_missing_investments,
    "loans": empty_lists.load_missing_loans,
}
NOTE_MISSED: Final = {
    "accounts": empty_lists.miss_accounts,
    "investments": empty_lists.miss_investments,
    "loans": empty_lists.miss_loans,
}


@dataclass(frozen=True, slots=True)
class Recheck:
    """What is held of a list that came empty, and what the collection behind the answer was like.

    ask: the rows to ask for now. proves: a 404 of each tombstones it; else it is remembered.
    """

    ask: frozenset[uuid.UUID]
    proves: bool
    collected_at: datetime | None


async def plan_recheck(
    session: SyncSession, product: str, stored: Collection[uuid.UUID]
) -> Recheck | None:
    """What to ask about a list that came empty; None: a few rows, only to find a witness.

    The item is read after the list, because a consent that ended since the sync began empties
    lists too. The second look proves only if the rows were missed at least a day ago, and a
    collection since then succeeded: status SUCCESS, the product updated, the consent live, another
    list not empty. Raises PluggyError.
    """
    if product not in LOAD_MISSING:
        return None
    item = await _read_item(session)
    if item.consent_lost(session.latest):
        return None
    found = await LOAD_MISSING[product](session.db, item_id=session.item_id)
    rows = [row for row in found if row.id in stored]
    collected_at = item.source_updated_at(product)
    unmissed = frozenset(row.id for row in rows if row.missing_since is None)
    if unmissed:
        is_recheck = product in NEED_TWO_READS or item.succeeded(product)
        return Recheck(unmissed, False, collected_at) if is_recheck else None
    if product in NEED_TWO_READS and await _is_second(session, product, rows, item):
        return Recheck(frozenset(row.id for row in rows), True, collected_at)
    return None


async def note_missed(
    conn: Connection,
    session: SyncSession,
    product: str,
    recheck: Recheck,
    absent: Collection[uuid.UUID],
) -> None:
    """Remember rows that answered 404 at the first look; accounts become pending deletions."""
    await NOTE_MISSED[product](
        conn,
        item_id=session.item_id,
        ids=list(absent),
        now=session.now,
        collected_at=recheck.collected_at,
        run_id=session.run.id,
    )


async def _is_second(
    session: SyncSession, product: str, rows: Sequence[empty_lists.MissingRow], item: Item
) -> bool:
    """Whether a look now is the second one, a day and a successful collection after the first."""
    collected_at = item.source_updated_at(product)
    if collected_at is None or not item.succeeded(product):
        return False
    first = max(row.missing_since for row in rows if row.missing_since is not None)
    seen = [row.missing_collected_at for row in rows if row.missing_collected_at is not None]
    if first > session.now - MIN_READ_INTERVAL or any(at >= collected_at for at in seen):
        return False
    return await empty_lists.has_another_list(session.db, session.item_id, product, since=first)


async def _read_item(session: SyncSession) -> Item:
    fields = decode_object(await session.pluggy.item(session.item_id))
    return read_item(fields, is_open_finance=is_open_finance(fields), latest=session.latest)
