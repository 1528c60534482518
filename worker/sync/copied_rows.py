"""New rows of a page by COPY: Postgres writes one part while the next is decoded and mapped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import asyncpg

from worker.entities.declaration import Entity
from worker.infra import binary_copy
from worker.infra.binary_copy import bigint, bytea, encoded, jsonb, smallint, uuid_
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.sync.mapped_rows import Mapped, RowMapper
from worker.sync.page_rows import Row

MIN_COPIED: Final = 50
"""New rows: with fewer, the round trips of a COPY cost more than it saves."""
OWN_COLUMNS: Final = (
    *("item_id", "first_seen_at", "changed_at", "row_version", "run_id"),
    *("id", "row_hash", "payload"),
)
"""Columns of every entity, before those of its mapper."""
REFUSED_ROW: Final = (
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.IntegrityConstraintViolationError,
)


async def copy_new(
    conn: Connection,
    session: SyncSession,
    entity: Entity,
    new: Sequence[Row],
    owner_columns: Mapping[str, Any],
) -> RowMapper | None:
    """Write new rows by COPY, which is half the work for Postgres, if they are many.

    Returns what has mapped them; None: they are few, or one is refused and none is written.
    Without savepoints it raises REFUSED_ROW, which ends the transaction.
    """
    if entity.fields is None or len(new) < MIN_COPIED:
        return None
    mapper = RowMapper(entity, session.zone, owner_columns)
    try:
        async with conn.transaction() if session.savepoints else nullcontext():
            session.run.counts.inserted += await _copy(conn, session, mapper, new)
    except REFUSED_ROW:
        if not session.savepoints:
            raise
        return None
    return mapper


async def _copy(
    conn: Connection, session: SyncSession, mapper: RowMapper, new: Sequence[Row]
) -> int:
    """Map and write new rows; returns how many could be mapped."""
    parts = mapper.parts(new)
    first = await anext(parts, None)
    if first is None:
        return 0
    done = await conn.copy_to_table(
        mapper.entity.product,
        schema_name="pluggy",
        columns=(*OWN_COLUMNS, *first[0].columns),
        source=_source(session, mapper.entity, first, parts),
        format="binary",
    )
    return int(done.removeprefix("COPY "))


async def _source(
    session: SyncSession,
    entity: Entity,
    first: Sequence[Mapped],
    others: AsyncIterator[Sequence[Mapped]],
) -> AsyncIterator[bytes]:
    same = [*encoded([session.item_id, session.now, session.now]), smallint(entity.version)]
    columns = len(OWN_COLUMNS) + len(first[0].columns)
    start = b"".join([binary_copy.row_start(columns), *same, bigint(session.run.id)])
    yield binary_copy.HEADER + _encoded(start, first)
    async for part in others:
        yield _encoded(start, part)
    yield binary_copy.TRAILER


def _encoded(start: bytes, part: Sequence[Mapped]) -> bytes:
    """Rows, each of which begins with what all begin with."""
    found: list[bytes] = []
    for row, columns in part:
        found += (start, uuid_(row.id), bytea(row.hash), jsonb(row.raw))
        found += encoded(columns.values())
    return b"".join(found)
