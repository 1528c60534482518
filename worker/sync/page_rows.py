"""Rows of a page: what an answer listed, read only as far as a comparison needs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec

from worker.infra.parsing import parse_uuid
from worker.infra.time_slices import batches, yielding_to_others
from worker.pluggy_api.errors import PluggyUnavailable
from worker.pluggy_api.payloads import Unreadable, decode_heads, decode_id, decode_object, row_hash
from worker.pluggy_api.values import UnreadableRow, moment

HEADS_BATCH_SIZE: Final = 100
"""Rows whose heads are decoded at once: about 0.3 ms of the event loop."""


class Row(msgspec.Struct, gc=False):
    """A row of a page: what says whether it has changed, and its fields once they are needed.

    decoded: what the mapper takes. is_familiar: it has no novelties; then that is Fields.
    is_stored: a comparison has found it stored as it is.
    """

    id: uuid.UUID
    raw: bytes
    _hash: bytes = b""
    decoded: Any = None
    is_familiar: bool = False
    is_stored: bool = False

    @property
    def hash(self) -> bytes:
        """What identifies this version of the row, computed once."""
        if not self._hash:
            self._hash = row_hash(self.raw)
        return self._hash

    @property
    def fields(self) -> Any:
        """The row, decoded once: a dict, or Fields if it is familiar. Raises Unreadable."""
        if self.decoded is None:
            self.decoded = decode_object(self.raw)
        return self.decoded

    @property
    def updated_at(self) -> datetime | None:
        """Pluggy's own time of the last change, where the entity has one."""
        fields = self.fields
        return moment(fields.updated_at if self.is_familiar else fields.get("updatedAt"))

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


@dataclass(frozen=True)
class Listed:
    """Rows that an answer listed, unreadable ones included."""

    rows: Sequence[Row]
    rejected: Sequence[Rejected]

    @cached_property
    def ids(self) -> frozenset[uuid.UUID]:
        """Their ids: of most pages nobody asks for them, and Python hashes a UUID slowly."""
        named = {row.id for row in self.rows} | {r.id for r in self.rejected if r.id is not None}
        return frozenset(named)

    @property
    def nameless(self) -> bool:
        """Whether some had no readable id."""
        return any(r.id is None for r in self.rejected)

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


async def compute_hashes(rows: Sequence[Row]) -> None:
    """Compute the hashes of rows, which is otherwise done when they are asked for."""
    async for batch in yielding_to_others(batches(rows, HEADS_BATCH_SIZE)):
        for row in batch:
            _ = row.hash


async def _rows_by_head(
    page: Sequence[msgspec.Raw], owner_key: str, owner: uuid.UUID
) -> list[Row] | None:
    """The rows, undecoded; None if a head is odd, names another owner or stands twice."""
    rows: list[Row] = []
    owners = {None, str(owner)}
    async for batch in yielding_to_others(batches(page, HEADS_BATCH_SIZE)):
        heads = decode_heads(batch, owner_key)
        if heads is None or not owners.issuperset([head.owner for head in heads]):
            return None
        rows += map(Row, [head.id for head in heads], map(bytes, batch))
    return rows if len({row.id.int for row in rows}) == len(rows) else None


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
    return Row(row_id, raw, decoded=fields)
