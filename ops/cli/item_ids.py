"""Lists of item ids from files: one id a line, CSV with an itemId column, or JSON."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from worker.infra.parsing import parse_uuid

COLUMN: Final = "itemid"
DELIMITERS: Final = ",;\t"
"""Spreadsheets write a semicolon where the comma is the decimal sign, as in Brazil."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the list; item_id is None if it holds no UUID."""

    number: int
    text: str
    item_id: uuid.UUID | None


def read_ids(lines: Iterable[str]) -> Iterator[Line]:
    """Read a list, whichever form it has; empty lines are passed over."""
    numbered = enumerate(lines, start=1)
    number, first = next(((n, line) for n, line in numbered if line.strip()), (0, ""))
    rest = (line for _, line in numbered)
    if first.lstrip().startswith(("[", "{")):
        yield from _read_json("".join(chain([first], rest)))
        return
    if (delimiter := _delimiter(first)) is not None:
        yield from _read_csv(number, first, rest, delimiter)
        return
    for offset, line in enumerate(chain([first], rest)):
        if line.strip():
            yield _line(number + offset, line, line)


def _read_json(text: str) -> Iterator[Line]:
    """Ids, or objects with an itemId, in a list or below `items`; numbered from one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Line(1, f"no JSON: {type(error).__name__}", None)
        return
    found = found.get("items") if isinstance(found, dict) else found
    entries = found if isinstance(found, list) else [found]
    for number, entry in enumerate(entries, start=1):
        yield _line(number, str(entry), str(_named(entry) if isinstance(entry, dict) else entry))


def _named(entry: dict[str, Any]) -> Any:
    return next((value for key, value in entry.items() if _key(key) == COLUMN), None)


def _read_csv(number: int, header: str, rows: Iterable[str], delimiter: str) -> Iterator[Line]:
    column = [_key(cell) for cell in _cells(header, delimiter)].index(COLUMN)
    reader = csv.reader(rows, delimiter=delimiter)
    for row in _rows(reader):
        if row:
            cell = row[column] if column < len(row) else ""
            yield _line(number + reader.line_num, delimiter.join(row), cell)


def _rows(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Rows; one that no CSV has, such as a quote that is never closed, is a row without an id."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield [str(error)]


def _delimiter(header: str) -> str | None:
    """What separates the columns of a CSV whose header names an itemId, else None."""
    return next((d for d in DELIMITERS if COLUMN in map(_key, _cells(header, d))), None)


def _key(name: str) -> str:
    """A column's name or a key, compared without case and underscores: item_id is itemId."""
    return name.replace("_", "").lower()


def _cells(line: str, delimiter: str) -> list[str]:
    first = next(_rows(csv.reader([line], delimiter=delimiter)), [])
    return [cell.strip() for cell in first]


def _line(number: int, text: str, cell: str) -> Line:
    return Line(number, text.strip(), parse_uuid(cell.strip()))
