"""Migrations: numbered SQL files, forward only, checksummed; changed views are made anew."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from worker.queries import SQL_DIR

MIGRATE_LOCK: Final = 0x70_6C_75_67_03
SCHEMAS: Final = ("pluggy", "pluggy_live", "pluggy_sync", "pluggy_ops")
VIEW_SCHEMAS: Final = ("pluggy_ops", "pluggy_live")

BOOKKEEPING: Final = """
CREATE SCHEMA pluggy_sync;
COMMENT ON SCHEMA pluggy_sync IS 'pluggy-sync: its own state';
CREATE TABLE pluggy_sync.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


class MigrationRefused(Exception):
    """The database is not what these migrations can be applied to; the text says why."""


@dataclass(frozen=True, slots=True)
class Script:
    """A file of sql/ with the checksum that tells whether it was edited."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_scripts(directory: Path, pattern: str = "*.sql") -> list[Script]:
    """SQL files of a directory in the order of their names."""
    paths = sorted(directory.glob(pattern))
    return [Script(path.stem, path.read_text(encoding="utf-8")) for path in paths]


async def migrate(url: str, *, sql_dir: Path = SQL_DIR) -> list[str]:
    """Bring a database up to date; returns the names of what was applied.

    One transaction under an advisory lock: of two that start at once the second finds nothing to
    do. Raises MigrationRefused, and asyncpg's errors; then nothing has changed.
    """
    conn = await asyncpg.connect(url, timeout=10)
    try:
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock($1)", MIGRATE_LOCK)
            await _ensure_ours(conn)
            applied = await _apply_migrations(conn, load_scripts(sql_dir / "migrations"))
            return applied + await _apply_views(conn, load_scripts(sql_dir / "views"))
    finally:
        await conn.close()


async def _ensure_ours(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    if await conn.fetchval("SELECT to_regclass('pluggy_sync.migrations')") is not None:
        return
    found = await conn.fetch("SELECT nspname FROM pg_namespace WHERE nspname = ANY($1)", SCHEMAS)
    if found:
        names = ", ".join(sorted(record["nspname"] for record in found))
        raise MigrationRefused(
            f"schema {names} exists and was not made by pluggy-sync;"
            " use another database, or rename that schema"
        )
    await conn.execute(BOOKKEEPING)


async def _apply_migrations(
    conn: asyncpg.Connection[asyncpg.Record], scripts: list[Script]
) -> list[str]:
    held = {
        record["name"]: record["sha256"]
        for record in await conn.fetch("SELECT name, sha256 FROM pluggy_sync.migrations")
    }
    known = {script.name for script in scripts}
    if newer := sorted(name for name in held if name[0].isdigit() and name not in known):
        raise MigrationRefused(f"the database is newer than this release: it has {newer[-1]}")
    applied = []
    for script in scripts:
        if script.name not in held:
            await conn.execute(script.sql)
            await _remember(conn, script)
            applied.append(script.name)
        elif held[script.name] != script.sha256:
            raise MigrationRefused(f"migration {script.name} was edited after it was applied")
    return applied


async def _apply_views(
    conn: asyncpg.Connection[asyncpg.Record], scripts: list[Script]
) -> list[str]:
    """Views hold no data: all are dropped and made anew when one of them has changed."""
    views = Script("views", "\n".join(script.sql for script in scripts))
    held = await conn.fetchval(
        "SELECT sha256 FROM pluggy_sync.migrations WHERE name = $1", views.name
    )
    if held == views.sha256:
        return []
    for record in await conn.fetch(
        "SELECT format('%I.%I', schemaname, viewname) AS name FROM pg_views"
        " WHERE schemaname = ANY($1)",
        VIEW_SCHEMAS,
    ):
        await conn.execute(f"DROP VIEW IF EXISTS {record['name']} CASCADE")
    await conn.execute(views.sql)
    await _remember(conn, views)
    return [views.name]


async def _remember(conn: asyncpg.Connection[asyncpg.Record], script: Script) -> None:
    await conn.execute(
        "INSERT INTO pluggy_sync.migrations (name, sha256) VALUES ($1, $2)"
        " ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256,"
        " applied_at = clock_timestamp()",
        script.name,
        script.sha256,
    )
