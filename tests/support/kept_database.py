"""One database reused by successive tests: emptying it takes a tenth of the time of a new copy.

After a test the catalogs of Postgres are compared: if anything but rows was changed (a table, a
grant, a comment, statistics), the database is dropped and the next test gets a new copy.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SCHEMAS: Final = ["pluggy", "pluggy_sync"]
CATALOGS: Final = (
    "pg_attrdef",
    "pg_attribute",
    "pg_cast",
    "pg_collation",
    "pg_constraint",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_event_trigger",
    "pg_extension",
    "pg_index",
    "pg_largeobject_metadata",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_rewrite",
    "pg_seclabel",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_subscription",
    "pg_trigger",
    "pg_type",
)
"""What DDL and ANALYZE write, but for pg_class: of that TRUNCATE writes what is no difference."""
ROWS_OF_CATALOG: Final = (
    "SELECT '{0}', count(*), sum(xmin::text::bigint), sum(hashtext(ctid::text)) FROM {0}"
)
ROWS_OF_PG_CLASS: Final = """
SELECT 'pg_class', count(*), 0, sum(hashtext(concat_ws(
    '|', oid, relname, relnamespace, relowner, relacl, reloptions, relrowsecurity, reltuples)))
FROM pg_class WHERE oid >= 16384
"""
ROWS_OF_DATABASE: Final = """
SELECT 'pg_database', count(s), 0, hashtext(concat_ws('|', d.datdba, d.datacl, d.datconnlimit))
FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid
WHERE d.datname = current_database() GROUP BY d.oid
"""
DEFINITION: Final = " UNION ALL ".join(
    [*(ROWS_OF_CATALOG.format(name) for name in CATALOGS), ROWS_OF_PG_CLASS, ROWS_OF_DATABASE]
)
# Terminated sessions may still be on their way out when their client is closed.
END_OTHERS: Final = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SIZE: Final = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE oid >= 16384"
# Deleted rows stay in the files, where they would come to slow down and to mislead plans.
MAX_GROWTH: Final = 4 * 2**20
FILLED: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = ANY ($1) AND pg_relation_size(c.oid) > 0
"""
# A sequence that was never used says so by no value: what it is set to is asked of itself.
SEQUENCES: Final = """
SELECT format('%I.%I', schemaname, sequencename) AS name FROM pg_sequences
WHERE schemaname = ANY ($1)
"""


@dataclass(frozen=True)
class Original:
    """Content of a copy of the template: definition, rows, and positions of sequences."""

    definition: list[asyncpg.Record]
    size: int
    rows: dict[str, bytes]
    """What COPY gives of each table that is not empty."""
    set_sequences_back: str


class KeptDatabase:
    """At most one database at a time, for one test at a time."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._name = ""
        self._original: Original | None = None

    async def lend(self) -> str:
        """Lend a database equal to the template; returns its URL."""
        if self._original is None:
            self._name = f"pluggy_sync_test_{uuid.uuid4().hex[:8]}"
            await execute(
                self._server_url, f"CREATE DATABASE {self._name} TEMPLATE {self._template}"
            )
            async with session(self._url) as conn:
                self._original = await describe(conn)
        return self._url

    async def take_back(self) -> None:
        """End remaining sessions, and remove the rows that the test wrote."""
        if self._original is None or not await self._empty(self._original):
            await self.drop()

    async def drop(self) -> None:
        if self._name:
            await execute(self._server_url, f"DROP DATABASE {self._name} WITH (FORCE)")
        self._name, self._original = "", None

    async def _empty(self, original: Original) -> bool:
        """Empty the database; returns whether it equals the template again."""
        async with session(self._url) as conn:
            await conn.execute(END_OTHERS)
            if await conn.fetch(DEFINITION) != original.definition:
                return False
            if await conn.fetchval(SIZE) > original.size + MAX_GROWTH:
                return False
            await restore(conn, original)
        return True

    @property
    def _url(self) -> str:
        return with_database(self._server_url, self._name)


async def describe(conn: Session) -> Original:
    sequences = [name for [name] in await conn.fetch(SEQUENCES, SCHEMAS)]
    states = [await conn.fetchrow(f"SELECT * FROM {name}") for name in sequences]  # noqa: S608
    set_back = [
        f"setval('{name}', {state['last_value']}, {state['is_called']})"
        for name, state in zip(sequences, states, strict=True)
        if state is not None
    ]
    filled = [name for [name] in await conn.fetch(FILLED, SCHEMAS)]
    return Original(
        definition=await conn.fetch(DEFINITION),
        size=await conn.fetchval(SIZE),
        rows={name: rows for name in filled if (rows := await _copied(conn, name))},
        set_sequences_back=f"SELECT {', '.join(set_back)}",
    )


async def restore(conn: Session, original: Original) -> None:
    """Restore the original rows and reset counts, without firing triggers."""
    async with conn.transaction():
        filled = [name for [name] in await conn.fetch(FILLED, SCHEMAS)]
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("; ".join(f"DELETE FROM {name}" for name in filled))  # noqa: S608
        for name, rows in original.rows.items():
            schema, table = name.split(".")
            await conn.copy_to_table(table, schema_name=schema, source=io.BytesIO(rows))
        await conn.execute(original.set_sequences_back)
    await conn.execute("SELECT pg_stat_reset()")


async def _copied(conn: Session, name: str) -> bytes:
    schema, table = name.split(".")
    rows = io.BytesIO()
    await conn.copy_from_table(table, schema_name=schema, output=rows)
    return rows.getvalue()


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Session]:
    conn = await asyncpg.connect(url)
    try:
        yield conn
    finally:
        await conn.close()


async def execute(url: str, statement: str) -> None:
    async with session(url) as conn:
        await conn.execute(statement)


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
