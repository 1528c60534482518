"""Migrations: numbered SQL files, forward only, checksummed; changed views are created again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from ops.roles import Connection, make_roles
from worker.infra.baseline import APPLIED, checksum, compare_baseline
from worker.infra.postgres_hosts import Hosts
from worker.infra.sql_files import SQL_DIR

MIGRATE_LOCK: Final = 0x70_6C_75_67_03
LOCK_TIMEOUT: Final = "10s"
SCHEMAS: Final = ("pluggy", "pluggy_live", "pluggy_sync", "pluggy_ops")
VIEW_SCHEMAS: Final = ("pluggy_ops", "pluggy_live", "pluggy_sync")
ROLES: Final = "roles"

BOOKKEEPING: Final = """
CREATE SCHEMA pluggy_sync;
CREATE TABLE pluggy_sync.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pluggy_sync.migrations IS
    'Files of sql/ that made this database, with their checksums';
"""

GRANTS_ON_VIEWS: Final = """
SELECT v.view, format('GRANT %s ON %s TO %s', a.privilege_type, v.view,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
           || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS statement
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS view) AS v
CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relkind = 'v' AND n.nspname = ANY ($1) AND a.grantee <> c.relowner
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
        return checksum(self.sql)


def load_scripts(directory: Path, pattern: str = "*.sql") -> list[Script]:
    """SQL files of a directory in the order of their names."""
    paths = sorted(directory.glob(pattern))
    return [Script(path.stem, path.read_text(encoding="utf-8")) for path in paths]


async def migrate(url: str, *, roles: bool = False, sql_dir: Path = SQL_DIR) -> list[str]:
    """Bring a database up to date; returns the names of what was applied.

    roles: give the database roles of sql/roles.sql; from then on every migration does. One
    transaction under an advisory lock: of two that start at once the second finds nothing to do.
    Raises MigrationRefused, UnreleasedDatabase, RolesRefused, and asyncpg's errors; then nothing
    has changed.
    """
    conn = await Hosts(url).connect(timeout=10)
    try:
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock($1)", MIGRATE_LOCK)
            # All later requests for a table's lock wait behind this one, so it gives up soon.
            await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            await _ensure_ours(conn)
            recorded = await _load_recorded(conn)
            if any(name[0].isdigit() for name in recorded):
                compare_baseline(recorded, sql_dir)
            applied = await _apply(conn, recorded, sql_dir)
            if roles or (
                ROLES in recorded and (applied or recorded[ROLES] != _roles(sql_dir).sha256)
            ):
                await make_roles(conn, sql_dir / "roles.sql")
                await _remember(conn, _roles(sql_dir))
                applied.append(ROLES)
            return applied
    finally:
        await conn.close()


async def _ensure_ours(conn: Connection) -> None:
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


async def _load_recorded(conn: Connection) -> dict[str, str]:
    found = await conn.fetch(APPLIED)
    return {record["name"]: record["sha256"] for record in found}


def _roles(sql_dir: Path) -> Script:
    return Script(ROLES, (sql_dir / "roles.sql").read_text(encoding="utf-8"))


async def _apply(conn: Connection, recorded: Mapping[str, str], sql_dir: Path) -> list[str]:
    """Apply new scripts; returns the names of what was applied.

    Scripts may change the columns that views use, so all views are dropped first and created again
    afterwards, with the grants that they had.
    """
    scripts = load_scripts(sql_dir / "migrations")
    _refuse_foreign_history(recorded, scripts)
    pending = [script for script in scripts if script.name not in recorded]
    views = Script("views", "\n".join(view.sql for view in load_scripts(sql_dir / "views")))
    if not pending and recorded.get(views.name) == views.sha256:
        return []
    grants = await conn.fetch(GRANTS_ON_VIEWS, VIEW_SCHEMAS)
    await _drop_views(conn)
    for script in (*pending, views):
        await conn.execute(script.sql)
        await _remember(conn, script)
    for grant in grants:
        if await conn.fetchval("SELECT to_regclass($1)", grant["view"]) is not None:
            await conn.execute(grant["statement"])
    return [script.name for script in (*pending, views)]


def _refuse_foreign_history(recorded: Mapping[str, str], scripts: Sequence[Script]) -> None:
    known = {script.name: script.sha256 for script in scripts}
    applied = {name: sha256 for name, sha256 in recorded.items() if name[0].isdigit()}
    if newer := sorted(applied.keys() - known.keys()):
        raise MigrationRefused(f"the database is newer than this release: it has {newer[-1]}")
    if edited := sorted(name for name in applied if applied[name] != known[name]):
        raise MigrationRefused(f"migration {edited[0]} was edited after it was applied")


async def _drop_views(conn: Connection) -> None:
    """Drop them in one statement, because some use others. Raises MigrationRefused if a view of
    somebody else uses them."""
    views = await conn.fetchval(
        "SELECT string_agg(format('%I.%I', schemaname, viewname), ', ') FROM pg_views"
        " WHERE schemaname = ANY($1)",
        VIEW_SCHEMAS,
    )
    if views is None:
        return
    try:
        await conn.execute(f"DROP VIEW {views}")
    except asyncpg.DependentObjectsStillExistError as error:
        raise MigrationRefused(
            "views of this release replace those before, and others are built on these:"
            f" {error.detail}; drop yours, migrate, and create them again"
        ) from error


async def _remember(conn: Connection, script: Script) -> None:
    await conn.execute(
        "INSERT INTO pluggy_sync.migrations (name, sha256) VALUES ($1, $2)"
        " ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256,"
        " applied_at = clock_timestamp()",
        script.name,
        script.sha256,
    )
