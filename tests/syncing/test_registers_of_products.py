"""A product stands in every register that has all of them; a missing one is named by its file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from ops.compare.columns import MIRRORED as COMPARED
from worker.entities.registry import PRODUCTS as DECLARED
from worker.infra.postgres import Pool
from worker.infra.settings import PRODUCTS
from worker.infra.sql_files import QUERIES_DIR, named_statements
from worker.planner.item_status import STATUS_KEYS

ROOT: Final = Path(__file__).resolve().parents[2]
OWNED: Final = frozenset(PRODUCTS) - {"items"}


def named(name: str, pattern: str) -> frozenset[str]:
    """What a pattern finds in the statement of this name, whichever file has it."""
    files = QUERIES_DIR.rglob("*.sql")
    [found] = [text for path in files for n, text in named_statements(path) if n == name]
    return frozenset(re.findall(pattern, found))


def feed_tables() -> frozenset[str]:
    page = (ROOT / "docs" / "consume.md").read_text(encoding="utf-8")
    return frozenset(page.partition('TABLES = """')[2].partition('"""')[0].split())


# Where a product has to stand, what stands there, and products that have a reason not to.
REGISTERS: Final[Mapping[str, tuple[Callable[[], object], frozenset[str]]]] = {
    "sql/queries: delete_expired_runs": (
        lambda: named("delete_expired_runs", r"FROM pluggy\.(\w+) x"),
        frozenset(),
    ),
    "sql/queries: tombstone_item": (
        lambda: named("tombstone_item", r"UPDATE pluggy\.(\w+)"),
        frozenset(),
    ),
    "sql/queries: count_item_rows": (
        lambda: named("count_item_rows", r"FROM pluggy\.(\w+)"),
        frozenset({"items"}),
    ),
    "sql/queries: estimate_resync": (
        lambda: named("estimate_resync", r"AS (\w+)[,;\n]"),
        frozenset(),
    ),
    "sql/queries: find_other_scopes": (
        lambda: named("find_other_scopes", r"'(\w+)'"),
        frozenset({"items"}),
    ),
    "ops/compare/columns.py MIRRORED": (lambda: COMPARED, frozenset()),
    "docs/consume.md TABLES": (feed_tables, frozenset()),
}


@pytest.mark.parametrize("register", REGISTERS)
def test_every_product_stands_in(register: str) -> None:
    read, exempt = REGISTERS[register]
    found = read()
    assert isinstance(found, frozenset | set | dict | tuple)
    assert set(PRODUCTS) - set(found) - exempt == set()


def test_every_product_is_declared_once_in_a_module_of_its_name() -> None:
    assert set(DECLARED) == set(PRODUCTS)
    assert all(product.product == name for name, product in DECLARED.items())
    assert len({product.order for product in DECLARED.values()}) == len(DECLARED)
    modules = {path.stem for path in (ROOT / "worker" / "entities").glob("*.py")}
    assert modules - {"__init__", "declaration", "registry"} == set(DECLARED)


async def test_every_table_of_an_item_is_a_product(db: Pool) -> None:
    tables = await db.fetch(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'pluggy' AND column_name = 'item_id'"
    )
    assert {record["table_name"] for record in tables} == OWNED


async def test_every_table_with_an_account_is_tombstoned_with_it(db: Pool) -> None:
    tables = await db.fetch(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'pluggy' AND column_name = 'account_id'"
    )
    gone = named("tombstone_accounts", r"UPDATE pluggy\.(\w+)")
    assert {record["table_name"] for record in tables} - gone == set()


async def test_every_product_has_a_live_view_and_its_columns(db: Pool) -> None:
    """Every column of the table but what is of the mirror itself is in the view."""
    rows = await db.fetch(
        "SELECT table_schema, table_name, array_agg(column_name::text) AS columns"
        " FROM information_schema.columns"
        " WHERE table_schema IN ('pluggy', 'pluggy_live') GROUP BY 1, 2"
    )
    columns = {(r["table_schema"], r["table_name"]): set(r["columns"]) for r in rows}
    lost = {
        (product, column)
        for product in PRODUCTS
        for column in columns["pluggy", product] - columns["pluggy_live", product]
    }
    marks = ("deleted_", "deletion_", "missing_", "row_")
    assert {pair for pair in lost if not pair[1].startswith(marks)} == set()


async def test_freshness_reads_the_same_keys_of_the_status_as_the_worker(db: Pool) -> None:
    """The database writes `'accounts'::text`, and the pairs in their order."""
    view = await db.fetchval("SELECT pg_get_viewdef('pluggy_ops.freshness'::regclass)")
    pairs = set(re.findall(r"\('(\w+)'(?:::text)?, ?'(\w+)'(?:::text)?\)", view))
    assert pairs >= {(product, key) for product, keys in STATUS_KEYS.items() for key in keys}
