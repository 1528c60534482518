"""`python -m bench.consumers`: what the indexes for consumers cost a load, and what they bring.

The same rows are loaded into two databases by the service's own statement, page by page in turn,
without these indexes and with them; then each query of a consumer runs on both. One JSON line:
figures of one run are comparable, those of two machines are not.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import click

import embedded
from ops.migrations import migrate
from worker.store.entities import transactions

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INDEXES: Final = (
    "transactions_id",
    "transactions_by_account",
    "transactions_bill",
    "transactions_posted_on",
    "transactions_changed",
)
PAGE: Final = 500
ROWS_AN_ACCOUNT: Final = 2000
RUNS: Final = 7
FIRST_DAY: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
QUERIES_OF_CONSUMERS: Final = {
    "by id": "SELECT * FROM pluggy_live.transactions WHERE id = $1::uuid",
    "by bill": "SELECT * FROM pluggy_live.transactions WHERE bill_id = $1::uuid",
    "account, last 30 days": "SELECT * FROM pluggy_live.transactions WHERE account_id = $1::uuid"
    " AND date >= '2025-12-01' ORDER BY date DESC",
    "all of a day": "SELECT count(*), sum(signed_amount) FROM pluggy_live.transactions"
    " WHERE posted_on = '2025-06-01' AND $1::uuid IS NOT NULL",
    "a month by category": "SELECT category, sum(signed_amount) FROM pluggy_live.transactions"
    " WHERE posted_on >= '2025-06-01' AND posted_on < '2025-07-01' AND $1::uuid IS NOT NULL"
    " GROUP BY category",
    "changed since": "SELECT count(*) FROM pluggy_live.transactions"
    " WHERE changed_at > $2::timestamptz AND $1::uuid IS NOT NULL",
}


def pages(rows: int) -> Iterator[tuple[uuid.UUID, list[dict[str, Any]]]]:
    """Rows of accounts of 2000, an item each, in pages as the service writes them."""
    for start in range(0, rows, PAGE):
        account = uuid.UUID(int=start // ROWS_AN_ACCOUNT + 1)
        yield account, [_row(account, number) for number in range(start, min(start + PAGE, rows))]


def _row(account: uuid.UUID, number: int) -> dict[str, Any]:
    at = FIRST_DAY + timedelta(hours=number % ROWS_AN_ACCOUNT * 4.38)
    row_id = uuid.uuid5(account, str(number))
    row = {
        "id": str(row_id),
        "account_id": str(account),
        "description": f"PIX ENVIADO {number}",
        "currency_code": "BRL",
        "amount": -number % 1000,
        "date": at.isoformat(),
        "posted_on": at.date().isoformat(),
        "type": "DEBIT",
        "status": "POSTED",
        "category": f"Category {number % 30}",
        "bill_id": str(uuid.UUID(int=number // 50 + 1)) if number % 3 == 0 else None,
        "source_created_at": at.isoformat(),
        "row_hash": f"\\x{row_id.hex}",
        "row_version": 1,
    }
    return row | {"payload": {"filler": "x" * 300, **row}}


async def load(bare: Connection, indexed: Connection, rows: int) -> tuple[float, float]:
    """Seconds that the statements of a first load take, page by page in turn: what else the machine
    does then slows both alike."""
    took = [0.0, 0.0]
    for account, page in pages(rows):
        rows_json = json.dumps(page)
        for place, conn in enumerate((bare, indexed)):
            began = time.perf_counter()
            await transactions.upsert_transactions(
                conn, rows=rows_json, item_id=account, run_id=1, now=datetime.now(UTC)
            )
            took[place] += time.perf_counter() - began
    for conn in (bare, indexed):
        await conn.execute("VACUUM ANALYZE pluggy.transactions")
    return took[0], took[1]


async def ask(conn: Connection, rows: int) -> dict[str, float]:
    """Milliseconds of each query, median."""
    middle = (rows // 2 // ROWS_AN_ACCOUNT) * ROWS_AN_ACCOUNT
    account = uuid.UUID(int=middle // ROWS_AN_ACCOUNT + 1)
    wanted = {
        "by id": uuid.uuid5(account, str(middle)),
        "by bill": uuid.UUID(int=middle // 50 + 1),
    }
    newest = (
        "SELECT changed_at FROM pluggy.transactions ORDER BY changed_at DESC OFFSET 2000 LIMIT 1"
    )
    since = await conn.fetchval(newest)
    found: dict[str, float] = {}
    for name, query in QUERIES_OF_CONSUMERS.items():
        arguments = [wanted.get(name, account), *([since] if "$2" in query else [])]
        times = [await _timed(conn, query, arguments) for _ in range(RUNS)]
        found[name] = round(statistics.median(times) * 1000, 2)
    return found


async def _timed(conn: Connection, query: str, arguments: list[object]) -> float:
    began = time.perf_counter()
    await conn.fetch(query, *arguments)
    return time.perf_counter() - began


async def _statements_of_indexes(indexed: Connection) -> list[str]:
    found = await indexed.fetch(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'pluggy' AND indexname = ANY($1)",
        list(INDEXES),
    )
    return [record["indexdef"] for record in found]


async def measure(url: str, rows: int) -> dict[str, Any]:
    """Load and ask a database without the indexes and one with them."""
    server = await asyncpg.connect(url)
    await server.execute("CREATE DATABASE indexed")
    await server.close()
    other = urlunsplit(urlsplit(url)._replace(path="/indexed"))
    for address in (url, other):
        await migrate(address)
    bare, indexed = await asyncpg.connect(url), await asyncpg.connect(other)
    await bare.execute(f"DROP INDEX {', '.join(f'pluggy.{name}' for name in INDEXES)}")
    bare_s, indexed_s = await load(bare, indexed, rows)
    bare_ms, indexed_ms = await ask(bare, rows), await ask(indexed, rows)
    began = time.perf_counter()
    for statement in await _statements_of_indexes(indexed):
        await bare.execute(statement)
    build_s = time.perf_counter() - began
    sizes = await indexed.fetchval(
        "SELECT sum(pg_relation_size(format('pluggy.%I', name))) FROM unnest($1::text[]) AS name",
        list(INDEXES),
    )
    table = await indexed.fetchval("SELECT pg_total_relation_size('pluggy.transactions')")
    for conn in (bare, indexed):
        await conn.close()
    return {
        "rows": rows,
        "load_s": {"without": round(bare_s, 1), "with": round(indexed_s, 1)},
        "load_ratio": round(indexed_s / bare_s, 2),
        "build_on_loaded_s": round(build_s, 1),
        "indexes_mb": round(int(sizes) / 2**20),
        "table_and_all_indexes_mb": round(int(table) / 2**20),
        "query_ms": {n: {"without": bare_ms[n], "with": indexed_ms[n]} for n in bare_ms},
    }


@click.command()
@click.option("--rows", default=510_000, help="How many transactions.")
def main(rows: int) -> None:
    """Measure, and print one JSON line."""
    with embedded.database(None) as url:
        click.echo(json.dumps(asyncio.run(measure(url, rows))))


if __name__ == "__main__":
    main()
