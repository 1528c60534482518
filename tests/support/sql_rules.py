"""Rules that keep sql/ fit for a sharded Postgres, where schema pluggy is distributed by item.

A statement is split into its queries: one for each SELECT, UPDATE, DELETE or INSERT, with the
tables that it names itself. Expressions in brackets belong to the query around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SHARDED, LOCAL = "pluggy", "pluggy_sync"
COMMENT_OR_TEXT: Final = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
QUERY: Final = re.compile(r"\s*(?:SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.I)
CTE: Final = re.compile(r"\bAS\s+(?:NOT\s+)?(?:MATERIALIZED\s+)?$", re.I)
SET_OPERATION: Final = re.compile(r"\b(?:UNION|INTERSECT|EXCEPT)\b(?:\s+ALL\b)?", re.I)
TABLE: Final = re.compile(
    r"(?<!::)(?P<into>\bINTO\s+)?\b(?P<schema>pluggy|pluggy_sync)\.(?P<name>\w+)\b(?!\s*\()"
    r"(?:\s+(?:AS\s+)?(?!(?:ON|SET|WHERE|JOIN|LEFT|CROSS|GROUP|ORDER|LIMIT|USING|RETURNING|FROM"
    r"|UNION|FOR|VALUES|WINDOW|DEFAULT|OFFSET|HAVING)\b)(?P<alias>[a-z_]\w*))?",
    re.I,
)
QUALIFIED: Final = re.compile(r"\b([a-z_]\w*)\.\w+")
REFERENCE_TABLES: Final = frozenset({"connectors", "categories"})
"""They are the same on every shard and belong to no item."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a query names; written: by INSERT, which joins nothing."""

    schema: str
    name: str
    alias: str
    inserted: bool


@dataclass(slots=True)
class Query:
    """One query of a statement; outer is None for the statement itself and for what WITH names."""

    text: str
    outer: Query | None
    inner: list[Query] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        return [
            Table(m["schema"], m["name"], m["alias"] or m["name"], bool(m["into"]))
            for m in TABLE.finditer(self.text)
        ]

    @property
    def joined(self) -> list[Table]:
        """Its own tables and those of outer queries that it refers to."""
        own = [table for table in self.tables if not table.inserted]
        return own + [table for table in self._referred() if own]

    def _referred(self) -> Iterator[Table]:
        known = {table.alias for table in self.tables}
        wanted = set(QUALIFIED.findall(self.text)) - known
        outer = self.outer
        while outer is not None:
            found = [table for table in outer.tables if table.alias in wanted]
            yield from found
            wanted -= {table.alias for table in found}
            outer = outer.outer


def queries(statement: str) -> list[Query]:
    """All queries of a statement, the outermost first."""
    bare = COMMENT_OR_TEXT.sub(lambda m: "''" if m[0][0] == "'" else " ", statement)
    return list(_all(_split(bare, None)))


def _all(found: list[Query]) -> Iterator[Query]:
    for query in found:
        yield query
        yield from _all(query.inner)


def _split(text: str, outer: Query | None) -> list[Query]:
    """The queries of one pair of brackets, one for each side of a UNION."""
    own, brackets = _own_text(text)
    found = [Query(side, outer) for side in SET_OPERATION.split(own)]
    for before, inside in brackets:
        is_cte = CTE.search(before) is not None
        place = min(len(SET_OPERATION.findall(before)), len(found) - 1)
        around = found[place]
        around.inner += _split(inside, None if is_cte else around)
    return found


def _own_text(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text without bracketed queries, and each of these with what stands before it."""
    own: list[str] = []
    brackets: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        if text[at] == "(" and QUERY.match(text, at + 1):
            end = _closing(text, at)
            brackets.append(("".join(own), text[at + 1 : end]))
            own.append("()")
            at = end + 1
        else:
            own.append(text[at])
            at += 1
    return "".join(own), brackets


def _closing(text: str, at: int) -> int:
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    raise ValueError("a bracket is not closed")


def writes_sharded(statement: str) -> bool:
    """Whether a statement inserts into, updates or deletes from schema pluggy."""
    bare = COMMENT_OR_TEXT.sub(" ", statement)
    return re.search(r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+pluggy\.", bare, re.I) is not None


def called(statement: str) -> set[str]:
    """Names of functions, and of anything else that stands before a bracket."""
    bare = COMMENT_OR_TEXT.sub(" ", statement)
    return {name.lower() for name in re.findall(r"\b(\w+)\s*\(", bare)}


def mixed_joins(statement: str) -> list[str]:
    """Queries that join a sharded table with a local one, as `pluggy.a with pluggy_sync.b`."""
    return [
        " with ".join(sorted(f"{t.schema}.{t.name}" for t in query.joined))
        for query in queries(statement)
        if {table.schema for table in query.joined} == {SHARDED, LOCAL}
    ]


def joins_without_item(statement: str) -> list[str]:
    """Tables of schema pluggy that a query joins with others of it, not by their item."""
    found: list[str] = []
    for query in queries(statement):
        owned = [t for t in query.joined if t.schema == SHARDED and t.name not in REFERENCE_TABLES]
        if len(owned) > 1 and not re.search(r"\bUSING\s*\(\s*item_id\b", query.text, re.I):
            found += [
                f"pluggy.{table.name}"
                for table in owned
                if table in query.tables and not _by_item(query.text, table)
            ]
    return found


def _by_item(text: str, table: Table) -> bool:
    """Whether its item is compared with something: another table's, or a parameter."""
    column = rf"\b{table.alias}\.{'id' if table.name == 'items' else 'item_id'}\b"
    item = r"(?:\w+\.(?:item_id|id)|\$\d+)"
    return re.search(rf"{column}\s*=\s*{item}|{item}\s*=\s*{column}", text, re.I) is not None
