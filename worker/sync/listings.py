"""Products that Pluggy lists completely: absence nominates, GET by id answering 404 proves."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from worker.claim import Claim
from worker.failures import PluggyNotFound
from worker.held import NO_ACCOUNT
from worker.pluggy_reader import PluggyReader
from worker.queries import QUERIES
from worker.sync.rows import Entity, Row, read_rows, store_rows
from worker.sync.stamps import defer_step, stamp_step

WITNESSES: Final = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """How an entity is listed, and asked for by id.

    owner_key is the field of a row that names what it is listed by: itemId or accountId. absent is
    the failure code that proves that a row is gone.
    """

    entity: Entity
    owner_key: str
    absent: str
    fetch_all: Callable[[PluggyReader, uuid.UUID], Awaitable[Sequence[msgspec.Raw]]]
    fetch_one: Callable[[PluggyReader, uuid.UUID], Awaitable[bytes]]


async def sync_listing(
    claim: Claim,
    listing: Listing,
    *,
    source_updated_at: datetime | None,
    account_id: uuid.UUID = NO_ACCOUNT,
) -> None:
    """Read the list and store it; bury what a 404 proves absent. Raises PluggyError, FencedOff.

    An empty list where we hold live rows is no answer (consent revoked, bank down: lists are empty
    with 200) unless one of them, asked for by id, comes back.
    """
    product, started_at = listing.entity.product, claim.now
    owner = claim.item_id if account_id == NO_ACCOUNT else account_id
    page = await listing.fetch_all(claim.pluggy, owner)
    rows, rejected = read_rows(page, owner_key=listing.owner_key, owner=owner)
    held = await live_ids(claim, product, account_id)
    suspicious = not page and bool(held)
    missing = held - {row.id for row in rows}
    absent, returned = await _ask(claim, listing, owner, missing, for_witness=suspicious)
    async with claim.page() as conn:
        if suspicious and not returned:
            await defer_step(conn, claim, product, account_id)
            return
        owned = {} if account_id == NO_ACCOUNT else {"account_id": account_id}
        await store_rows(
            conn,
            claim,
            listing.entity,
            [*rows, *returned],
            rejected,
            account_id=account_id,
            owner_columns=owned,
        )
        for row_id in absent:
            claim.counts.deleted += await conn.fetchval(
                QUERIES[f"tombstone_{product}"], claim.item_id, row_id, claim.run
            )
        await stamp_step(
            conn,
            claim,
            product,
            account_id,
            started_at=started_at,
            source_updated_at=source_updated_at,
        )


async def live_ids(
    claim: Claim, product: str, account_id: uuid.UUID = NO_ACCOUNT
) -> set[uuid.UUID]:
    """Ids of the rows of a list that we hold live."""
    records = await claim.db.fetch(QUERIES[f"load_live_{product}_ids"], claim.item_id, account_id)
    return {record["id"] for record in records}


async def _ask(
    claim: Claim,
    listing: Listing,
    owner: uuid.UUID,
    row_ids: set[uuid.UUID],
    *,
    for_witness: bool,
) -> tuple[list[uuid.UUID], list[Row]]:
    """Ask for rows by id; after an empty list, for as many as are needed to find a witness."""
    absent: list[uuid.UUID] = []
    returned: list[Row] = []
    for row_id in sorted(row_ids):
        if for_witness and not returned and len(absent) >= WITNESSES:
            break
        try:
            body = await listing.fetch_one(claim.pluggy, row_id)
        except PluggyNotFound as answer:
            if answer.code != listing.absent:
                raise
            absent.append(row_id)
            continue
        found, _ = read_rows([msgspec.Raw(body)], owner_key=listing.owner_key, owner=owner)
        returned += found
    return absent, returned
