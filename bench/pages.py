"""`python -m bench.pages`: rows a second of one account's pages, beside other ways to store them.

Ours is `decode_envelope`, `in_page` and `store_page`: from the body of an answer to its
commit. executemany is what a script does: decode the body, map the rows, upsert them in one
transaction a page, into the same table with the same columns and indexes. COPY gets rows that are
mapped already, all new, in batches of a page: the limit of Postgres and asyncpg.

Each collects garbage as it does where it runs: ours as a worker, the others as Python does. WAL
files are recycled, as in a server that has run for a while.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg
import click
import uvloop

import embedded
from bench.figures import spread
from bench.peers.rows import COLUMNS, UPSERT, ZONE, mapped
from bench.results import record
from bench.wal_files import recycle_wal
from ops.migrations import migrate
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import build_client
from worker.infra.lanes import Lane
from worker.infra.postgres import close_pool, open_pool
from worker.infra.redis_client import connect
from worker.infra.time_slices import GC_THRESHOLD
from worker.lease.lease import Lease, SyncSession
from worker.pluggy_api.endpoints import Page, PluggyReader
from worker.pluggy_api.payloads import decode_envelope
from worker.sync.store_rows import in_page
from worker.sync.transactions import store_page

Body: TypeAlias = bytes
Write: TypeAlias = Callable[[Body], Awaitable[None]]

PAGE: Final = 500
PEERS_GC_THRESHOLD: Final = gc.get_threshold()[0]
LOADS: Final = ("first", "unchanged", "5 %", "100 %")
OURS, UPSERTED, COPIED = (uuid.UUID(int=n) for n in (1, 2, 3))


@dataclass(slots=True)
class Peers:
    """The ways that keep rows without comparing them."""

    conn: asyncpg.Connection[asyncpg.Record]
    prepared: dict[Body, list[tuple[Any, ...]]]

    async def executemany(self, body: Body) -> None:
        """From the body to the commit."""
        rows = mapped(UPSERTED, body)
        async with self.conn.transaction():
            await self.conn.executemany(UPSERT, rows)

    async def copy(self, body: Body) -> None:
        """The rows alone."""
        async with self.conn.transaction():
            await self.conn.copy_records_to_table(
                "transactions", schema_name="pluggy", columns=COLUMNS, records=self.prepared[body]
            )


def bodies(raws: Sequence[bytes]) -> list[Body]:
    """Answers of 500 rows each."""
    return [
        b'{"results":[' + b",".join(raws[start : start + PAGE]) + b'],"next":null}'
        for start in range(0, len(raws), PAGE)
    ]


def changed(raw: bytes) -> bytes:
    """The row with another description and a later time."""
    was = json.loads(raw)["updatedAt"]
    later = datetime.fromisoformat(was) + timedelta(seconds=1)
    now = later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raw = raw.replace(f'"updatedAt":"{was}"'.encode(), f'"updatedAt":"{now}"'.encode())
    return raw.replace(b'"description":"', b'"description":"CHANGED ', 1)


async def timed(conn: Any, write: Write, pages: Sequence[Body], rows: int) -> tuple[float, float]:
    """Rows a second, and bytes of WAL a row."""
    lsn = await conn.fetchval("SELECT pg_current_wal_insert_lsn()")
    began = time.perf_counter()
    for body in pages:
        await write(body)
    took = time.perf_counter() - began
    wal = await conn.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", lsn)
    return rows / took, float(wal) / rows


async def one_round(
    conn: Any, ways: Sequence[tuple[str, Write]], loads: dict[str, list[Body]], rows: int
) -> dict[str, tuple[float, float]]:
    """Each load by each way in turn, so that a busy machine slows all of them."""
    await conn.execute("TRUNCATE pluggy.transactions")
    found = {}
    for load, pages in loads.items():
        for way, write in ways:
            gc.set_threshold(GC_THRESHOLD if way == "ours" else PEERS_GC_THRESHOLD)
            if way != "COPY" or load == "first":
                found[f"{load} {way}"] = await timed(conn, write, pages, rows)
        await conn.execute("DELETE FROM pluggy.transactions WHERE item_id = $1", COPIED)
        await conn.execute("VACUUM ANALYZE pluggy.transactions")
    return found


async def raw_rows(simulator: SimulatorProcess, rows: int) -> tuple[uuid.UUID, list[bytes]]:
    """Rows of one account, as Pluggy writes them."""
    item = await simulator.apost("/_simulator/items", {"transactions": rows * 2})
    truth = await simulator.aget(f"/_simulator/truth/{item['id']}")
    accounts: dict[str, list[bytes]] = {}
    for row in truth["transactions"]:
        text = json.dumps(row, separators=(",", ":"), ensure_ascii=False)
        accounts.setdefault(row["accountId"], []).append(text.encode())
    account, found = max(accounts.items(), key=lambda entry: len(entry[1]))
    return uuid.UUID(account), found[:rows]


async def open_session(db: Any, client: Any) -> SyncSession:
    """A session of our item, its run open."""
    lease = Lease(OURS, uuid.uuid4(), Lane.BACKFILL, await db.fetchval("SELECT now()"))
    await db.execute(
        "INSERT INTO pluggy_sync.item_leases (item_id, token, until)"
        " VALUES ($1, $2, now() + interval '1 hour')",
        *(lease.item_id, lease.token),
    )
    session = SyncSession(db, PluggyReader(client, Lane.BACKFILL), lease, lease.now, ZONE, ())
    await session.open_run("sync")
    return session


async def measure(url: str, redis_url: str, rows: int, rounds: int) -> dict[str, Any]:
    """Ratios, and the figures that they are made of."""
    gc.freeze()
    await migrate(url)
    await recycle_wal(url)
    redis, db = connect(redis_url), await open_pool(url, max_size=2, statement_cache=100)
    conn = await asyncpg.connect(url)
    await conn.execute("ALTER TABLE pluggy.transactions SET (autovacuum_enabled = false)")
    async with SimulatorProcess(rate_limit=0) as simulator, build_client(simulator.url, redis) as c:
        account_id, raws = await raw_rows(simulator, rows)
        session = await open_session(db, c)
        found = await _rounds(conn, session, account_id, raws, rounds)
    await close_pool(db)
    await conn.close()
    await redis.aclose()
    return summary(found) | {"rows": len(raws), "rounds": rounds}


async def _rounds(
    conn: Any, session: SyncSession, account_id: uuid.UUID, raws: list[bytes], rounds: int
) -> list[dict[str, tuple[float, float]]]:
    async def ours(body: Body) -> None:
        envelope = decode_envelope(body)
        page = Page(envelope.results, envelope.next, datetime.now(UTC))
        await in_page(session, lambda db: store_page(db, session, account_id, page))

    few = [raw if n % 20 else changed(raw) for n, raw in enumerate(raws)]
    loads = [bodies(found) for found in (raws, raws, few, list(map(changed, few)))]
    peers = Peers(conn, {body: mapped(COPIED, body) for body in loads[0]})
    ways: list[tuple[str, Write]] = [
        ("ours", ours),
        ("executemany", peers.executemany),
        ("COPY", peers.copy),
    ]
    named, found = dict(zip(LOADS, loads, strict=True)), []
    for _ in range(rounds + 1):
        # Nobody is always the first after the vacuum.
        ways.reverse()
        found.append(await one_round(conn, ways, named, len(raws)))
    return found[1:]  # the first round warms up


def summary(found: Sequence[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    """Medians and spreads; ratios are of the same round."""
    figures: dict[str, Any] = {}
    for name in found[0]:
        load, way = name.rsplit(" ", 1)
        if way != "ours":
            ratios = [one[f"{load} ours"][0] / one[name][0] for one in found]
            figures[f"{load}: ours / {way}"] = spread(ratios, 2)
    for name in found[0]:
        figures[f"{name}, rows/s"] = spread([one[name][0] for one in found], 0)
        figures[f"{name}, WAL B/row"] = round(statistics.median(one[name][1] for one in found))
    return figures


@click.command()
@click.option("--rows", default=8000, help="Rows of the account.")
@click.option("--rounds", default=5, help="Interleaved rounds, after one that warms up.")
@click.option("--record/--no-record", "recorded", default=True, help="Write bench/results.json.")
def main(rows: int, rounds: int, recorded: bool) -> None:
    """Measure; a line for each figure."""
    with embedded.database(None, durable=True) as url, embedded.redis() as redis_url:
        figures = uvloop.run(measure(url, redis_url, rows, rounds))
    for name, value in figures.items():
        click.echo(f"{name:32} {json.dumps(value)}")
    if recorded:
        record("store", figures)


if __name__ == "__main__":
    main()
