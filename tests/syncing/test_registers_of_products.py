"""What a product needs outside of its module, each missing part named by its file."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Final

from ops.compare.columns import load_tables
from worker.entities.registry import ENTITIES, OWNED_BY
from worker.entities.registry import PRODUCTS as DECLARED
from worker.infra.postgres import Pool
from worker.infra.settings import PRODUCTS
from worker.infra.sql_files import QUERIES_DIR, named_statements
from worker.store import operating

ROOT: Final = Path(__file__).resolve().parents[2]
OWNED: Final = frozenset(PRODUCTS) - {"items"}
NEXT_PRODUCT: Final = """
CREATE TABLE pluggy.next_product (LIKE pluggy.bills INCLUDING ALL);
INSERT INTO pluggy.next_product (item_id, id, account_id, payload, row_hash, row_version, run_id)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}', '', 1, id
FROM generate_series(1, 2) AS id
"""


def test_every_product_is_declared_once_in_a_module_of_its_name() -> None:
    assert set(DECLARED) == set(PRODUCTS)
    assert all(product.product == name for name, product in DECLARED.items())
    assert len({product.order for product in DECLARED.values()}) == len(DECLARED)
    modules = {path.stem for path in (ROOT / "worker" / "entities").glob("*.py")}
    assert modules - {"__init__", "declaration", "registry"} == set(DECLARED)


async def test_every_product_is_compared(db: Pool) -> None:
    async with db.acquire() as conn:
        assert set(await load_tables(conn)) == set(PRODUCTS)


async def tables_with(db: Pool, column: str) -> set[str]:
    found = await db.fetch("SELECT name FROM pluggy_sync.mirrored_tables($1)", column)
    return {record["name"] for record in found}


async def test_every_table_of_an_item_is_a_product(db: Pool) -> None:
    assert await tables_with(db, "item_id") == OWNED == set(ENTITIES)


async def test_every_table_with_an_owner_is_tombstoned_with_it(db: Pool) -> None:
    statements = dict(s for path in QUERIES_DIR.rglob("*.sql") for s in named_statements(path))
    for owner, column in (("accounts", "account_id"), ("investments", "investment_id")):
        assert {entity.product for entity in OWNED_BY[owner]} == await tables_with(db, column)
        for entity in OWNED_BY[owner]:
            statement = statements[getattr(entity.tombstone, "__name__", "")]
            assert re.search(rf"UPDATE pluggy\.{entity.product}\s", statement)
            assert re.search(rf"\$2::uuid IN \([^)]*\b{column}\b", statement)


async def test_a_new_table_is_counted_and_keeps_its_runs_without_being_named(db: Pool) -> None:
    await db.execute(NEXT_PRODUCT)
    assert "next_product" in await tables_with(db, "item_id")
    named = await db.fetch("SELECT pluggy_sync.runs_of_rows($1) AS id", [1, 2, 3])
    assert sorted(record["id"] for record in named) == [1, 2]
    item_id: uuid.UUID = await db.fetchval("SELECT item_id FROM pluggy.next_product LIMIT 1")
    [counted] = await operating.count_item_rows(db, item_id)
    assert (counted.entity, counted.live, counted.deleted) == ("next_product", 1, 0)


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


async def test_migrations_add_the_keys_of_the_status_that_are_declared(db: Pool) -> None:
    declared = {(name, key) for name, p in DECLARED.items() for key in p.status_keys}
    stored = await db.fetch("SELECT product, key FROM pluggy_sync.status_keys")
    assert {tuple(record) for record in stored} == declared
