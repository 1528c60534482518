"""The header of a statement: its parameters, what it returns, which columns may be null.

-- name: settle_item
-- params: item_id, due_at?, reasons[?]
-- returns: one? Settled
-- nullable: due_at, error_id
-- Prose, which becomes the docstring.

params: in the order of $1, $2, ...; `?`: may be null; `? = null`: and is so unless it is given;
`[?]`: an array with entries that may be null.
returns: none, count, value, values, one or many; `?`: there may be none. Then the row's name.
nullable: columns that may be null; `*` stands for all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

KEYS: Final = ("params", "returns", "nullable")
RETURNS: Final = re.compile(r"(?:(none|count|value\??|values)|(one\??|many) ([A-Z]\w+))")
PARAM: Final = re.compile(r"([a-z][a-z0-9_]*)(\[\?\])?(\?)?( = null)?")
CONTINUED: Final = "    "


class HeaderError(ValueError):
    """A header that cannot be read or does not fit its statement; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter as the header names it."""

    name: str
    nullable: bool
    nullable_entries: bool
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """What the comment above a statement says of it."""

    params: tuple[Param, ...]
    returns: str
    row: str | None
    nullable: frozenset[str]
    prose: str


def parse_header(name: str, text: str) -> Header:
    """Read the comment lines above a statement. Raises HeaderError."""
    above = takewhile(lambda line: line.startswith("--"), text.splitlines()[1:])
    found, prose = _split([line[3:] for line in above])
    returns = RETURNS.fullmatch(found["returns"])
    if returns is None:
        raise HeaderError(f"{name}: returns {found['returns'] or 'is missing'}")
    return Header(
        params=tuple(_param(name, entry) for entry in _entries(found["params"])),
        returns=returns[1] or returns[2],
        row=returns[3],
        nullable=frozenset(_entries(found["nullable"])),
        prose=" ".join(prose),
    )


def _split(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    found, prose, last = dict.fromkeys(KEYS, ""), list[str](), ""
    for line in lines:
        key, _, value = line.partition(": ")
        if key in KEYS:
            found[key], last = value, key
        elif last and line.startswith(CONTINUED):
            found[last] += " " + line.strip()
        else:
            prose.append(line.strip())
            last = ""
    return found, prose


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _param(name: str, entry: str) -> Param:
    match = PARAM.fullmatch(entry)
    if match is None or (match[4] and not match[3]):
        raise HeaderError(f"{name}: parameter {entry}")
    return Param(match[1], bool(match[3]), bool(match[2]), bool(match[4]))
