"""`python -m bench.cookbook`: each query of the cookbook on 1,000,000 transactions.

Of one person and of everybody: milliseconds (the best of RUNS), CPU milliseconds without parallel
workers, and blocks of shared buffers. It prints a line a query; figures of one run are comparable,
those of two machines are not.
"""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg
import click

import embedded
from bench.growth import Connection, cost
from ops.cli.report import COOKBOOK, query
from ops.migrations import migrate

FILL: Final = Path(__file__).with_name("cookbook.sql").read_text(encoding="utf-8")
ROWS_AN_ACCOUNT: Final = 500
ACCOUNTS_AN_ITEM: Final = 2
A_USER: Final = "user-7"
LONG_AGO: Final = date(2000, 1, 1)
RUNS: Final = 2


async def fill(conn: Connection, *, items: int, rows: int) -> None:
    """Insert items with two accounts of so many transactions each, and collect statistics."""
    for statement in filter(str.strip, FILL.split(";\n")):
        await conn.execute(statement.replace(":items", str(items)).replace(":rows", str(rows)))
    await conn.execute("VACUUM ANALYZE")


def questions(user: str | None) -> dict[str, tuple[str, list[Any]]]:
    """Statement and arguments by name, of one person or of all."""
    found = {path.stem: query(path.stem) for path in sorted(COOKBOOK.glob("*.sql"))}
    return {n: (sql, [user, LONG_AGO] if "$2" in sql else [user]) for n, sql in found.items()}


async def measure(transactions: int) -> None:
    """Fill a new database with so many, ask, and print."""
    with embedded.database(None) as url:
        await migrate(url)
        conn = await asyncpg.connect(url)
        try:
            items = transactions // (ROWS_AN_ACCOUNT * ACCOUNTS_AN_ITEM)
            await fill(conn, items=items, rows=ROWS_AN_ACCOUNT)
            for who, user in (("one person", A_USER), ("all", None)):
                for name, (statement, arguments) in questions(user).items():
                    seen = await cost(conn, statement, tuple(arguments), runs=RUNS)
                    ms, cpu = min(seen.ms), min(seen.cpu_ms)
                    click.echo(
                        f"{name:26} {who:10} {ms:9.1f} ms {cpu:9.1f} CPU ms {seen.blocks:9} blocks"
                    )
        finally:
            await conn.close()


@click.command()
@click.option("--transactions", default=1_000_000, help="In all, of two accounts an item.")
def main(transactions: int) -> None:
    """Measure each query of the cookbook."""
    asyncio.run(measure(transactions))


if __name__ == "__main__":
    main()
