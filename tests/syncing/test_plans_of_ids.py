"""Query plans of statements about many ids: an index or a hash table, also in a generic plan."""

from __future__ import annotations

import re

import asyncpg
import pytest

from tests.support.statements import STATEMENTS
from worker.infra.postgres import Pool

BY_INDEX = ("load_transactions_versions", "load_transactions_hashes", "load_open_ids")
BY_HASH = ("find_unlisted_items", "load_deletion_candidates", "load_witnesses")


async def plan_of(db: Pool, name: str) -> str:
    """The generic plan, as a statement has it that was prepared and used often."""
    count = max(map(int, re.findall(r"[$](\d+)", STATEMENTS[name])))
    async with db.acquire() as conn, conn.transaction():
        for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off"):
            await conn.execute(f"SET LOCAL {setting}")
        await conn.execute(f"PREPARE asked AS {STATEMENTS[name]}")
        try:
            nulls = ", ".join(["NULL"] * count)
            rows: list[asyncpg.Record] = await conn.fetch(f"EXPLAIN EXECUTE asked({nulls})")
        finally:
            await conn.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("name", BY_INDEX)
async def test_ids_are_found_by_an_index(db: Pool, name: str) -> None:
    plan = await plan_of(db, name)
    assert "Index" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("name", BY_HASH)
async def test_ids_to_leave_out_are_looked_up_in_a_hash_table(db: Pool, name: str) -> None:
    plan = await plan_of(db, name)
    assert "hashed SubPlan" in plan
    assert not re.search(r"NOT \(SubPlan|ALL \(", plan)
