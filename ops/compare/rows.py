"""The comparison of the mirror with Pluggy, row by row and in both directions."""

from __future__ import annotations

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

from ops.compare.columns import Connection, Mirrored, load_tables
from ops.compare.rules import Missing
from ops.compare.truth import TrueRow, Truth

BATCH: Final = 500
MAX_SHOWN: Final = 20
"""So many differences are kept to be shown; all are counted."""

MISSING: Final = "missing"
EXTRA: Final = "extra"
DIFFERENT: Final = "different"
TOMBSTONED: Final = "tombstoned"
UNKNOWN: Final = "unknown column"
"""Kinds: not stored; live, not at Pluggy; stored with other values; a tombstone, yet at Pluggy; a
column whose name no row of Pluggy has as a key, so that nothing of it was compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not as Pluggy has it; columns by name only, never with their values."""

    kind: str
    entity: str
    item_id: str
    row_id: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = f" in {', '.join(self.columns)}" if self.columns else ""
        row = f" {self.row_id} of item {self.item_id}" if self.row_id else ""
        return f"{self.kind}{columns}: {self.entity}{row}"


@dataclass(slots=True)
class Comparison:
    """What was found: `rows` at Pluggy by entity, and how many differ by (entity, kind).

    has_key and lacks_key: (table, column) whose name a row of Pluggy had as a key, or had not.
    """

    max_shown: int = MAX_SHOWN
    as_of: datetime = field(default_factory=lambda: datetime.now(UTC))
    rows: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    shown: list[Difference] = field(default_factory=list)
    has_key: set[tuple[str, str]] = field(default_factory=set)
    lacks_key: set[tuple[str, str]] = field(default_factory=set)

    @property
    def mismatches(self) -> int:
        return self.counts.total()

    def note(self, difference: Difference) -> None:
        self.counts[difference.entity, difference.kind] += 1
        if len(self.shown) < self.max_shown:
            self.shown.append(difference)


async def compare(conn: Connection, truth: Truth, zone: ZoneInfo) -> Comparison:
    """Compare everything that is stored with everything that is at Pluggy.

    A row at Pluggy has to be live, with every typed column and the payload equal; a stored row
    that is not at Pluggy has to be a tombstone. Of the rows only their ids are remembered, of one
    item at a time. Raises TruthError, UnknownType, and errors of aiohttp and asyncpg.
    """
    found, mirrored = Comparison(), await load_tables(conn)
    items = await truth.items()
    for item_id in items:
        await compare_item(conn, item_id, truth.rows(item_id), zone, found, mirrored)
    for table in mirrored.values():
        await _note_extra_items(conn, table, found, items)
    for name, column in sorted(found.lacks_key - found.has_key):
        found.note(Difference(UNKNOWN, name, "", "", (column,)))
    return found


async def compare_item(
    conn: Connection,
    item_id: str,
    rows: AsyncIterator[TrueRow],
    zone: ZoneInfo,
    found: Comparison,
    mirrored: Mapping[str, Mirrored],
) -> None:
    """Note the differences of one item, of which these are Pluggy's rows; see `compare`."""
    seen: dict[str, set[bytes]] = {name: set() for name in mirrored}
    waiting: dict[str, list[TrueRow]] = defaultdict(list)
    async for row in rows:
        if row.entity not in mirrored:
            continue
        seen[row.entity].add(uuid.UUID(row.fields["id"]).bytes)
        waiting[row.entity].append(_storable(row))
        if len(waiting[row.entity]) == BATCH:
            batch = waiting.pop(row.entity)
            await _compare_batch(conn, mirrored[row.entity], batch, zone, found, item_id)
    for name, batch in waiting.items():
        await _compare_batch(conn, mirrored[name], batch, zone, found, item_id)
    for name, table in mirrored.items():
        await _note_extra_rows(conn, table, seen[name], found, item_id)


async def _compare_batch(
    conn: Connection,
    table: Mirrored,
    batch: Sequence[TrueRow],
    zone: ZoneInfo,
    found: Comparison,
    item_id: str,
) -> None:
    stored = await _load_mirror(conn, table, batch, item_id)
    found.rows[table.table] += len(batch)
    for row in batch:
        row_id = row.fields["id"]
        record = stored.get(row_id)
        if record is None:
            found.note(Difference(MISSING, table.table, item_id, row_id))
        elif record["tombstoned"]:
            found.note(Difference(TOMBSTONED, table.table, item_id, row_id))
        elif columns := tuple(_different(table, row, record, zone, found)):
            found.note(Difference(DIFFERENT, table.table, item_id, row_id, columns))


def _different(
    table: Mirrored, row: TrueRow, record: asyncpg.Record, zone: ZoneInfo, found: Comparison
) -> Iterable[str]:
    for column, rule in table.columns.items():
        value = rule.find(row)
        if not rule.is_listed and value is not Missing.OBJECT:
            keys = found.lacks_key if value is Missing.KEY else found.has_key
            keys.add((table.table, column))
        if record[f"stored_{column}"] != rule.expected(value, zone):
            yield column
    if not record["same_payload"]:
        yield "payload"


async def _load_mirror(
    conn: Connection, table: Mirrored, batch: Sequence[TrueRow], item_id: str
) -> dict[str, asyncpg.Record]:
    """Stored rows by id. Postgres compares the payloads: 1.50 is 1.5 to jsonb, true is not 1."""
    columns = ", ".join(f"t.{column} AS stored_{column}" for column in table.columns)
    records = await conn.fetch(
        # Names come from the database's catalogue.
        f"SELECT t.id, t.deleted_at IS NOT NULL AS tombstoned, {columns},"  # noqa: S608
        " t.payload = r.payload::jsonb - $4::text[] AS same_payload"
        " FROM unnest($2::uuid[], $3::text[]) AS r(id, payload)"
        f" JOIN pluggy.{table.table} t ON t.{table.owner} = $1 AND t.id = r.id",
        item_id,
        [row.fields["id"] for row in batch],
        [row.text for row in batch],
        list(table.left_out),
    )
    return {str(record["id"]): record for record in records}


async def _note_extra_rows(
    conn: Connection, table: Mirrored, seen: set[bytes], found: Comparison, item_id: str
) -> None:
    statement = (
        f"SELECT id FROM pluggy.{table.table}"  # noqa: S608 - catalogue
        f" WHERE {table.owner} = $1 AND deleted_at IS NULL"
    )
    async with conn.transaction(readonly=True):
        async for record in conn.cursor(statement, item_id, prefetch=BATCH):
            if record["id"].bytes not in seen:
                found.note(Difference(EXTRA, table.table, item_id, str(record["id"])))


async def _note_extra_items(
    conn: Connection, table: Mirrored, found: Comparison, items: Sequence[str]
) -> None:
    """Live rows of items that Pluggy does not have; those of ended items are kept on purpose."""
    statement = (
        f"SELECT {table.owner} AS item_id, id FROM pluggy.{table.table} t"  # noqa: S608 - catalogue
        f" WHERE deleted_at IS NULL AND {table.owner} <> ALL($1::uuid[])"
        f" AND NOT EXISTS (SELECT FROM pluggy.items i WHERE i.id = t.{table.owner}"
        " AND i.ended_at IS NOT NULL)"
    )
    async with conn.transaction(readonly=True):
        async for record in conn.cursor(statement, items, prefetch=BATCH):
            found.note(Difference(EXTRA, table.table, str(record["item_id"]), str(record["id"])))


_encoder = msgspec.json.Encoder(decimal_format="number")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def _storable(row: TrueRow) -> TrueRow:
    """The row as Postgres can hold it: U+0000 and lone surrogates are U+FFFD in the mirror."""
    if "\\u" not in row.text:
        return row
    fields = _clean(row.fields)
    return replace(row, text=_encoder.encode(fields).decode(), fields=fields)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    return value
