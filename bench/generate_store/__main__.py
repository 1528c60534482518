"""`python -m bench.generate_store`: write worker/store from sql/queries and a migrated database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg

import embedded
from bench.generate_store.described import describe
from bench.generate_store.modules import render
from ops.migrations import migrate

STORE: Final = Path(__file__).resolve().parents[2] / "worker" / "store"


async def generate() -> dict[Path, str]:
    """The modules for the database as the migrations make it, on a Postgres of our own."""
    with embedded.database() as url:
        await migrate(url)
        conn = await asyncpg.connect(url)
        try:
            return render(await describe(conn))
        finally:
            await conn.close()


def main() -> None:
    """Write what has changed, and say so."""
    for path, text in asyncio.run(generate()).items():
        target = STORE / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            print(f"worker/store/{path}")


if __name__ == "__main__":
    main()
