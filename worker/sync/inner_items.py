"""The inner item of a MeuPluggy item: its rows may name that item in place of their own.

An item of MeuPluggy shows a connection that the person made at meu.pluggy.ai, which is an item of
its own. `GET /consents?itemId=` answers with that inner item's id in the rows, and lists of others
may. The first id that is named is pinned to the item; a page that names any other is not ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from worker.lease.lease import SyncSession
from worker.store.entities import items
from worker.sync.page_rows import Rejected, Row, RowsOfAnother, read_rows

OWNED_BY_ITEM = "itemId"


async def read_rows_of_item(
    session: SyncSession, page: Sequence[msgspec.Raw], *, owner_key: str, owner: uuid.UUID
) -> tuple[list[Row], list[Rejected]]:
    """Like read_rows; rows of a MeuPluggy item may name its inner item. Raises RowsOfAnother."""
    try:
        return await read_rows(page, owner_key=owner_key, owner=owner)
    except RowsOfAnother as error:
        if owner_key != OWNED_BY_ITEM or not await _is_inner_item(session, error.named):
            raise
        inner_id = error.named
    return await read_rows(page, owner_key=owner_key, owner=owner, inner_id=inner_id)


async def is_owner(
    session: SyncSession, named: uuid.UUID | None, *, owner_key: str, owner: uuid.UUID
) -> bool:
    """Whether a row that names this owner is the item's or the account's."""
    if named in (owner, None):
        return True
    return owner_key == OWNED_BY_ITEM and named == await _inner_id(session)


async def _inner_id(session: SyncSession) -> uuid.UUID | None:
    return await items.load_inner_item(session.db, session.item_id)


async def _is_inner_item(session: SyncSession, named: uuid.UUID) -> bool:
    """Whether the id is pinned to the item; pins it if the item has none yet."""
    async with session.page() as conn:
        pinned = await items.pin_inner_item(
            conn, session.item_id, inner_item_id=named, run_id=session.run.id, now=session.now
        )
        session.run.counts.changed += bool(pinned)
    return named == await _inner_id(session)
