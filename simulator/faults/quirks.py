"""Unusual shapes that real data takes at times and that no contract promises."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
_TEXTS = ("description", "name", "fullName", "productName", "marketingName")
_DATES = ("date", "dueDate", "tradeDate")
_ENUMS = ("status", "type", "subtype", "operationType", "executionStatus")
_SHAPES: tuple[Callable[[str], str], ...] = (
    lambda date: f"{date}T00:00:00.000Z",
    lambda date: f"{date}T03:00:00.000Z",
    lambda date: f"{date}T14:31:07.123Z",
    lambda date: f"{date}T00:00:00",
    lambda date: date,
)


def novelty(row: Row, number: int) -> bool:
    """A field and enum values that no client has seen yet."""
    row["brandNewField"] = {"since": "2027", "values": [1, 2.5, None]}
    for name in _ENUMS:
        if isinstance(row.get(name), str):
            row[name] = f"NEW_{row[name]}"
    return True


def wrong_type(row: Row, number: int) -> bool:
    """payeeMCC as the string that it once was; elsewhere another number as a string."""
    metadata = row.get("creditCardMetadata")
    if isinstance(metadata, dict) and metadata.get("payeeMCC") is not None:
        metadata["payeeMCC"] = str(metadata["payeeMCC"])
        return True
    if isinstance(row.get("order"), int):
        row["order"] = str(row["order"])
        return True
    return False


def nul(row: Row, number: int) -> bool:
    """U+0000, which JSON allows and Postgres does not."""
    names = [name for name in _TEXTS if isinstance(row.get(name), str)]
    for name in names:
        row[name] = f"{row[name][:4]}\u0000{row[name][4:]}"
    return bool(names)


def date_shape(row: Row, number: int) -> bool:
    """Midnight, Brazilian midnight, a real time, no zone, a bare date: by `number`."""
    names = [name for name in _DATES if isinstance(row.get(name), str)]
    for name in names:
        row[name] = _SHAPES[number % len(_SHAPES)](row[name][:10])
    return bool(names)


# Each changes one row, and returns whether there was anything to change.
QUIRKS: dict[str, Callable[[Row, int], bool]] = {
    "novelty": novelty,
    "wrong_type": wrong_type,
    "nul": nul,
    "date_shape": date_shape,
}
