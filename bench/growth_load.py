"""Fill a migrated database by generate_series: items with their steps, queue and events."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncpg

STATEMENTS: Final = (Path(__file__).parent / "growth.sql").read_text(encoding="utf-8").split(";\n")


async def fill(conn: asyncpg.Connection[asyncpg.Record], items: int) -> None:
    """Insert so many items as bench/growth.sql says, and collect statistics."""
    for statement in STATEMENTS:
        if statement.strip():
            await conn.execute(statement, *([items] if "$1::" in statement else []))
    await conn.execute("VACUUM ANALYZE")
