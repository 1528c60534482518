"""Migrations: what they refuse, and that repeating, racing and failing do no harm."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ops.migrations import MigrationRefused, load_scripts, migrate
from tests.support.kept_database import execute, with_database
from worker.infra.sql_files import SQL_DIR

SCHEMAS = (
    "SELECT array_agg(nspname::text ORDER BY nspname) FROM pg_namespace WHERE nspname ~ '^pluggy'"
)


@pytest.fixture
def sql_dir(tmp_path: Path) -> Path:
    """A release of its own: a copy that a test may change."""
    return Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))


async def value_of(url: str, statement: str) -> object:
    conn = await asyncpg.connect(url)
    try:
        return await conn.fetchval(statement)
    finally:
        await conn.close()


async def test_an_empty_database_gets_every_script_in_order(empty_database_url: str) -> None:
    applied = await migrate(empty_database_url)
    scripts = [script.name for script in load_scripts(SQL_DIR / "migrations")]
    assert applied == [*scripts, "views"]
    assert scripts == sorted(scripts)
    assert scripts[0].startswith("0001_")
    assert await value_of(empty_database_url, SCHEMAS) == [
        "pluggy",
        "pluggy_live",
        "pluggy_ops",
        "pluggy_sync",
    ]


async def test_migrating_twice_applies_nothing(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    assert await migrate(empty_database_url) == []


async def test_of_two_at_once_one_applies_everything(empty_database_url: str) -> None:
    answers = await asyncio.gather(migrate(empty_database_url), migrate(empty_database_url))
    assert sorted(map(bool, answers)) == [False, True]
    assert await migrate(empty_database_url) == []


@pytest.mark.parametrize("schema", ["pluggy", "pluggy_live", "pluggy_sync", "pluggy_ops"])
async def test_a_schema_of_somebody_else_is_refused(empty_database_url: str, schema: str) -> None:
    await execute(empty_database_url, f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (x int)")
    with pytest.raises(MigrationRefused, match=f"schema {schema} exists"):
        await migrate(empty_database_url)
    assert await value_of(empty_database_url, SCHEMAS) == [schema]


async def test_an_edited_script_is_refused(empty_database_url: str, sql_dir: Path) -> None:
    script = sql_dir / "migrations" / "9999_released.sql"
    script.write_text("SELECT 1;")
    await migrate(empty_database_url, sql_dir=sql_dir)
    script.write_text("SELECT 2;")
    with pytest.raises(MigrationRefused, match="9999_released was edited"):
        await migrate(empty_database_url, sql_dir=sql_dir)


async def test_a_database_of_a_newer_release_is_refused(
    empty_database_url: str, sql_dir: Path
) -> None:
    (sql_dir / "migrations" / "9999_add_what_we_do_not_know.sql").write_text("SELECT 1;")
    await migrate(empty_database_url, sql_dir=sql_dir)
    with pytest.raises(MigrationRefused, match="newer than this release: it has 9999"):
        await migrate(empty_database_url)


async def test_a_failing_script_leaves_nothing_behind(
    empty_database_url: str, sql_dir: Path
) -> None:
    (sql_dir / "migrations" / "9999_divide.sql").write_text("SELECT 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_database_url, sql_dir=sql_dir)
    assert await value_of(empty_database_url, SCHEMAS) is None


async def test_a_changed_view_is_created_again(database_url: str, sql_dir: Path) -> None:
    views = sql_dir / "views" / "10_live_items.sql"
    views.write_text(views.read_text() + "\nCREATE VIEW pluggy_live.added AS SELECT 7 AS seven;\n")
    assert await migrate(database_url, sql_dir=sql_dir) == ["views"]
    assert await value_of(database_url, "SELECT seven FROM pluggy_live.added") == 7


async def test_a_view_that_a_release_drops_is_gone(database_url: str, sql_dir: Path) -> None:
    for views in (sql_dir / "views").glob("*_live_*.sql"):
        views.write_text("-- none any more\n")
    assert await migrate(database_url, sql_dir=sql_dir) == ["views"]
    left = "SELECT count(*) FROM pg_views WHERE schemaname = 'pluggy_live'"
    assert await value_of(database_url, left) == 0


async def test_a_script_may_change_what_views_are_made_of(database_url: str, sql_dir: Path) -> None:
    script = sql_dir / "migrations" / "9999_widen.sql"
    script.write_text("ALTER TABLE pluggy.items ALTER COLUMN connector_id TYPE bigint;")
    assert await migrate(database_url, sql_dir=sql_dir) == ["9999_widen", "views"]


async def test_a_view_that_somebody_built_on_ours_is_never_dropped(
    database_url: str, sql_dir: Path
) -> None:
    await execute(
        database_url, "CREATE VIEW public.mine AS SELECT id, amount FROM pluggy_live.transactions"
    )
    views = sql_dir / "views" / "10_live_items.sql"
    views.write_text(views.read_text() + "\n-- another release\n")
    with pytest.raises(MigrationRefused, match="mine"):
        await migrate(database_url, sql_dir=sql_dir)
    assert await value_of(database_url, "SELECT count(*) FROM public.mine") == 0


async def test_a_lock_of_another_session_fails_it_and_changes_nothing(
    database_url: str, sql_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.migrations.LOCK_TIMEOUT", "50ms")
    (sql_dir / "migrations" / "9999_widen.sql").write_text(
        "ALTER TABLE pluggy.accounts ADD COLUMN added int;"
    )
    conn = await asyncpg.connect(database_url)
    try:
        async with conn.transaction():
            await conn.execute("LOCK TABLE pluggy.accounts IN ACCESS SHARE MODE")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await migrate(database_url, sql_dir=sql_dir)
    finally:
        await conn.close()
    assert await migrate(database_url, sql_dir=sql_dir) == ["9999_widen", "views"]


async def test_an_ordinary_owner_of_a_database_can_migrate(postgres_url: str) -> None:
    async with ordinary_owner(postgres_url) as url:
        assert (
            await value_of(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            is False
        )
        assert (await migrate(url))[-1] == "views"
        assert await migrate(url) == []


@asynccontextmanager
async def ordinary_owner(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a database of a role that may do nothing else."""
    role, password = f"pluggy_sync_owner_{uuid.uuid4().hex[:8]}", secrets.token_hex(16)
    await execute(
        postgres_url, f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE PASSWORD '{password}'"
    )
    try:
        await execute(postgres_url, f"CREATE DATABASE {role} OWNER {role}")
        parts = urlsplit(with_database(postgres_url, role))
        address = parts.netloc.rpartition("@")[2]
        yield urlunsplit(parts._replace(netloc=f"{role}:{password}@{address}"))
    finally:
        await execute(postgres_url, f"DROP DATABASE IF EXISTS {role} WITH (FORCE)")
        await execute(postgres_url, f"DROP ROLE {role}")
