"""Rules that derive a column's value from Pluggy's JSON, written independently of the worker's."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from ops.compare.truth import TrueRow

Rule = Callable[[TrueRow, ZoneInfo], object]
Kind = Callable[[Any, ZoneInfo], object]


def text(found: object, _: ZoneInfo) -> str | None:
    """A string; a number as its JSON text."""
    if isinstance(found, int | Decimal) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) else None


def status(found: object, zone: ZoneInfo) -> str:
    """The status of a transaction: POSTED where Pluggy says none."""
    said = text(found, zone)
    return "POSTED" if said is None else said


def texts(found: object, _: ZoneInfo) -> object:
    """A list of strings."""
    return found


def money(found: object, _: ZoneInfo) -> Decimal | None:
    """An exact amount."""
    if isinstance(found, bool) or not isinstance(found, int | Decimal | str):
        return None
    try:
        number = Decimal(found)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def whole(found: object, zone: ZoneInfo) -> int | None:
    """A whole number that fits 32 bits."""
    number = money(found, zone)
    fits = number is not None and number == int(number) and abs(number) < 2**31
    return int(number) if number is not None and fits else None


def boolean(found: object, _: ZoneInfo) -> bool | None:
    """True or false."""
    return found if isinstance(found, bool) else None


def identifier(found: object, _: ZoneInfo) -> uuid.UUID | None:
    """A UUID."""
    return uuid.UUID(found) if isinstance(found, str) else None


def day(found: object, _: ZoneInfo) -> date | None:
    """The calendar day as it is written."""
    return date.fromisoformat(found[:10]) if isinstance(found, str) else None


def moment(found: object, _: ZoneInfo) -> datetime | None:
    """A time; without a zone it is UTC."""
    if not isinstance(found, str):
        return None
    parsed = datetime.fromisoformat(found)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def posted_on(found: object, zone: ZoneInfo) -> date:
    """The day of a transaction.

    Midnight UTC and times without a zone are dates that the bank gave as dates; every other time
    is a moment, whose day is that of the zone.
    """
    written = str(found)
    parsed = datetime.fromisoformat(written)
    if parsed.tzinfo is None or written.endswith(("T00:00:00.000Z", "T00:00:00Z")):
        return date.fromisoformat(written[:10])
    return parsed.astimezone(zone).date()


def listed_under(row: TrueRow, _: ZoneInfo) -> uuid.UUID | None:
    """The id of the parent that the row is listed under, which the row itself does not carry."""
    return uuid.UUID(row.listed_under) if row.listed_under else None


KINDS: Final[Mapping[str, Kind]] = {
    kind.__name__: kind
    for kind in (text, status, texts, money, whole, boolean, identifier, day, moment, posted_on)
}


def rules(**columns: str) -> dict[str, Rule]:
    """Rules by column. Each keyword is a kind with its columns, separated by blanks.

    `due_date` is read from the key `dueDate`; `cet=CET` and `level=creditData.level` name the path.
    """
    return {
        column: _rule(KINDS[kind], (path or _camel_case(column)).split("."))
        for kind, listed in columns.items()
        for column, _, path in (entry.partition("=") for entry in listed.split())
    }


def _rule(kind: Kind, path: list[str]) -> Rule:
    def rule(row: TrueRow, zone: ZoneInfo) -> object:
        found: Any = row.fields
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return kind(found, zone)

    return rule


def _camel_case(column: str) -> str:
    first, *others = column.split("_")
    return first + "".join(map(str.title, others))
