"""Reads that answer 404 for their account or investment: re-read the parent's own list.

If the parent is missing there too, it is treated as deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from typing import Final

from worker.entities.accounts import ENTITY as ACCOUNTS
from worker.entities.declaration import Listing
from worker.entities.investments import ENTITY as INVESTMENTS
from worker.lease.lease import SyncSession
from worker.pluggy_api.errors import PluggyNotFound
from worker.store import account_walks
from worker.sync.full_list import live_ids, sync_listing

LISTS: Final[Mapping[str, Listing]] = {
    listing.absent: listing for listing in (ACCOUNTS, INVESTMENTS)
}


async def unless_gone(session: SyncSession, owner_id: uuid.UUID, work: Awaitable[object]) -> None:
    """Await a read of rows that an account or an investment owns.

    If it answers 404 for the parent, the parent's own list is read again; if the parent is missing
    there too, it is tombstoned and its steps are reset. Raises PluggyError, LeaseLost.
    """
    try:
        await work
    except PluggyNotFound as answer:
        owners = LISTS.get(answer.code)
        if owners is None:
            raise
        await sync_listing(session, owners, source_updated_at=None, suspects=[owner_id])
        if owner_id in await live_ids(session, owners):
            raise
        async with session.page() as conn:
            await account_walks.reset_owner(conn, session.item_id, owner_id)
