"""`make bench-growth`: what operators and workers ask when tables are large, with their buffers.

The same is asked of a small database and of one with 100,000 items, 800,000 steps and 1,000,000
events. EXPLAIN ANALYZE tells milliseconds (planning and execution, median of RUNS) and blocks of
shared buffers; what is written is rolled back.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias

import asyncpg
import click

import embedded
from bench.figures import spread
from bench.growth_load import fill
from bench.results import record, write_page
from ops.migrations import migrate
from tests.support.statements import STATEMENTS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SMALL, LARGE = 1_000, 100_000
RUNS: Final = 5
AN_ITEM: Final = "SELECT item_id FROM pluggy_sync.item_sync WHERE run_at IS NULL LIMIT 1"
EXPLAIN: Final = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
OF_ONE: Final = "SELECT * FROM pluggy_ops.freshness WHERE item_id = $1"
VIEWS: Final = (
    *("overview", "findings", "worklist", "freshness", "backlog", "scaling", "lag", "dead_letters"),
    *("errors_by_connector", "missed_webhooks"),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one statement; ms: of each run; blocks: of shared buffers, found there or read."""

    ms: tuple[float, ...]
    blocks: int


def questions(item_id: uuid.UUID) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Statement and arguments by name."""
    lease = timedelta(seconds=30)
    return {
        **{view: (f"SELECT * FROM pluggy_ops.{view}", ()) for view in VIEWS},  # noqa: S608 - constants
        "freshness of one item": (OF_ONE, (item_id,)),
        "demo_progress": (STATEMENTS["demo_progress"], (0,)),
        "claim_oldest_item": (STATEMENTS["claim_oldest_item"], (lease,)),
        "claim_best_item": (STATEMENTS["claim_best_item"], (lease, 3)),
    }


async def cost(conn: Connection, statement: str, arguments: tuple[Any, ...]) -> Cost:
    """The statement's cost, now. What it writes is rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        [plan] = json.loads(await conn.fetchval(EXPLAIN + statement, *arguments))
    finally:
        await transaction.rollback()
    top = plan["Plan"]
    blocks = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return Cost((plan["Planning Time"] + plan["Execution Time"],), blocks)


async def costs(conn: Connection, *, runs: int = RUNS) -> dict[str, Cost]:
    """Of each question, after one run to fill the buffers."""
    found: dict[str, Cost] = {}
    for name, (statement, arguments) in questions(await conn.fetchval(AN_ITEM)).items():
        seen = [await cost(conn, statement, arguments) for _ in range(runs + 1)][1:]
        found[name] = Cost(tuple(one.ms[0] for one in seen), seen[-1].blocks)
    return found


async def measure(items: int) -> dict[str, Cost]:
    """Fill a new database with so many items, and ask."""
    with embedded.database(None) as url:
        await migrate(url)
        conn = await asyncpg.connect(url)
        try:
            await fill(conn, items)
            return await costs(conn)
        finally:
            await conn.close()


def figures(found: dict[str, Cost], items: int) -> dict[str, Any]:
    """Milliseconds and blocks of each question."""
    return {
        figure: value
        for name, one in found.items()
        for figure, value in (
            (f"{name}, {items:,} items: ms", spread(one.ms, 1)),
            (f"{name}, {items:,} items: blocks", one.blocks),
        )
    }


@click.command()
@click.option("--items", default=LARGE, help="Of the large database.")
@click.option("--record/--no-record", "recorded", default=True, help="Write the results.")
def main(items: int, recorded: bool) -> None:
    """Measure both sizes, and print a line for each figure."""
    found = {
        figure: value
        for size in (SMALL, items)
        for figure, value in figures(asyncio.run(measure(size)), size).items()
    }
    for figure, value in found.items():
        click.echo(f"{figure:50} {json.dumps(value)}")
    if recorded:
        record("growth", found)
        write_page()


if __name__ == "__main__":
    main()
