"""Storage of a page of rows: writes only what differs, and sets bad rows aside one by one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from worker.entities.declaration import Entity, LoadHashes
from worker.infra.postgres import Connection, Pool
from worker.infra.tasks import end
from worker.infra.time_slices import batches
from worker.lease.lease import SyncSession
from worker.planner.state import WHOLE_ITEM, StoredItem
from worker.store import rejected_rows
from worker.store.rows import StoredVersion
from worker.sync.copied_rows import MIN_COPIED, REFUSED_ROW, copy_new
from worker.sync.mapped_rows import Mapped, RowMapper
from worker.sync.page_rows import Rejected, Row, compute_hashes
from worker.sync.schema_drift import note_novelties

T = TypeVar("T")
Versions: TypeAlias = Mapping[int, StoredVersion]
"""By their ids as numbers: Python computes the hash of a UUID slowly, and each time."""

STALE_READ: Final = timedelta(minutes=10)
"""An older answer within this time of our write is a lagging replica's; later it is Pluggy's word.
"""

BATCH_SIZE: Final = 500
"""Rows per statement: a full page of transactions."""


MIN_HASHED: Final = 200
"""Rows: of fewer, the second round trip for those that differ costs more than it saves."""


async def store_rows(
    conn: Connection,
    session: SyncSession,
    entity: Entity,
    rows: Sequence[Row],
    rejected: Sequence[Rejected] = (),
    *,
    scope_id: uuid.UUID = WHOLE_ITEM,
    owner_columns: Mapping[str, Any] | None = None,
    stored: Versions | None = None,
) -> set[uuid.UUID]:
    """Write rows that differ, in the page's transaction, and count them in the claim's run.

    Returns the ids that were shown without being stored: of unreadable and of older rows.
    owner_columns: columns that Pluggy's rows do not carry, such as the investment of its rows.
    stored: the versions that are stored of all rows; None: they are loaded.
    """
    unkept, older = list(rejected), set[uuid.UUID]()
    for batch in batches(rows, BATCH_SIZE):
        found = await load_stored(conn, session, entity, batch) if stored is None else stored
        unkept += await _store_batch(
            conn, session, entity, batch, owner_columns or {}, older, found
        )
    await _set_aside(conn, session, entity, scope_id, unkept)
    session.run.counts.seen += len(rows) + len(rejected)
    return older.union(r.id for r in unkept if r.id is not None)


async def in_page(
    session: SyncSession,
    write: Callable[[Connection], Awaitable[T]],
    *,
    fence: Callable[[Connection], Awaitable[None]] | None = None,
) -> T:
    """Write a page that most likely holds no row that Postgres refuses: without savepoints.

    If it does, it is written again with them. fence: as for SyncSession.page().
    """
    counts = replace(session.run.counts)
    session.savepoints = False
    try:
        async with session.page(fence=fence) as conn:
            return await write(conn)
    except REFUSED_ROW:
        session.run.counts = counts
    finally:
        session.savepoints = True
    async with session.page(fence=fence) as conn:
        return await write(conn)


def are_stored(session: SyncSession, entity: Entity, rows: Sequence[Row], stored: Versions) -> bool:
    """Whether all rows are stored as they are; then they are counted.

    A look outside of a transaction: what is done because of it has to check the lease.
    """
    if rows and session.has_rejected:
        return False
    if not all(_equals(entity, row, stored) for row in rows):
        return False
    session.run.counts.seen += len(rows)
    session.run.counts.unchanged += len(rows)
    return True


async def _store_batch(
    conn: Connection,
    session: SyncSession,
    entity: Entity,
    rows: Sequence[Row],
    owner_columns: Mapping[str, Any],
    older: set[uuid.UUID],
    stored: Versions,
) -> list[Rejected]:
    """Write rows that differ; returns rows that could not be written, and adds to older ones."""
    differing = new = _differing(session, entity, rows, stored)
    if stored:
        new = [row for row in differing if row.id.int not in stored]
    mapper = await copy_new(conn, session, entity, new, owner_columns)
    if mapper is not None:
        differing = [row for row in differing if row.id.int in stored] if stored else []
    else:
        mapper = RowMapper(entity, session.zone, owner_columns)
    readable = await mapper.readable(differing)
    changed = [row for row in readable if not _is_older(session, row, stored.get(row.id.int))]
    mapped = await mapper.mapped(changed)
    await note_novelties(
        conn, session.run, entity.product, mapper.novel, request_id=session.pluggy.request_id
    )
    await _count_explained(conn, session, entity, mapped)
    unkept = [*mapper.rejected, *await _upsert(conn, session, entity, mapped)]
    if len(changed) < len(readable):
        older |= {row.id for row in readable} - {row.id for row in changed}
    if session.has_rejected:
        # Unchanged rows are accepted too.
        kept = {row.id for row in rows} - {r.id for r in unkept} - older
        await rejected_rows.accept_rejected_rows(
            conn, session.item_id, entity.product, ids=list(kept)
        )
    return unkept


async def _count_explained(
    conn: Connection, session: SyncSession, entity: Entity, mapped: Sequence[Mapped]
) -> None:
    """Count rows whose change is no drift, while a verify reads them."""
    if entity.count_explained is None or session.run.drift_of is None or not mapped:
        return
    rows = msgspec.json.encode([row.document({}, entity.version) for row, _ in mapped])
    session.run.counts.balances_alone += await entity.count_explained(
        conn, session.item_id, rows=rows.decode()
    )


async def load_stored(
    conn: Connection | Pool, session: SyncSession, entity: Entity, rows: Sequence[Row]
) -> Versions:
    """What is stored of rows, tombstones included; not of many rows that are marked as stored."""
    if entity.load_hashes is not None and len(rows) >= MIN_HASHED:
        rows = await _others_stored(conn, session, entity, entity.load_hashes, rows)
    if not rows:
        return {}
    loading = entity.load_versions(conn, session.item_id, ids=[row.id for row in rows])
    found = await (loading if len(rows) < MIN_COPIED else _hashing_meanwhile(loading, rows))
    return by_number(found)


async def _others_stored(
    conn: Connection | Pool,
    session: SyncSession,
    entity: Entity,
    load_hashes: LoadHashes,
    rows: Sequence[Row],
) -> Sequence[Row]:
    """Mark rows that are stored as they are; returns those that are stored otherwise."""
    ids = [row.id for row in rows]
    loading = load_hashes(conn, session.item_id, ids=ids, version=entity.version)
    others: list[Row] = []
    for stored in await _hashing_meanwhile(loading, rows):
        row = rows[stored.place]
        row.is_stored = stored.row_hash == row.hash
        if not row.is_stored:
            others.append(row)
    return others


def by_number(found: Iterable[StoredVersion]) -> Versions:
    """Versions by the ids of their rows."""
    return {version.id.int: version for version in found}


async def _hashing_meanwhile(loading: Awaitable[T], rows: Sequence[Row]) -> T:
    """Await an answer of Postgres; the hashes of the rows are computed until it is there."""
    answer = asyncio.ensure_future(loading)
    try:
        await asyncio.sleep(0)
        await compute_hashes(rows)
        return await answer
    finally:
        await end(answer)


def _differing(
    session: SyncSession, entity: Entity, rows: Sequence[Row], stored: Versions
) -> list[Row]:
    """Rows that are not stored as they are, counted; the others need not even be decoded."""
    differing = [row for row in rows if not _equals(entity, row, stored)]
    counts = session.run.counts
    counts.unchanged += len(rows) - len(differing)
    counts.mapped_again += sum(_is_mapped_again(row, stored.get(row.id.int)) for row in differing)
    return differing


def _is_mapped_again(row: Row, stored: StoredVersion | None) -> bool:
    """Whether only what this service makes of a row differs."""
    return stored is not None and stored.deleted_at is None and stored.row_hash == row.hash


def _equals(entity: Entity, row: Row, stored: Versions) -> bool:
    if row.is_stored:
        return True
    version = stored.get(row.id.int)
    return (
        version is not None
        and version.row_hash == row.hash
        and version.deleted_at is None
        and version.missing_since is None
        and version.row_version >= entity.version
    )


def _is_older(session: SyncSession, row: Row, stored: StoredVersion | None) -> bool:
    older = stored is not None and is_stale(session, row, stored)
    session.run.counts.older_skipped += older
    return older


def is_stale(session: SyncSession, row: Row, stored: StoredVersion | StoredItem) -> bool:
    """Whether an answer is older than the stored row. With equal times the answer wins.

    It also wins over a stored time in the future, which cannot be when the row was updated.
    """
    source, updated_at = row.updated_at, stored.source_updated_at
    if source is None or updated_at is None or updated_at > session.latest:
        return False
    recent = stored.changed_at > session.now - STALE_READ
    return source < updated_at and recent


async def _upsert(
    conn: Connection, session: SyncSession, entity: Entity, mapped: list[Mapped]
) -> list[Rejected]:
    """Write all rows in one statement; if Postgres refuses it, one by one to find bad rows.

    Without savepoints it raises REFUSED_ROW, which ends the transaction.
    """
    if not mapped:
        return []
    documents = [row.document(columns, entity.version) for row, columns in mapped]
    try:
        async with conn.transaction() if session.savepoints else nullcontext():
            text = msgspec.json.encode(documents).decode()
            written = await entity.upsert(
                conn, rows=text, item_id=session.item_id, run_id=session.run.id, now=session.now
            )
    except REFUSED_ROW as error:
        if not session.savepoints:
            raise
        if len(mapped) == 1:
            [(row, _)] = mapped
            return [Rejected(row.id, type(error).__name__, row.raw)]
        return [r for one in mapped for r in await _upsert(conn, session, entity, [one])]
    new = sum(row.is_new for row in written)
    session.run.counts.inserted += new
    session.run.counts.changed += len(written) - new
    return []


async def _set_aside(
    conn: Connection,
    session: SyncSession,
    entity: Entity,
    scope_id: uuid.UUID,
    rejected: Sequence[Rejected],
) -> None:
    if not rejected:
        return
    session.has_rejected = True
    session.run.note_odd(session.pluggy.request_id)
    session.run.counts.rejected += len(rejected)
    # Of an id that stands twice the last row is kept.
    rejected = list({r.row_id: r for r in rejected}.values())
    await rejected_rows.reject_rows(
        conn,
        session.item_id,
        entity.product,
        scope_id,
        run_id=session.run.id,
        row_ids=[r.row_id for r in rejected],
        reasons=[r.reason for r in rejected],
        bodies=[r.body for r in rejected],
    )
