"""Tombstones of a row or an item with all that it owns, entity by entity."""

from __future__ import annotations

import uuid
from datetime import datetime

from worker.entities.declaration import Entity
from worker.entities.registry import ENTITIES, OWNED_BY
from worker.store import account_walks
from worker.store.entities import items
from worker.store.statements import Executor


async def tombstone_row(
    conn: Executor,
    entity: Entity,
    item_id: uuid.UUID,
    row_id: uuid.UUID,
    *,
    run_id: int,
    now: datetime,
) -> int:
    """Tombstone a row that Pluggy no longer knows and what it owns; returns how many rows.

    Nothing of it is read any more, and all of it again should it come back.
    """
    rows = await entity.tombstone(conn, item_id, row_id, run_id=run_id, now=now)
    for owned in OWNED_BY.get(entity.product, ()):
        rows += await owned.tombstone(conn, item_id, row_id, run_id=run_id, now=now)
    if entity.product in OWNED_BY:
        await account_walks.reset_owner(conn, item_id, row_id)
    return rows


async def tombstone_all(conn: Executor, item_id: uuid.UUID, *, run_id: int, now: datetime) -> int:
    """Tombstone an item that Pluggy has deleted, and all it owns; returns how many rows."""
    rows = await items.tombstone_item(conn, item_id, run_id=run_id, now=now)
    for entity in ENTITIES.values():
        rows += await entity.tombstone(conn, item_id, item_id, run_id=run_id, now=now)
    return rows
