"""`make bench-growth`: what operators and workers ask when tables are large, with their buffers.

Every view of pluggy_ops and the statements of the hot path are asked of a small database and of one
with 100,000 items, 800,000 steps and 1,000,000 events. EXPLAIN ANALYZE tells milliseconds (planning
and execution) and blocks of shared buffers; what is written is rolled back. CPU is that of the
session's process, of runs without parallel workers. Then bench/growth_rows.py and
bench/growth_walk.py.
"""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias

import asyncpg
import click

import embedded
from bench import growth_rows, growth_walk, held
from bench.figures import spread
from bench.growth_load import fill
from bench.postgres_cpu import cpu_ms
from bench.results import load, record, write_page
from ops.migrations import migrate
from tests.support.statements import STATEMENTS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SMALL, LARGE = 1_000, 100_000
RUNS: Final = 5
OF_AN_ACCOUNT: Final = "growth of an account"
AN_ITEM: Final = "SELECT item_id FROM pluggy_sync.item_sync WHERE run_at IS NULL LIMIT 1"
EXPLAIN: Final = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
OF_ONE: Final = "SELECT * FROM pluggy_ops.freshness WHERE item_id = $1"
VIEWS: Final = "SELECT viewname FROM pg_views WHERE schemaname = 'pluggy_ops' ORDER BY viewname"
NO_PARALLEL: Final = "SET max_parallel_workers_per_gather = 0"
LEASE: Final = timedelta(seconds=30)
A_LOCK: Final = 2**40
"""Nobody else's."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one statement; ms, cpu_ms: of each run; blocks: of shared buffers, found there or read."""

    ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    blocks: int


async def questions(conn: Connection) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Statement and arguments by name."""
    item_id = await conn.fetchval(AN_ITEM)
    newest = await conn.fetchval("SELECT max(id) FROM pluggy_sync.webhook_events")
    arguments: dict[str, tuple[Any, ...]] = {
        "demo_progress": (newest,),
        "claim_woken_item": (item_id, LEASE),
        "claim_best_item": (LEASE, 3),
        "claim_oldest_item": (LEASE,),
        "next_due_item": (3,),
        "sweep_due_items": (A_LOCK, 100, 3),
        "ignore_events_without_item": (),
        "load_item_state": (item_id, uuid.UUID(int=0), LEASE),
        "fence": (item_id, uuid.UUID(int=0), LEASE),
        "item_open_events": (item_id, 50),
        "load_due_verifies": (100,),
        "load_due_recent_reads": (100,),
        "load_due_webhook_checks": (100,),
        "load_due_overlaps": (100,),
        "load_due_confirmations": (100,),
        "load_due_deletions": (100,),
        "delete_expired_runs": (timedelta(days=365), 1000),
    }
    views = [view for (view,) in await conn.fetch(VIEWS)]
    return {
        **{view: (f"SELECT * FROM pluggy_ops.{view}", ()) for view in views},  # noqa: S608 - from pg_views
        "freshness of one item": (OF_ONE, (item_id,)),
        **{name: (STATEMENTS[name], given) for name, given in arguments.items()},
    }


async def explain(
    conn: Connection, statement: str, arguments: tuple[Any, ...]
) -> tuple[float, int]:
    """Milliseconds and blocks of the statement, now. What it writes is rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        [plan] = json.loads(await conn.fetchval(EXPLAIN + statement, *arguments))
    finally:
        await transaction.rollback()
    top = plan["Plan"]
    blocks = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return plan["Planning Time"] + plan["Execution Time"], blocks


async def cost(
    conn: Connection, statement: str, arguments: tuple[Any, ...], *, runs: int = RUNS
) -> Cost:
    """The statement's cost; the first run, without parallel workers, fills the buffers."""
    pid, used = conn.get_server_pid(), []
    await conn.execute(NO_PARALLEL)
    for _ in range(runs + 1):
        before = cpu_ms(pid)
        await explain(conn, statement, arguments)
        used.append(cpu_ms(pid) - before)
    await conn.execute("RESET max_parallel_workers_per_gather")
    seen = [await explain(conn, statement, arguments) for _ in range(runs)]
    return Cost(tuple(ms for ms, _ in seen), tuple(used[1:]), seen[-1][1])


async def measure(items: int) -> dict[str, Cost]:
    """Fill a new database with so many items, and ask."""
    with embedded.database(None) as url:
        await migrate(url)
        conn = await asyncpg.connect(url)
        try:
            await fill(conn, items)
            asked = await questions(conn)
            return {name: await cost(conn, *asked[name]) for name in asked}
        finally:
            await conn.close()


def figures(found: dict[str, Cost], items: int) -> Iterator[tuple[str, Any]]:
    """Name and value of each figure."""
    for name, one in found.items():
        yield f"{name}, {items:,} items: ms", spread(one.ms, 1)
        yield f"{name}, {items:,} items: CPU ms", spread(one.cpu_ms, 1)
        yield f"{name}, {items:,} items: blocks", one.blocks


@click.command()
@click.option("--items", default=LARGE, help="Of the large database; 0: no statements.")
@click.option("--rows", default=growth_rows.LARGEST, help="Of the largest account; 0: no accounts.")
@click.option("--walk", default=growth_walk.ROWS, help="Rows that a worker reads; 0: none.")
@click.option("--held", "connections", default=held.HELD, help="By the receiver; 0: none.")
@click.option("--record/--no-record", "recorded", default=True, help="Write the results.")
def main(items: int, rows: int, walk: int, connections: int, recorded: bool) -> None:
    """Measure all sizes, and print a line for each figure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    found: dict[str, dict[str, Any]] = {}
    if items:
        found["growth"] = {
            figure: value
            for size in (SMALL, items)
            for figure, value in figures(asyncio.run(measure(size)), size)
        }
    if rows:
        found[OF_AN_ACCOUNT] = asyncio.run(growth_rows.measure(rows))
    if walk:
        found[OF_AN_ACCOUNT] = found.get(OF_AN_ACCOUNT, {}) | growth_walk.measure(walk)
    if connections:
        found["held connections"] = asyncio.run(held.measure(connections))
    for question, named in found.items():
        for figure, value in named.items():
            click.echo(f"{question:20} {figure:50} {json.dumps(value)}")
        if recorded:
            # What was left out of the account stays as the last run has found it.
            kept = load().get(question, {}) if question == OF_AN_ACCOUNT else {}
            record(question, kept | named)
    if recorded:
        write_page()


if __name__ == "__main__":
    main()
