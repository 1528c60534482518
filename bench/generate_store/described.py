"""Statements as Postgres describes them once they are prepared: the types behind each name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from bench.generate_store.headers import Header, HeaderError, parse_header
from worker.infra.postgres import Connection
from worker.infra.sql_files import QUERIES_DIR, named_statements

PYTHON_TYPES: Final = {
    "bool": "bool",
    "bytea": "bytes",
    "date": "date",
    "float8": "float",
    "int2": "int",
    "int4": "int",
    "int8": "int",
    "interval": "timedelta",
    "jsonb": "str",
    "numeric": "Decimal",
    "text": "str",
    "timestamptz": "datetime",
    "uuid": "uuid.UUID",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A parameter or a column with its type in Python; optional: None unless it is given."""

    name: str
    type: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a file: what it takes and what its rows look like."""

    name: str
    header: Header
    params: tuple[Typed, ...]
    columns: tuple[Typed, ...]


async def describe(conn: Connection) -> dict[Path, list[Statement]]:
    """Prepare every statement of sql/queries on a migrated database; by file, relative to it.

    Raises HeaderError if a header does not fit, asyncpg.PostgresError if a statement does not.
    """
    return {
        path.relative_to(QUERIES_DIR): [
            await describe_statement(conn, name, text) for name, text in named_statements(path)
        ]
        for path in sorted(QUERIES_DIR.rglob("*.sql"))
    }


async def describe_statement(conn: Connection, name: str, text: str) -> Statement:
    """Prepare one statement. Raises as describe()."""
    header = parse_header(name, text)
    prepared = await conn.prepare(text)
    columns = [(column.name, column.type) for column in prepared.get_attributes()]
    _check(name, header, prepared.get_parameters(), [column for column, _ in columns])
    return Statement(
        name,
        header,
        tuple(
            Typed(param.name, _taken(kind, param.nullable, param.nullable_entries), param.optional)
            for param, kind in zip(header.params, prepared.get_parameters(), strict=True)
        ),
        tuple(Typed(column, _given(header, column, kind)) for column, kind in columns),
    )


def _check(name: str, header: Header, params: tuple[asyncpg.Type, ...], columns: list[str]) -> None:
    if len(header.params) != len(params):
        raise HeaderError(f"{name}: {len(header.params)} params named, {len(params)} taken")
    if unknown := header.nullable - {"*", *columns}:
        raise HeaderError(f"{name}: nullable, but no column: {', '.join(sorted(unknown))}")
    if header.returns.startswith("value") and len(columns) != 1:
        raise HeaderError(f"{name}: returns {header.returns}, but has {len(columns)} columns")


def _taken(kind: asyncpg.Type, nullable: bool, nullable_entries: bool) -> str:
    if kind.name.endswith("[]"):
        entry = python_type(kind.name[:-2]) + (" | None" if nullable_entries else "")
        found = f"Collection[{entry}]"
    else:
        found = python_type(kind.name)
    return found + (" | None" if nullable else "")


def _given(header: Header, column: str, kind: asyncpg.Type) -> str:
    found = python_type(kind.name.removesuffix("[]"))
    if kind.name.endswith("[]"):
        found = f"list[{found}]"
    return found + (" | None" if header.nullable & {"*", column} else "")


def python_type(kind: str) -> str:
    """The type that asyncpg takes and gives for a type of Postgres. Raises HeaderError."""
    if kind not in PYTHON_TYPES:
        raise HeaderError(f"no type of Python for {kind}")
    return PYTHON_TYPES[kind]
