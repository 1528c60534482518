"""Rules that derive a column's value from Pluggy's JSON, written independently of the worker's."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final
from zoneinfo import ZoneInfo

from ops.compare.truth import TrueRow

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


KIND_OF_TYPE: Final[Mapping[str, Kind]] = {
    "text": text,
    "text[]": texts,
    "numeric": money,
    "integer": whole,
    "boolean": boolean,
    "uuid": identifier,
    "date": day,
    "timestamp with time zone": moment,
}
PREFIX: Final = "source_"
"""Of columns that have a twin of ours: source_created_at is Pluggy's createdAt."""


class Missing(Enum):
    """Why a row has no value: it has not the key, or the object that has it is null."""

    KEY = "key"
    OBJECT = "object"


class UnknownType(Exception):
    """The type of a column has no rule; KIND_OF_TYPE takes one."""


@dataclass(frozen=True, slots=True)
class Column:
    """Where Pluggy's JSON has a column's value, and how it is read.

    The first of the paths that is there counts; without one, it is the id that the row's list was
    asked for by. is_listed: the path is an exception, not spelled by the column's name.
    """

    paths: tuple[tuple[str, ...], ...]
    kind: Kind
    is_listed: bool

    def find(self, row: TrueRow) -> object:
        """The value in JSON, or why there is none."""
        if not self.paths:
            return row.listed_under
        found: object = Missing.KEY
        for path in self.paths:
            found = _at(path, row.fields)
            if found is not Missing.KEY:
                break
        return found

    def expected(self, found: object, zone: ZoneInfo) -> object:
        """What the column has to hold."""
        return self.kind(None if isinstance(found, Missing) else found, zone)


def column_rule(name: str, type_: str, path: str | None, kind: Kind | None) -> Column:
    """The rule of a column by its name and type; path and kind, where it is an exception.

    `merchant_cnpj` is read from `merchantCnpj` or `merchant.cnpj`. Raises UnknownType.
    """
    if type_ not in KIND_OF_TYPE:
        raise UnknownType(f"column {name} is of type {type_}, which ops/compare/rules.py lacks")
    kind = kind or KIND_OF_TYPE[type_]
    if path is None:
        return Column(tuple(_paths(name.removeprefix(PREFIX).split("_"))), kind, is_listed=False)
    return Column((tuple(path.split(".")),) if path else (), kind, is_listed=True)


def _paths(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Paths that words may spell in camel case, the shortest first."""
    yield (_camel_case(words),)
    for end in range(len(words) - 1, 0, -1):
        for inner in _paths(words[end:]):
            yield (_camel_case(words[:end]), *inner)


def _camel_case(words: Sequence[str]) -> str:
    return words[0] + "".join(map(str.title, words[1:]))


def _at(path: Sequence[str], fields: object) -> object:
    found: Any = fields
    for key in path:
        if found is None:
            return Missing.OBJECT
        if not isinstance(found, dict) or key not in found:
            return Missing.KEY
        found = found[key]
    return found
