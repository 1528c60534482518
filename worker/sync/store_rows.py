"""Storage of a page of rows: writes only what differs, and sets bad rows aside one by one."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from worker.entities.declaration import Entity
from worker.infra.parsing import parse_uuid
from worker.infra.postgres import Connection
from worker.infra.time_slices import batches, yielding_to_others
from worker.lease.lease import SyncSession
from worker.planner.state import WHOLE_ITEM
from worker.pluggy_api.errors import PluggyUnavailable
from worker.pluggy_api.payloads import Unreadable, decode_heads, decode_id, decode_object, row_hash
from worker.pluggy_api.values import UnreadableRow, moment
from worker.store import rejected_rows
from worker.store.entities.items import ItemVersion
from worker.store.rows import StoredVersion
from worker.sync.schema_drift import note_novelties

STALE_READ: Final = timedelta(minutes=10)
"""An older answer within this time of our write is a lagging replica's; later it is Pluggy's word.
"""

BATCH_SIZE: Final = 500
"""Rows per statement: a full page of transactions."""
HEADS_BATCH_SIZE: Final = 100
"""Rows whose heads are decoded at once: about 0.3 ms of the event loop."""


class Row(msgspec.Struct):
    """A row of a page: what says whether it has changed, and its fields once they are needed."""

    id: uuid.UUID
    raw: bytes
    hash: bytes
    decoded: Mapping[str, Any] | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        """The whole row, decoded once. Raises Unreadable."""
        if self.decoded is None:
            self.decoded = decode_object(self.raw)
        return self.decoded

    @property
    def updated_at(self) -> datetime | None:
        """Pluggy's own time of the last change, where the entity has one."""
        return moment(self.fields.get("updatedAt"))

    def document(self, columns: dict[str, Any], version: int) -> dict[str, Any]:
        """The row as upserts take it: its mapped columns, and those that every row has."""
        return columns | {
            "id": self.id,
            "payload": msgspec.Raw(self.raw),
            "row_hash": "\\x" + self.hash.hex(),
            "row_version": version,
        }


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row set aside; reason names fields, never values. id is None if even that is unreadable."""

    id: uuid.UUID | None
    reason: str
    body: bytes

    @property
    def row_id(self) -> str:
        """The row's id, or a hash of its body where it has none."""
        return row_hash(self.body).hex() if self.id is None else str(self.id)


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows that an answer listed, unreadable ones included; nameless: some had no readable id."""

    ids: frozenset[uuid.UUID]
    nameless: bool

    @classmethod
    def of(cls, rows: Sequence[Row], rejected: Sequence[Rejected]) -> Listed:
        """All rows of an answer."""
        named = {row.id for row in rows} | {r.id for r in rejected if r.id is not None}
        return cls(frozenset(named), any(r.id is None for r in rejected))

    def among(self, asked: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """The ids that came back, or may have: a row without an id may be any of them."""
        return set(asked) if self.nameless else set(self.ids.intersection(asked))


class RowsOfAnother(PluggyUnavailable):
    """A row names an owner that was not asked for: then the whole page is not ours."""

    def __init__(self, owner_key: str, named: uuid.UUID) -> None:
        super().__init__(f"rows_of_another_{owner_key}")
        self.named = named


async def read_rows(
    page: Sequence[msgspec.Raw],
    *,
    owner_key: str,
    owner: uuid.UUID,
    inner_id: uuid.UUID | None = None,
) -> tuple[list[Row], list[Rejected]]:
    """Split a page into rows and rejects; of rows with the same id the newer wins.

    Of ordinary rows only the heads are decoded: most pages hold nothing new. inner_id: the other id
    that rows may name as their owner (see inner_items.py). Raises RowsOfAnother.
    """
    if inner_id is None:
        ordinary = await _rows_by_head(page, owner_key, owner)
        if ordinary is not None:
            return ordinary, []
    rows: dict[uuid.UUID, Row] = {}
    rejected: list[Rejected] = []
    async for raw in yielding_to_others(map(bytes, page)):
        try:
            row = _read_row(raw)
        except (Unreadable, UnreadableRow) as error:
            rejected.append(Rejected(parse_uuid(decode_id(raw)), str(error), raw))
            continue
        named = parse_uuid(row.fields.get(owner_key))
        if named is not None and named not in (owner, inner_id):
            raise RowsOfAnother(owner_key, named)
        rows[row.id] = _newer(rows.get(row.id), row)
    return list(rows.values()), rejected


async def _rows_by_head(
    page: Sequence[msgspec.Raw], owner_key: str, owner: uuid.UUID
) -> list[Row] | None:
    """The rows, undecoded; None if a head is odd, names another owner or stands twice."""
    rows: dict[uuid.UUID, Row] = {}
    owners = {None, str(owner)}
    async for batch in yielding_to_others(batches(page, HEADS_BATCH_SIZE)):
        heads = decode_heads(batch, owner_key)
        if heads is None or not owners.issuperset([head.owner for head in heads]):
            return None
        for head, raw in zip(heads, map(bytes, batch), strict=True):
            rows[head.id] = Row(head.id, raw, row_hash(raw))
    return list(rows.values()) if len(rows) == len(page) else None


def _newer(first: Row | None, second: Row) -> Row:
    """The newer by Pluggy's time; the second if the times are unknown or equal."""
    if first is None or first.updated_at is None or second.updated_at is None:
        return second
    return first if first.updated_at > second.updated_at else second


def _read_row(raw: bytes) -> Row:
    fields = decode_object(raw)
    row_id = parse_uuid(fields.get("id"))
    if row_id is None:
        raise UnreadableRow("id is no UUID")
    return Row(row_id, raw, row_hash(raw), fields)


async def store_rows(
    conn: Connection,
    session: SyncSession,
    entity: Entity,
    rows: Sequence[Row],
    rejected: Sequence[Rejected] = (),
    *,
    scope_id: uuid.UUID = WHOLE_ITEM,
    owner_columns: Mapping[str, Any] | None = None,
) -> set[uuid.UUID]:
    """Write rows that differ, in the page's transaction, and count them in the claim's run.

    Returns the ids that were shown without being stored: of unreadable and of older rows.
    owner_columns: columns that Pluggy's rows do not carry, such as the investment of its rows.
    """
    unkept, older = list(rejected), set[uuid.UUID]()
    for batch in batches(rows, BATCH_SIZE):
        unkept += await _store_batch(conn, session, entity, batch, owner_columns or {}, older)
    await _set_aside(conn, session, entity, scope_id, unkept)
    session.run.counts.seen += len(rows) + len(rejected)
    return older.union(r.id for r in unkept if r.id is not None)


async def _store_batch(
    conn: Connection,
    session: SyncSession,
    entity: Entity,
    rows: Sequence[Row],
    owner_columns: Mapping[str, Any],
    older: set[uuid.UUID],
) -> list[Rejected]:
    """Write rows that differ; returns rows that could not be written, and adds to older ones."""
    stored = await _stored_versions(conn, session, entity, rows)
    differing = [row for row in rows if not _is_same(session, entity, row, stored.get(row.id))]
    readable, unreadable = await _readable(differing)
    changed = [row for row in readable if not _is_older(session, row, stored.get(row.id))]
    await note_novelties(
        conn,
        session.run,
        entity.product,
        [row.fields for row in changed],
        request_id=session.pluggy.request_id,
    )
    documents, unmappable = await _documents(session, entity, changed)
    for document in documents:
        document.update(owner_columns)
    await _count_explained(conn, session, entity, documents)
    unkept = [*unreadable, *unmappable, *await _upsert(conn, session, entity, documents)]
    older |= {row.id for row in readable} - {row.id for row in changed}
    if session.has_rejected:
        # Unchanged rows are accepted too.
        kept = {row.id for row in rows} - {r.id for r in unkept} - older
        await rejected_rows.accept_rejected_rows(
            conn, session.item_id, entity.product, ids=list(kept)
        )
    return unkept


async def _count_explained(
    conn: Connection, session: SyncSession, entity: Entity, documents: Sequence[dict[str, Any]]
) -> None:
    """Count rows whose change is no drift, while a verify reads them."""
    if entity.count_explained is None or session.run.drift_of is None or not documents:
        return
    compared = [{name: d[name] for name in ("id", "payload", "row_hash")} for d in documents]
    rows = msgspec.json.encode(compared)
    session.run.counts.balances_alone += await entity.count_explained(
        conn, session.item_id, rows=rows.decode()
    )


async def _stored_versions(
    conn: Connection, session: SyncSession, entity: Entity, rows: Sequence[Row]
) -> dict[uuid.UUID, StoredVersion]:
    ids = [row.id for row in rows]
    found = await entity.load_versions(conn, session.item_id, ids=ids)
    return {version.id: version for version in found}


def _is_same(session: SyncSession, entity: Entity, row: Row, stored: StoredVersion | None) -> bool:
    """Whether the row is stored as it is, so that it need not even be decoded."""
    if stored is None or stored.row_hash != row.hash or stored.deleted_at is not None:
        return False
    same = stored.missing_since is None and stored.row_version >= entity.version
    session.run.counts.unchanged += same
    session.run.counts.mapped_again += not same
    return same


async def _readable(rows: Sequence[Row]) -> tuple[list[Row], list[Rejected]]:
    readable: list[Row] = []
    rejected: list[Rejected] = []
    async for row in yielding_to_others(rows):
        try:
            _ = row.fields
        except Unreadable as error:
            rejected.append(Rejected(row.id, str(error), row.raw))
        else:
            readable.append(row)
    return readable, rejected


def _is_older(session: SyncSession, row: Row, stored: StoredVersion | None) -> bool:
    older = stored is not None and is_stale(session, row, stored)
    session.run.counts.older_skipped += older
    return older


def is_stale(session: SyncSession, row: Row, stored: StoredVersion | ItemVersion) -> bool:
    """Whether an answer is older than the stored row. With equal times the answer wins.

    It also wins over a stored time in the future, which cannot be when the row was updated.
    """
    source, updated_at = row.updated_at, stored.source_updated_at
    if source is None or updated_at is None or updated_at > session.latest:
        return False
    recent = stored.changed_at > session.now - STALE_READ
    return source < updated_at and recent


async def _documents(
    session: SyncSession, entity: Entity, rows: Sequence[Row]
) -> tuple[list[dict[str, Any]], list[Rejected]]:
    documents: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    async for row in yielding_to_others(rows):
        try:
            columns = entity.mapper(row.fields, session.zone)
        except UnreadableRow as error:
            rejected.append(Rejected(row.id, str(error), row.raw))
            continue
        documents.append(row.document(columns, entity.version))
    return documents, rejected


async def _upsert(
    conn: Connection, session: SyncSession, entity: Entity, documents: list[dict[str, Any]]
) -> list[Rejected]:
    """Write all rows in one statement; if Postgres refuses it, one by one to find bad rows."""
    if not documents:
        return []
    try:
        async with conn.transaction():
            text = msgspec.json.encode(documents).decode()
            written = await entity.upsert(
                conn, rows=text, item_id=session.item_id, run_id=session.run.id, now=session.now
            )
    except (
        asyncpg.DataError,
        asyncpg.ProgramLimitExceededError,
        asyncpg.IntegrityConstraintViolationError,
    ) as error:
        if len(documents) == 1:
            document = documents.pop()
            body = bytes(document["payload"])
            return [Rejected(document["id"], type(error).__name__, body)]
        rejected: list[Rejected] = []
        for document in list(documents):
            alone = [document]
            rejected += await _upsert(conn, session, entity, alone)
            if not alone:
                documents.remove(document)
        return rejected
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
