"""`python -m bench.schema`: write sql/schema.txt and docs/data-model.md of a migrated database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg

import embedded
from bench.entities import entities_page
from ops.migrations import SCHEMAS, migrate
from worker.infra.sql_files import SQL_DIR

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SCHEMA_FILE: Final = SQL_DIR / "schema.txt"
ENTITIES_FILE: Final = SQL_DIR.parent / "docs" / "data-model.md"
CATALOGUE: Final = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
HEADER: Final = "# The migrated database, written by `make schema`: change sql/, not this file.\n"


async def schema_text(conn: Connection) -> str:
    """Describe tables, views, sequences and functions: a line for each fact, in a stable order."""
    found = await conn.fetch(CATALOGUE, list(SCHEMAS))
    return HEADER + "".join(f"{record['line']}\n" for record in found)


async def render(url: str) -> dict[Path, str]:
    """Return what each file must hold for the migrated database of the URL."""
    conn: Connection = await asyncpg.connect(url)
    try:
        return {
            SCHEMA_FILE: await schema_text(conn),
            ENTITIES_FILE: await entities_page(conn),
        }
    finally:
        await conn.close()


async def write(url: str) -> None:
    """Migrate an empty database and write the files."""
    await migrate(url)
    for path, text in (await render(url)).items():
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Start a server for it and write the files."""
    with embedded.database(None) as url:
        asyncio.run(write(url))


if __name__ == "__main__":
    main()
