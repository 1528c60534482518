"""What rows are listed by may itself be gone: its own list, asked again, tells."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from typing import Final

from worker.infra.queries import QUERIES
from worker.lease.lease import Claim
from worker.pluggy_api.errors import PluggyNotFound
from worker.sync.entities.accounts import ACCOUNTS
from worker.sync.entities.investments import INVESTMENTS
from worker.sync.full_list import Listing, live_ids, sync_listing

LISTS: Final[Mapping[str, Listing]] = {
    listing.absent: listing for listing in (ACCOUNTS, INVESTMENTS)
}


async def unless_gone(claim: Claim, owner_id: uuid.UUID, work: Awaitable[object]) -> None:
    """Await a read of what an account or an investment owns.

    A 404 of the owner is no failure of the read if the owner's list leaves it out and it is buried
    by that: there is nothing to read, now or by a walk that was asked for. Raises PluggyError,
    FencedOff.
    """
    try:
        await work
    except PluggyNotFound as answer:
        owners = LISTS.get(answer.code)
        if owners is None:
            raise
        await sync_listing(claim, owners, source_updated_at=None)
        if owner_id in await live_ids(claim, owners.entity.product):
            raise
        async with claim.page() as conn:
            await conn.execute(QUERIES["forget_owner"], claim.item_id, owner_id)
