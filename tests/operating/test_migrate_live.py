"""Migrations over data, and while the release before them is at work."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from ops.migrations import Script, load_scripts, migrate
from tests.support.stack import Stack
from worker.infra.sql_files import SQL_DIR

T = TypeVar("T")

# Each takes something away from the code before it, or rewrites a table under a lock.
UNSAFE = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|SCHEMA|VIEW)\b|\bRENAME\b|\bSET\s+NOT\s+NULL\b"
    r"|\bALTER\s+COLUMN\s+\w+\s+TYPE\b|\bTRUNCATE\b",
    re.IGNORECASE,
)
VALUES = {
    "uuid": "gen_random_uuid()",
    "timestamptz": "now()",
    "date": "current_date",
    "bytea": "'x'",
    "jsonb": "'{}'",
    "_uuid": "'{}'",
    "_text": "'{}'",
}
BY_NAME = {"kind": "'walk'", "state": "'pending'", "product": "'transactions'"}
CHECKED = {
    ("subscriptions", "state"): "'ok'",
    ("walk_pages", "kind"): "'listed'",
    ("account_links", "state"): "'linked'",
}
SEEDED = {
    "halts",
    "periodic_task_leases",
    "reference_data_sync",
    "restatement_cursor",
    "retention_cursor",
}
SEEDED |= {"worker_settings"}
"""Their rows came with their tables."""


@pytest.mark.parametrize("script", load_scripts(SQL_DIR / "migrations"), ids=lambda s: s.name)
def test_a_migration_takes_nothing_away_from_the_release_that_still_runs(script: Script) -> None:
    sql = re.sub(r"--.*", "", script.sql)
    assert not UNSAFE.findall(sql)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A copy of sql/ that a test may change."""
    return Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))


async def fill(conn: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """A row in every table that is empty; returns how many rows each has then."""
    columns = await conn.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relname, a.attname, t.typname,"
        " a.attidentity <> '' OR a.atthasdef OR NOT a.attnotnull AS optional"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE c.relkind = 'r' AND n.nspname IN ('pluggy', 'pluggy_sync')"
        " AND c.relname <> 'migrations' ORDER BY c.oid, a.attnum"
    )
    counts: dict[str, int] = {}
    for table in dict.fromkeys(record["name"] for record in columns):
        needed = [r for r in columns if r["name"] == table and not r["optional"]]
        [name] = {r["relname"] for r in columns if r["name"] == table}
        if name not in SEEDED:
            names = ", ".join(r["attname"] for r in needed) or None
            values = ", ".join(_value(r["attname"], r["typname"], name) for r in needed)
            await conn.execute(
                f"INSERT INTO {table} ({names}) VALUES ({values})"  # noqa: S608 - names from pg_class
                if names
                else f"INSERT INTO {table} DEFAULT VALUES"
            )
        counts[table] = await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - as above
    return counts


def _value(column: str, kind: str, table: str) -> str:
    checked = CHECKED.get((table, column)) or BY_NAME.get(column)
    return checked or VALUES.get(kind) or ("'x'" if kind == "text" else "1")


async def test_what_an_earlier_release_has_stored_is_there_afterwards(
    empty_database_url: str, release: Path
) -> None:
    await migrate(empty_database_url)
    conn = await asyncpg.connect(empty_database_url)
    before = await fill(conn)
    (release / "migrations" / "9901_next.sql").write_text(
        "ALTER TABLE pluggy.loans ADD COLUMN next text;"
        "CREATE TABLE pluggy_sync.next (x int);"
        "CREATE INDEX ON pluggy_sync.runs (started_at, id);"
    )
    assert await migrate(empty_database_url, sql_dir=release) == ["9901_next", "views"]
    for table, rows in before.items():
        assert await conn.fetchval(f"SELECT count(*) FROM {table}") >= rows, table  # noqa: S608 - names from pg_class
    views = await conn.fetch(
        "SELECT format('%I.%I', schemaname, viewname) AS name FROM pg_views"
        " WHERE schemaname IN ('pluggy_live', 'pluggy_ops')"
    )
    for record in views:
        await conn.fetch(f"SELECT * FROM {record['name']}")  # noqa: S608 - names from pg_views
    await conn.close()


async def unless_it_gives_way(work: Callable[[], Awaitable[T]]) -> T:
    """Do something that changes nothing if a deadlock ends it, and that is then begun again."""
    while True:
        try:
            return await work()
        except asyncpg.DeadlockDetectedError:
            await asyncio.sleep(0)


LET_LAPSE = "UPDATE pluggy_sync.item_leases SET until = until - interval '1 hour'"


async def test_the_release_before_goes_on_accepting_and_syncing_while_it_is_migrated(
    stack: Stack, database_url: str, release: Path
) -> None:
    """What is typical of a release: a column with a default, a table, an index, changed views."""
    items = [(await stack.synced_item(transactions=100))["id"] for _ in range(3)]
    migrated = asyncio.Event()

    async def migrate_thrice() -> None:
        for number in range(1, 4):
            (release / "migrations" / f"99{number:02d}_next.sql").write_text(
                f"ALTER TABLE pluggy.transactions ADD COLUMN next_{number} int DEFAULT {number};"
                f"ALTER TABLE pluggy_sync.webhook_events ADD COLUMN next_{number} text;"
                f"CREATE TABLE pluggy_sync.next_{number} (x int);"
                f"CREATE INDEX ON pluggy_sync.runs (started_at, id);"
            )
            await unless_it_gives_way(lambda: migrate(database_url, sql_dir=release))
        migrated.set()

    async def tell() -> int:
        said = 0
        while not migrated.is_set() or said < 30:
            item = items[said % len(items)]
            await stack.collect(item, created=1)
            told = await unless_it_gives_way(partial(stack.tell, "item/updated", item))
            assert told.is_new
            said += 1
        return said

    async def sync() -> None:
        while not migrated.is_set():
            try:
                await stack.quiet()
            except asyncpg.DeadlockDetectedError:
                # Of a sync and a migration that wait for each other, either may have to give way.
                # A worker logs that; the lease lapses, and the item is synced again.
                await stack.db.execute(LET_LAPSE)
            await asyncio.sleep(0)

    _, said, _ = await asyncio.gather(migrate_thrice(), tell(), sync())
    await stack.quiet()
    for item in items:
        assert set(await stack.states(item)) == {"applied"}
        await stack.assert_equal(item, but=["next_1", "next_2", "next_3"])
    states = "SELECT count(*) FROM pluggy_sync.webhook_events WHERE event = 'item/updated'"
    assert await stack.db.fetchval(states) == said


def test_what_is_inserted_is_inserted_by_the_names_of_its_columns() -> None:
    """A column that a later release adds must not move the values of this one."""
    texts = [path.read_text() for path in (SQL_DIR / "queries").rglob("*.sql")]
    inserts = re.findall(
        r"INSERT INTO (\w+\.\w+)(?: AS \w+)?\s+(\(|DEFAULT|SELECT|VALUES)", "".join(texts)
    )
    assert len(inserts) > 20
    unnamed = {table for table, begins in inserts if begins in ("SELECT", "VALUES")}
    assert unnamed <= {"pluggy.transactions"}, "only the demo's sabotage copies a whole row"
