"""Rules that derive a column's value from Pluggy's JSON, written independently of the worker's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from ops.compare.truth import TrueRow

Rule = Callable[[TrueRow, ZoneInfo], object]


def text(*path: str, otherwise: str | None = None) -> Rule:
    """A string; a number as its JSON text."""

    def rule(row: TrueRow, _: ZoneInfo) -> object:
        found = _dig(row, path)
        if isinstance(found, int | Decimal) and not isinstance(found, bool):
            return str(found)
        return found if isinstance(found, str) else otherwise

    return rule


def money(*path: str) -> Rule:
    """An exact amount."""
    return lambda row, _: _number(_dig(row, path))


def whole(*path: str) -> Rule:
    """A whole number that fits 32 bits."""

    def rule(row: TrueRow, _: ZoneInfo) -> object:
        number = _number(_dig(row, path))
        fits = number is not None and number == int(number) and abs(number) < 2**31
        return int(number) if number is not None and fits else None

    return rule


def moment(*path: str) -> Rule:
    """A time; without a zone it is UTC."""
    return lambda row, _: _time(_dig(row, path))


def day(*path: str) -> Rule:
    """The calendar day as it is written."""

    def rule(row: TrueRow, _: ZoneInfo) -> object:
        written = _dig(row, path)
        return date.fromisoformat(written[:10]) if isinstance(written, str) else None

    return rule


def identifier(*path: str) -> Rule:
    """A UUID."""

    def rule(row: TrueRow, _: ZoneInfo) -> object:
        found = _dig(row, path)
        return uuid.UUID(found) if isinstance(found, str) else None

    return rule


def listed_under() -> Rule:
    """The id of what the row is listed under, where the row itself does not say."""
    return lambda row, _: uuid.UUID(row.listed_under) if row.listed_under else None


def boolean(*path: str) -> Rule:
    """True or false."""

    def rule(row: TrueRow, _: ZoneInfo) -> object:
        found = _dig(row, path)
        return found if isinstance(found, bool) else None

    return rule


def texts(*path: str) -> Rule:
    """A list of strings."""
    return lambda row, _: _dig(row, path)


def posted_on(*path: str) -> Rule:
    """The day of a transaction: midnight UTC and times without a zone are dates that the bank gave
    as dates, everything else is a moment and has the day of the zone."""

    def rule(row: TrueRow, zone: ZoneInfo) -> object:
        written = str(_dig(row, path))
        parsed = datetime.fromisoformat(written)
        if parsed.tzinfo is None or written.endswith(("T00:00:00.000Z", "T00:00:00Z")):
            return date.fromisoformat(written[:10])
        return parsed.astimezone(zone).date()

    return rule


def _dig(row: TrueRow, path: tuple[str, ...]) -> Any:
    found: Any = row.fields
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _number(found: object) -> Decimal | None:
    if isinstance(found, bool) or not isinstance(found, int | Decimal | str):
        return None
    try:
        number = Decimal(found)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _time(written: object) -> datetime | None:
    if not isinstance(written, str):
        return None
    parsed = datetime.fromisoformat(written)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
