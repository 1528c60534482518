"""Convert Pluggy's JSON values to column values: tolerant types, exact money, times in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Final, TypeVar, get_args
from zoneinfo import ZoneInfo

import msgspec

from worker.infra.parsing import parse_time, parse_uuid

T = TypeVar("T")

MAX_INTEGER: Final = 2**31 - 1
MIDNIGHT: Final = time(0)
# Decimal() also takes underscores and other scripts' digits.
NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


class UnreadableRow(ValueError):
    """A required field is missing or invalid; the text is the reason, without any value."""


def text(value: object) -> str | None:
    """A string unchanged; a number as its JSON text (payeeMCC comes as both)."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return None


def money(value: object) -> Decimal | None:
    """An exact amount from a JSON number (or its text); None for anything else."""
    if value is None or isinstance(value, Decimal):
        return value if value is None or value.is_finite() else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def integer(value: object) -> int | None:
    """A whole number that fits the column, also as text or 3.0."""
    if value is None:
        return None
    if type(value) is int:
        return value if -MAX_INTEGER <= value <= MAX_INTEGER else None
    number = money(value)
    # Compared first: arithmetic on a number of a million digits would overflow.
    if number is None or not -MAX_INTEGER <= number <= MAX_INTEGER:
        return None
    if number != number.to_integral_value():
        return None
    return int(number)


def texts(value: object) -> list[str] | None:
    """The strings of a list; None if the value is not a list."""
    if not isinstance(value, list):
        return None
    return [entry for entry in value if isinstance(entry, str)]


def moment(value: object) -> datetime | None:
    """A time in UTC; without a zone it is taken as UTC."""
    return parse_time(value)


def day(value: object) -> date | None:
    """The calendar date as written: bills and cards have dates without a zone."""
    parsed = parse_time(value[:10]) if isinstance(value, str) else None
    return parsed.date() if parsed else None


def inner(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A nested object, or an empty one."""
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def required(value: T | None, reason: str) -> T:
    """A value that a row has to have. Raises UnreadableRow."""
    if value is None:
        raise UnreadableRow(reason)
    return value


def posted_on(written: object, zone: ZoneInfo, parsed: datetime | None = None) -> date:
    """The calendar day of a transaction; parsed: its time, if it is known. Raises UnreadableRow.

    Exactly midnight UTC, and times without a zone, are dates of the bank: taken as written, because
    a conversion would give the day before. Any other time is converted to the zone.
    Source: https://docs.pluggy.ai/docs/transactions, which mentions UTC only.
    """
    parsed = parsed or parse_time(written)
    if parsed is None or not isinstance(written, str):
        raise UnreadableRow("date is no time")
    # Most times are written in UTC: of these `parsed` says all.
    if _is_date(parsed if written[-1] == "Z" else datetime.fromisoformat(written.strip())):
        return parsed.date()
    try:
        return parsed.astimezone(zone).date()
    except OverflowError as error:
        raise UnreadableRow("date is beyond the calendar") from error


def _is_date(written: datetime) -> bool:
    """Whether the bank gave a date: no zone, or exactly midnight written as UTC."""
    return written.tzinfo is None or (
        written.time() == MIDNIGHT and written.utcoffset() == timedelta(0)
    )


def boolean(value: object) -> bool | None:
    """True or false; None for anything else."""
    return value if isinstance(value, bool) else None


class Fields(msgspec.Struct, rename="camel", gc=False):
    """The fields that a mapper reads, typed: `str | None`, `uuid.UUID | None`, `Any`, or Fields.

    A row without novelties is decoded into them at once, any other by fields_of().
    """


F = TypeVar("F", bound=Fields)


def fields_of(kind: type[F], row: Mapping[str, Any]) -> F:
    """Those of a row of any types: what cannot be converted is None; `Any` is as it is written."""
    return kind(**{name: convert(row.get(key)) for name, key, convert in _conversions(kind)})


@cache
def _conversions(kind: type[Fields]) -> list[tuple[str, str, Callable[[Any], Any]]]:
    fields = msgspec.structs.fields(kind)
    return [(field.name, field.encode_name, _conversion(field.type)) for field in fields]


def _conversion(kind: Any) -> Callable[[Any], Any]:
    if (within := fields_within(kind)) is not None:
        return lambda value: fields_of(within, value) if isinstance(value, dict) else None
    if kind is Any:
        return lambda value: value
    return text if str in get_args(kind) else parse_uuid


def fields_within(kind: Any) -> type[Fields] | None:
    """The Fields of `Fields | None`."""
    return next((of for of in get_args(kind) if issubclass(of, Fields)), None)


CONVERSIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    conversion.__name__: conversion
    for conversion in (text, texts, money, integer, boolean, day, moment)
}


def mapper(**columns: str) -> Callable[..., dict[str, Any]]:
    """A function from a row's JSON to its columns, for rows in which nothing is required.

    Each keyword is a conversion of this module with its columns, separated by blanks: `due_date` is
    read from the field `dueDate`; `cet=CET` and `level=creditData.level` name the field.
    """
    objects: dict[str, list[tuple[str, str, Callable[[Any], Any]]]] = {}
    for conversion, listed in columns.items():
        for column, _, path in (entry.partition("=") for entry in listed.split()):
            outer, _, field = (path or _camel_case(column)).rpartition(".")
            objects.setdefault(outer, []).append((column, field, CONVERSIONS[conversion]))

    def row(fields: Mapping[str, Any], _: ZoneInfo | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for outer, mapped in objects.items():
            read = (inner(fields, outer) if outer else fields).get
            for column, field, convert in mapped:
                found[column] = convert(read(field))
        return found

    return row


def _camel_case(column: str) -> str:
    first, *others = column.split("_")
    return first + "".join(map(str.title, others))
