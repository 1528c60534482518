"""Items: stores the row of GET /items/{id}, and tombstones an item that Pluggy has deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import structlog

from worker.entities.items import (
    CONNECTOR_COLUMNS,
    ROW_VERSION,
    item_row,
)
from worker.infra.parsing import parse_uuid
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.lease.progress import Read
from worker.planner.freshness import latest_collection
from worker.planner.item_status import Item, later_of, read_item
from worker.planner.state import StoredItem
from worker.pluggy_api.errors import PluggyUnavailable
from worker.pluggy_api.payloads import decode_object, without_key
from worker.store.entities import items
from worker.sync.page_rows import Row
from worker.sync.schema_drift import note_novelties
from worker.sync.store_rows import is_stale
from worker.sync.tombstones import tombstone_all

log = structlog.get_logger()


async def fetch_item(session: SyncSession, stored: StoredItem | None) -> Item:
    """Fetch the item and store its row if it differs from the stored one.

    Nobody else writes the item while the lease is held that every write checks. Raises PluggyError,
    LeaseLost.
    """
    read = Read.begin(session, "items")
    body = await session.pluggy.item(session.item_id)
    # Every item includes its connector, which changes independently of the item.
    payload = without_key(body, "connector")
    fields = decode_object(body)
    if parse_uuid(fields.get("id")) != session.item_id:
        raise PluggyUnavailable("another_item")
    row, columns = Row(session.item_id, payload, decoded=fields), item_row(fields)
    counts = session.run.counts
    counts.seen += 1
    latest = latest_collection(session.pluggy.pluggy_now, session.now)
    item = read_item(
        fields,
        is_open_finance=columns["connector_is_open_finance"],
        connector_id=columns["connector_id"],
        latest=latest,
    )
    same = stored is not None and _same(row, columns, stored)
    if stored is not None and stored.deleted_at is None and is_stale(session, row, stored):
        counts.older_skipped += 1
        item = later_of(_stored(session, stored), item)
        same = True
    else:
        counts.unchanged += same
    read = replace(read, source_updated_at=item.last_updated_at)
    if same:
        await read.complete(session.db, found=True, fences=True)
        return item
    async with session.page(fence=partial(read.complete, fences=True)) as conn:
        request_id = session.pluggy.request_id
        await note_novelties(conn, session.run, "items", [fields], request_id=request_id)
        await _write(conn, session, row, columns)
        if stored is not None and stored.deleted_at is not None:
            await items.reset_reads(conn, session.item_id)
        counts.inserted += stored is None
        counts.changed += stored is not None
    return item


async def _write(conn: Connection, session: SyncSession, row: Row, columns: dict[str, Any]) -> None:
    text_of_row = msgspec.json.encode(row.document(columns, ROW_VERSION)).decode()
    await items.upsert_item(conn, row=text_of_row, run_id=session.run.id, now=session.now)


def _stored(session: SyncSession, stored: StoredItem) -> Item:
    fields = decode_object(stored.payload)
    return read_item(
        fields,
        is_open_finance=bool(stored.connector_is_open_finance),
        connector_id=stored.connector_id,
        latest=session.latest,
    )


def _same(row: Row, columns: Mapping[str, Any], stored: StoredItem) -> bool:
    """Whether the stored row is equal; the connector's columns, not in the payload, one by one."""
    return bool(
        stored.row_hash == row.hash
        and all(columns[name] == getattr(stored, name) for name in CONNECTOR_COLUMNS)
        and stored.deleted_at is None
        and stored.row_version >= ROW_VERSION
    )


async def settle_what_died(session: SyncSession) -> None:
    """Settle events that died because Pluggy did not know the item: its item/deleted explains them.

    Two statements, each in a transaction of its own, like all that change events.
    """
    token = session.lease.token
    await items.delete_unknown_item(session.db, session.item_id, token=token)
    await items.ignore_unknown_events(session.db, session.item_id, token=token)


async def tombstone_item(session: SyncSession) -> None:
    """Tombstone the item and all its rows; or keep them, where Pluggy withdrew its connector."""
    async with session.page() as conn:
        if await items.end_item(conn, session.item_id, run_id=session.run.id, now=session.now):
            session.run.counts.changed += 1
            log.info("item_ended")
            return
        session.run.counts.deleted += await tombstone_all(
            conn, session.item_id, run_id=session.run.id, now=session.now
        )
