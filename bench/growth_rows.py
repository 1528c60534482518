"""Growth of one account: a delta when it has 10 thousand, 1 million and 10 million rows.

Each size is a database of its own on one server, filled by generate_series without indexes, which
are built afterwards; the largest takes some minutes. Rounds are interleaved: in each, a page of 45
rows that are stored already and 5 new ones is stored in every database, as the last page of a delta
is (`store_page`), and committed. CPU is that of Postgres's session and of our process: other work
of the machine makes it vary far less than the time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

import embedded
from bench.figures import spread
from bench.pages import OURS, open_session, raw_rows
from bench.postgres_cpu import cpu_ms
from ops.migrations import migrate
from tests.support.kept_database import execute, with_database
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import build_client
from worker.infra.postgres import close_pool, open_pool
from worker.infra.redis_client import connect
from worker.lease.lease import SyncSession
from worker.pluggy_api.endpoints import Page
from worker.pluggy_api.payloads import decode_envelope
from worker.sync.transactions import store_page

LARGEST: Final = 10_000_000
SIZES: Final = (10_000, 1_000_000)
"""And the largest, of each of which a database is filled."""
ROUNDS, WARM_UP = 200, 20
KNOWN, NEW = 45, 5
INDEXES: Final = (
    "SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition"
    " FROM pg_index i WHERE i.indrelid = 'pluggy.transactions'::regclass AND NOT i.indisprimary"
)
BLOCKS: Final = (
    "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
)
PID: Final = "SELECT pg_backend_pid()"
FILL: Final = """
INSERT INTO pluggy.transactions (item_id, id, account_id, description, currency_code, amount, date,
    posted_on, type, status, source_created_at, source_updated_at, payload, row_hash, row_version,
    run_id)
SELECT $1, md5(n::text)::uuid, $2, 'row ' || n, 'BRL', n % 1000, at, at::date, 'DEBIT', 'POSTED',
       at, at, '{"description": "row", "amount": 1}', '\\x00', 1, 1
FROM generate_series(1, $3::integer) AS n
CROSS JOIN LATERAL (SELECT now() - interval '1 hour' - n * interval '10 seconds' AS at) AS a
"""
"""item, account, rows."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one page: milliseconds, and of these what our process and Postgres's session computed."""

    ms: float
    worker_ms: float
    postgres_ms: float

    @property
    def cpu_ms(self) -> float:
        return self.worker_ms + self.postgres_ms


@dataclass(frozen=True, slots=True)
class Account:
    """One account of a database, and the session that stores its pages; pid: of Postgres."""

    rows: int
    account_id: uuid.UUID
    session: SyncSession
    raws: Sequence[bytes]
    pid: int

    async def cost(self, round_: int) -> Cost:
        """Of storing the page of a round."""
        postgres, own = cpu_ms(self.pid), time.process_time()
        took_s = await self.store(round_)
        worker_ms = (time.process_time() - own) * 1000
        return Cost(took_s * 1000, worker_ms, cpu_ms(self.pid) - postgres)

    async def store(self, round_: int) -> float:
        """Seconds to store the page of a round."""
        new = self.raws[KNOWN + round_ * NEW : KNOWN + (round_ + 1) * NEW]
        body = b'{"results":[' + b",".join([*self.raws[:KNOWN], *new]) + b'],"next":null}'
        began = time.perf_counter()
        envelope = decode_envelope(body)
        page = Page(envelope.results, envelope.next, datetime.now(UTC))
        async with self.session.page() as db:
            await store_page(db, self.session, self.account_id, page)
        return time.perf_counter() - began


async def fill(url: str, account_id: uuid.UUID, rows: int) -> None:
    """Give the account its rows, and collect statistics."""
    await migrate(url)
    conn = await asyncpg.connect(url)
    indexes = await conn.fetch(INDEXES)
    for index in indexes:
        await conn.execute(f"DROP INDEX {index['name']}")
    await conn.execute(FILL, OURS, account_id, rows)
    for index in indexes:
        await conn.execute(index["definition"])
    await conn.execute("VACUUM ANALYZE pluggy.transactions")
    await conn.close()


async def one_round(accounts: Sequence[Account], round_: int) -> list[Cost]:
    """Of each account; nobody is always the first."""
    found = {one.rows: await one.cost(round_) for one in accounts[:: 1 if round_ % 2 else -1]}
    return [found[one.rows] for one in accounts]


async def blocks(pool: Any) -> int:
    """Blocks of shared buffers that the database has used so far."""
    await pool.fetchval("SELECT pg_stat_force_next_flush()")
    return int(await pool.fetchval(BLOCKS))


async def measure(largest: int) -> dict[str, Any]:
    """Figures of each size."""
    with embedded.database(None) as server, embedded.redis() as redis_url:
        redis = connect(redis_url)
        async with SimulatorProcess(rate_limit=0) as simulator:
            rows = KNOWN + NEW * (ROUNDS + WARM_UP)
            account_id, raws = await raw_rows(simulator, rows)
            async with build_client(simulator.url, redis) as client:
                sizes = sorted({*SIZES, largest})
                found = await _rounds(server, sizes, account_id, raws, client)
        await redis.aclose()
    return found


async def _rounds(
    server: str, sizes: Sequence[int], account_id: uuid.UUID, raws: list[bytes], client: Any
) -> dict[str, Any]:
    pools: list[Any] = []
    figures: dict[str, Any] = {}
    for size in sizes:
        name = f"rows_{size}"
        await execute(server, f"CREATE DATABASE {name}")
        began = time.perf_counter()
        await fill(with_database(server, name), account_id, size)
        figures[f"fill, {size:,} rows: s"] = spread([time.perf_counter() - began], 0)
        # One connection: what it computes is all that Postgres does for a page.
        pools.append(await open_pool(with_database(server, name), max_size=1, statement_cache=100))
    accounts: list[Account] = []
    # When all are filled: a pool replaces a connection that has been idle for minutes.
    for size, pool in zip(sizes, pools, strict=True):
        session, pid = await open_session(pool, client), await pool.fetchval(PID)
        accounts.append(Account(size, account_id, session, raws, pid))
    for n in range(WARM_UP):
        await one_round(accounts, n)
    before = [await blocks(pool) for pool in pools]
    seen = [await one_round(accounts, n) for n in range(WARM_UP, WARM_UP + ROUNDS)]
    for size, pool, so_far in zip(sizes, pools, before, strict=True):
        figures[f"delta, {size:,} rows: blocks"] = (await blocks(pool) - so_far) // ROUNDS
        await close_pool(pool)
    return figures | _figures(sizes, seen)


def _figures(sizes: Sequence[int], seen: Sequence[Sequence[Cost]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, size in enumerate(sizes):
        costs = [one[place] for one in seen]
        found[f"delta, {size:,} rows: ms"] = spread([cost.ms for cost in costs], 1)
        found[f"delta, {size:,} rows: CPU ms of Postgres"] = spread(
            [cost.postgres_ms for cost in costs], 2
        )
        found[f"delta, {size:,} rows: CPU ms of the worker"] = spread(
            [cost.worker_ms for cost in costs], 2
        )
        if place:
            ratios = [one[0].cpu_ms / one[place].cpu_ms for one in seen]
            name = f"deltas a second of CPU: {size:,} rows / {sizes[0]:,} rows"
            found[name] = spread(ratios, 2)
    return found
