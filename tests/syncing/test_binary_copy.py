"""Rows of a binary COPY: Postgres reads each value as asyncpg would have written it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.infra.binary_copy import (
    HEADER,
    TRAILER,
    bigint,
    bytea,
    encoded,
    jsonb,
    row_start,
    smallint,
)
from worker.infra.postgres import Connection, Pool

TABLE: Final = """
CREATE TEMPORARY TABLE copied (
    small smallint, big bigint, bytes bytea, document jsonb,
    id uuid, text text, number numeric, moment timestamptz, day date, whole integer
) ON COMMIT DROP
"""
TYPED: Final = ("id", "text", "number", "moment", "day", "whole")
NUMBERS: Final = [
    *("0", "-0.10", "0.0000", "12345.67", "-9999.9999", "10000", "0.00001", "1E+5", "-2.5E-7"),
    *("123456789012345678901234567890.123456789", "1E+1000", "1E-1000", "100000000.5"),
    *("99999999.9999", "-99999999.99", "-0.00", "0.12345", "7", "-1234567.8"),
]
rows = st.tuples(
    st.none() | st.uuids(),
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.none() | st.builds("{}E{}".format, st.integers(), st.integers(-30, 30)).map(Decimal),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.dates(),
    st.none() | st.integers(-(2**31), 2**31 - 1),
)


def written(number: Decimal) -> str:
    """As Postgres writes it: its zero has no sign."""
    return f"{number:f}" if number else f"{number:f}".removeprefix("-")


async def copied(conn: Connection, values: Sequence[Sequence[Any]]) -> list[asyncpg.Record]:
    """The rows as Postgres has read them."""

    async def source() -> AsyncIterator[bytes]:
        yield HEADER
        for row in values:
            own = (smallint(-2), bigint(2**40), bytea(b"\0\xff"), jsonb(b'{"a": 1}'))
            yield b"".join([row_start(4 + len(row)), *own, *encoded(row)])
        yield TRAILER

    async with conn.transaction():
        await conn.execute(TABLE)
        await conn.copy_to_table("copied", source=source(), format="binary")
        return await conn.fetch("SELECT *, number::text AS digits FROM copied")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, min_size=1, max_size=5))
@example([(None, "é" * 300, Decimal(text), None, None, None) for text in NUMBERS])
@example([(uuid.UUID(int=1), "", None, datetime.min.replace(tzinfo=UTC), date.min, -1)])
async def test_postgres_reads_values_as_they_are(db: Pool, values: list[tuple[Any, ...]]) -> None:
    async with db.acquire() as conn:
        found = await copied(conn, values)
    assert [tuple(row[name] for name in TYPED) for row in found] == values
    for row, (_, _, number, *_) in zip(found, values, strict=True):
        assert row["digits"] == (None if number is None else written(number))
        assert (row["small"], row["big"], row["bytes"]) == (-2, 2**40, b"\0\xff")
        assert row["document"] == '{"a": 1}'


@pytest.mark.parametrize(
    "value",
    [
        *(Decimal("1e1001"), Decimal("-1e-1001"), Decimal("NaN"), Decimal("-Infinity")),
        *(2**31, [1], datetime(2026, 1, 1), "\ud800"),  # noqa: DTZ001 - without a zone
    ],
)
def test_a_value_that_cannot_be_written_is_refused(value: Any) -> None:
    with pytest.raises(asyncpg.DataError):
        encoded([value])
