"""worker.store says of every statement what Postgres says: names, parameters, columns, types."""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
import uuid
from collections.abc import Collection
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from bench.generate_store.__main__ import STORE
from bench.generate_store.described import describe, describe_statement
from bench.generate_store.headers import HeaderError
from bench.generate_store.modules import render
from worker.infra.postgres import Pool
from worker.infra.sql_files import QUERIES_DIR, named_statements

OURS: Final = {"__init__.py", "entities/__init__.py", "statements.py"}
TYPES: Final[dict[str, type]] = {
    "bool": bool,
    "bytea": bytes,
    "date": date,
    "float8": float,
    "int2": int,
    "int4": int,
    "int8": int,
    "interval": timedelta,
    "jsonb": str,
    "numeric": Decimal,
    "text": str,
    "timestamptz": datetime,
    "uuid": uuid.UUID,
}
"""As asyncpg takes and gives them; kept apart from those of the generator."""
FILES: Final = sorted(path.relative_to(QUERIES_DIR) for path in QUERIES_DIR.rglob("*.sql"))


def module_of(file: Path) -> types.ModuleType:
    return importlib.import_module(".".join(("worker", "store", *file.with_suffix("").parts)))


def without_none(annotation: Any) -> Any:
    """The type, be it that or None."""
    found = [part for part in typing.get_args(annotation) if part is not type(None)]
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return found[0] if is_union and len(found) == 1 else annotation


def typed(kind: str, container: Any) -> tuple[Any, Any]:
    """Container, or None, and type of a value of this type of Postgres."""
    return (container if kind.endswith("[]") else None), TYPES[kind.removesuffix("[]")]


def declared(annotation: Any) -> tuple[Any, Any]:
    plain = without_none(annotation)
    if typing.get_origin(plain) in (list, Collection):
        [entry] = typing.get_args(plain)
        return typing.get_origin(plain), without_none(entry)
    return None, plain


def rows_of(returned: Any) -> Any:
    """What one row is of what a function returns: a Struct, or the type of its one column."""
    plain = without_none(returned)
    return typing.get_args(plain)[0] if typing.get_origin(plain) is list else plain


async def test_generation_gives_exactly_the_modules_that_are_checked_in(db: Pool) -> None:
    async with db.acquire() as conn:
        generated = render(await describe(conn))
    checked_in = {
        path.relative_to(STORE): path.read_text(encoding="utf-8")
        for path in STORE.rglob("*.py")
        if str(path.relative_to(STORE)) not in OURS
    }
    differing = {
        str(path)
        for path in generated.keys() | checked_in.keys()
        if generated.get(path) != checked_in.get(path)
    }
    assert differing == set(), "run `make store`"


@pytest.mark.parametrize("file", FILES, ids=str)
async def test_every_parameter_and_column_has_the_type_that_postgres_gives_it(
    db: Pool, file: Path
) -> None:
    module = module_of(file)
    async with db.acquire() as conn:
        for name, text in named_statements(QUERIES_DIR / file):
            prepared = await conn.prepare(text)
            function = getattr(module, name)
            hints = typing.get_type_hints(function, localns={"Executor": object})
            params = [p for p in inspect.signature(function).parameters if p != "conn"]
            taken = [typed(kind.name, Collection) for kind in prepared.get_parameters()]
            assert [declared(hints[param]) for param in params] == taken, name
            columns = prepared.get_attributes()
            returned = rows_of(hints["return"])
            if isinstance(returned, type) and issubclass(returned, msgspec.Struct):
                fields = [(f.name, *declared(f.type)) for f in msgspec.structs.fields(returned)]
                given = [(column.name, *typed(column.type.name, list)) for column in columns]
                assert fields == given, name
            elif returned is not type(None) and columns:
                assert declared(returned) == typed(columns[0].type.name, list), name


async def test_the_text_that_is_sent_takes_the_same_parameters_as_that_of_the_file(
    db: Pool,
) -> None:
    async with db.acquire() as conn:
        for file in FILES:
            sql: dict[str, str] = module_of(file).SQL
            for name, text in named_statements(QUERIES_DIR / file):
                sent, stood = await conn.prepare(sql[name]), await conn.prepare(text)
                assert sent.get_parameters() == stood.get_parameters(), name
                assert sent.get_attributes() == stood.get_attributes(), name


def test_no_name_stands_twice() -> None:
    names = [name for file in FILES for name, _ in named_statements(QUERIES_DIR / file)]
    assert len(names) == len(set(names)) > 200


def test_every_statement_is_called_by_the_product_and_none_by_its_text() -> None:
    root = STORE.parents[1]
    sources = {
        path: path.read_text(encoding="utf-8")
        for folder in ("ops", "webhook_receiver", "worker")
        for path in (root / folder).rglob("*.py")
        if not path.is_relative_to(STORE)
    }
    named = {name for file in FILES for name, _ in named_statements(QUERIES_DIR / file)}
    used = set(re.findall(r"\w+", "".join(sources.values())))
    assert named - used == set()
    # The demo shows a reader the statement that it runs.
    by_text = {path for path, text in sources.items() if re.search(r"\bSQL\[", text)}
    assert by_text == {root / "ops" / "demo" / "run.py"}


def test_only_the_key_of_a_row_is_given_by_its_position() -> None:
    positional = {
        tuple(
            p.name
            for p in inspect.signature(getattr(module_of(file), name)).parameters.values()
            if p.kind is not p.KEYWORD_ONLY
        )
        for file in FILES
        for name, _ in named_statements(QUERIES_DIR / file)
    }
    scopes = ("scope_id", "account_id", "owner_id")
    assert positional == {
        ("conn",),
        ("conn", "item_id"),
        ("conn", "item_id", "product"),
        *(("conn", "item_id", scope) for scope in scopes),
        ("conn", "item_id", "product", "scope_id"),
    }


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("-- params: item_id", "returns is missing"),
        ("-- params: item_id\n-- returns: some", "returns some"),
        ("-- params: item_id\n-- returns: one", "returns one"),
        ("-- returns: value", "0 params named, 1 taken"),
        ("-- params: item_id, token\n-- returns: value", "2 params named, 1 taken"),
        ("-- params: Item\n-- returns: value", "parameter Item"),
        ("-- params: item_id = null\n-- returns: value", "parameter item_id = null"),
        ("-- params: item_id\n-- returns: value\n-- nullable: lane", "no column: lane"),
    ],
)
async def test_a_header_that_does_not_fit_its_statement_is_refused(
    db: Pool, header: str, complaint: str
) -> None:
    text = f"-- x\n{header}\nSELECT $1::uuid AS id"
    async with db.acquire() as conn:
        with pytest.raises(HeaderError, match=complaint):
            await describe_statement(conn, "x", text)


async def test_a_value_of_more_than_one_column_is_refused(db: Pool) -> None:
    async with db.acquire() as conn:
        with pytest.raises(HeaderError, match="2 columns"):
            await describe_statement(conn, "x", "-- x\n-- returns: value\nSELECT 1, 2")
