"""Rows of a page as columns: read and mapped a slice at a time, odd ones set aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from worker.entities.declaration import Entity
from worker.infra.time_slices import batches, yielding_to_others
from worker.pluggy_api.payloads import Unreadable
from worker.pluggy_api.values import UnreadableRow
from worker.sync.page_rows import Rejected, Row
from worker.sync.schema_drift import read_familiar

PART_SIZE: Final = 50
"""Rows that are decoded, mapped and encoded at once: about 0.7 ms of the event loop."""
FIRST_PART_SIZE: Final = 10
"""Of a COPY: Postgres begins to write once it has these."""


class Mapped(NamedTuple):
    """A row that is to be written, and its columns."""

    row: Row
    columns: dict[str, Any]


@dataclass(slots=True)
class RowMapper:
    """Reads and maps rows of an entity. rejected: those that it could not; novel: fields of others.

    owner_columns: columns that Pluggy's rows do not carry.
    """

    entity: Entity
    zone: ZoneInfo
    owner_columns: Mapping[str, Any]
    rejected: list[Rejected] = field(default_factory=list)
    novel: list[Mapping[str, Any]] = field(default_factory=list)

    async def readable(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that can be decoded; they are from then on."""
        return [
            row
            async for part in yielding_to_others(batches(rows, PART_SIZE))
            for row in self._readable(part)
        ]

    async def mapped(self, rows: Sequence[Row]) -> list[Mapped]:
        """Readable rows with their columns."""
        return [
            one
            async for part in yielding_to_others(batches(rows, PART_SIZE))
            for one in self._mapped(part)
        ]

    async def parts(self, rows: Sequence[Row]) -> AsyncIterator[list[Mapped]]:
        """Rows with their columns, some at a time; what a part is used for is done between two."""
        first, others = rows[:FIRST_PART_SIZE], rows[FIRST_PART_SIZE:]
        sliced = chain([first], batches(others, PART_SIZE))
        async for part in yielding_to_others(sliced, slice_s=0):
            if mapped := self._mapped(self._readable(part)):
                yield mapped

    def _readable(self, rows: Sequence[Row]) -> list[Row]:
        undecoded = [row for row in rows if row.decoded is None]
        found = read_familiar(self.entity, [row.raw for row in undecoded])
        for row, fields in zip(undecoded, found, strict=True):
            row.decoded, row.is_familiar = fields, fields is not None
        return [row for row in rows if row.is_familiar or self._is_readable(row)]

    def _is_readable(self, row: Row) -> bool:
        try:
            _ = row.fields
        except Unreadable as error:
            self.rejected.append(Rejected(row.id, str(error), row.raw))
            return False
        return True

    def _mapped(self, rows: Sequence[Row]) -> list[Mapped]:
        mapped: list[Mapped] = []
        mapper, zone = self.entity.mapper, self.zone
        for row in rows:
            if not row.is_familiar:
                self.novel.append(row.decoded)
            try:
                columns = mapper(row.decoded, zone)
            except UnreadableRow as error:
                self.rejected.append(Rejected(row.id, str(error), row.raw))
                continue
            if self.owner_columns:
                columns.update(self.owner_columns)
            mapped.append(Mapped(row, columns))
        return mapped
