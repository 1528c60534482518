"""Rows as Postgres reads them in a binary COPY.

Encoded here, they can be sent part by part, so that Postgres writes one while the next is made:
asyncpg sends the records of a COPY when it has encoded half a MiB of them.
https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from struct import Struct, error
from typing import Any, Final

import asyncpg
from asyncpg.pgproto import pgproto

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"
MAX_EXPONENT: Final = 1000
"""Of a number: beyond it, it is refused rather than written as millions of digits."""
DIGITS: Final = 4
"""Decimal digits in one of a numeric."""
BASE: Final = 10**DIGITS
NEGATIVE: Final = 0x4000
_SHIFTS: Final = [10 ** (DIGITS - scale) for scale in range(DIGITS + 1)]
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
FIRST_DAY: Final = date(2000, 1, 1).toordinal()
MICROSECOND: Final = timedelta(microseconds=1)

_columns: Final = Struct("!h").pack
_size: Final = Struct("!i").pack
_uuid: Final = Struct("!i16s").pack
_int2: Final = Struct("!ih").pack
_int4: Final = Struct("!ii").pack
_int8: Final = Struct("!iq").pack
_money: Final = Struct("!i4h3h").pack


def row_start(columns: int) -> bytes:
    """What a row of so many columns begins with."""
    return _columns(columns)


def smallint(value: int) -> bytes:
    """A value of a smallint column."""
    return _int2(2, value)


def bigint(value: int) -> bytes:
    """A value of a bigint column."""
    return _int8(8, value)


def bytea(value: bytes) -> bytes:
    """A value of a bytea column."""
    return _size(len(value)) + value


def jsonb(text: bytes) -> bytes:
    """A value of a jsonb column, by its JSON."""
    return _size(len(text) + 1) + b"\1" + text


def encoded(values: Iterable[Any]) -> list[bytes]:
    """Values of text, uuid, numeric, timestamptz, date and integer columns, told by their types.

    Raises asyncpg.DataError, as asyncpg does for values that it cannot encode.
    """
    try:
        return [NULL if value is None else _ENCODERS[type(value)](value) for value in values]
    except (LookupError, TypeError, ValueError, ArithmeticError, error) as refused:
        raise asyncpg.DataError("a value that COPY cannot write") from refused


def _text(value: str) -> bytes:
    text = value.encode()
    return _size(len(text)) + text


def uuid_(value: uuid.UUID) -> bytes:
    """A value of a uuid column."""
    return _uuid(16, value.bytes)


def _numeric(value: Decimal) -> bytes:
    """Most are money: they are written as three digits of Postgres's, which leaves zeros out."""
    text = str(value)
    whole, _, fraction = text.partition(".")
    scale = len(fraction)
    if len(whole) > 2 * DIGITS or scale > DIGITS or "E" in text:
        return _long_numeric(value)
    number = int(whole + fraction)
    sign = 0
    if number < 0:
        sign, number = NEGATIVE, -number
    number *= _SHIFTS[scale]
    lower, last = number // BASE, number % BASE
    return _money(14, 3, 1, sign, scale, lower // BASE, lower % BASE, last)


def _long_numeric(value: Decimal) -> bytes:
    if abs(value.adjusted()) > MAX_EXPONENT:
        raise ValueError("too large or too small a number")
    whole, _, fraction = f"{value.copy_abs():f}".partition(".")
    text = "0" * (-len(whole) % DIGITS) + whole + fraction + "0" * (-len(fraction) % DIGITS)
    digits = [int(text[start : start + DIGITS]) for start in range(0, len(text), DIGITS)]
    count, weight = len(digits), -(-len(whole) // DIGITS) - 1
    sign = NEGATIVE if value.is_signed() else 0
    pack = Struct(f"!i4h{count}h").pack
    return pack(8 + 2 * count, count, weight, sign, len(fraction), *digits)


_ENCODERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    str: _text,
    uuid.UUID: uuid_,
    pgproto.UUID: uuid_,
    Decimal: _numeric,
    datetime: lambda value: _int8(8, (value - EPOCH) // MICROSECOND),
    date: lambda value: _int4(4, value.toordinal() - FIRST_DAY),
    int: lambda value: _int4(4, value),
}
