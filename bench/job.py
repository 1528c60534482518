"""The whole job: items mirrored at first, then five new rows each, twice; by several ways.

Ours is one worker process that is told by webhooks, and so is the handler of an afternoon
(bench/peers/handler.py); the other ways (bench/peers) ask every item.
All mirror items, accounts and transactions, in turn, into databases of their own on one server,
whose WAL files are recycled, as if it had run for a while.
The rows of the import are 90 minutes old: after an hour ours does not list them again. The others
list from an hour before their newest row: at first all of the import, with the next delta little.
CPU is that of the client's process, without Postgres and without its start. Ways whose packages
cannot be installed are named and left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import click

import embedded
from bench.figures import spread
from bench.peers import environment
from bench.peers.handler import TABLE, Handler, handler
from bench.visible import OPEN
from bench.wal_files import recycle_wal
from ops.demo.simulator import IMPORTED_MINUTES_AGO
from ops.migrations import migrate
from tests.support.kept_database import execute, with_database
from tests.support.service_process import cpu_s
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess, worker_settings
from worker.inbox.accept import accept_events
from worker.inbox.events import parse_webhook
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect
from worker.wakeup.queue import ArqWaker

PRODUCTS: Final = "items,accounts,transactions"
NEW_ROWS: Final = 5
DELTAS: Final = ("delta", "next delta")
OURS: Final = "ours"
AFTERNOON: Final = "handler of an afternoon"
RAW: Final = "aiohttp + asyncpg"
"""A script of the packages of the service itself; it needs no environment of its own."""
INSTALLED: Final = {
    "httpx + psycopg": "httpx_psycopg",
    "PyPI SDK + psycopg": "sdk",
    "dlt": "dlt_mirror",
}
TABLES: Final = {"dlt": "mirror.transactions", AFTERNOON: TABLE}
"""Of the rows of those that do not keep ours."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run of all items."""

    wall_s: float
    cpu_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class Way:
    """Another way: its program, unless it is running, and its environment."""

    command: tuple[str, ...]
    environment: dict[str, str]
    table: str = "pluggy.transactions"


@dataclass(slots=True)
class Job:
    """A worker over one database, and each other way over one of its own; the handler runs."""

    server: str
    db: Pool
    waker: ArqWaker
    simulator: SimulatorProcess
    worker_pid: int
    ways: dict[str, Way]
    handler: Handler

    async def ours(self, events: list[dict[str, Any]]) -> Cost:
        """Accept the events, and wait until all are settled."""
        await self.simulator.adelete("/_simulator/requests")
        clock, used = asyncio.get_running_loop().time, cpu_s(self.worker_pid)
        now, began = datetime.now(UTC), clock()
        parsed = [parse_webhook(json.dumps(e).encode(), now) for e in events]
        await accept_events(self.db, parsed)
        await self.waker.wake([e.item_id for e in parsed if e.item_id is not None])

        async def none_open() -> bool:
            return not await self.db.fetchval(OPEN)

        await until(none_open, "all is settled", timeout_s=300)
        return Cost(clock() - began, cpu_s(self.worker_pid) - used, await self._asked())

    async def run(self, name: str, kind: str, items: list[str]) -> Cost:
        """Run a program once. Raises RuntimeError if it fails."""
        await self.simulator.adelete("/_simulator/requests")
        way = self.ways[name]
        process = await asyncio.create_subprocess_exec(
            *(*way.command, kind, *items),
            env=way.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{name} has failed")
        return Cost(**json.loads(output), requests=await self._asked())

    async def handled(self, events: list[dict[str, Any]]) -> Cost:
        """Deliver the events to the handler, and wait until it is idle."""
        await self.simulator.adelete("/_simulator/requests")
        used = cpu_s(self.handler.pid)
        wall_s = await self.handler.run(events)
        return Cost(wall_s, cpu_s(self.handler.pid) - used, await self._asked())

    async def each(
        self, kind: str, items: list[str], events: list[dict[str, Any]]
    ) -> dict[str, Cost]:
        """Ours, told by the events, and every other way."""
        told = {OURS: await self.ours(events), AFTERNOON: await self.handled(events)}
        asked = [name for name in self.ways if name != AFTERNOON]
        return told | {name: await self.run(name, kind, items) for name in asked}

    async def collected(self, item: str) -> list[dict[str, Any]]:
        """The webhooks of an item's new rows."""
        path = f"/_simulator/items/{item}/collect"
        done = await self.simulator.apost(path, {"created": NEW_ROWS})
        return [e for e in done["events"] if e["event"].startswith("transactions/")]

    async def _asked(self) -> int:
        """GETs since the log was emptied: each has to ask for its key, ours seldom."""
        asked = (await self.simulator.aget("/_simulator/requests"))["endpoints"]
        return sum(count for endpoint, count in asked.items() if endpoint.startswith("GET "))


def _ways() -> dict[str, tuple[str, ...]]:
    """The commands of the ways that can run here."""
    commands: dict[str, tuple[str, ...]] = {RAW: (sys.executable, "-m", "bench.peers.script")}
    if why := environment.missing():
        click.echo(f"not installed, so not measured: {', '.join(INSTALLED)}: {why}", err=True)
        return commands
    own = str(environment.PYTHON)
    return commands | {name: (own, "-m", f"bench.peers.{m}") for name, m in INSTALLED.items()}


@asynccontextmanager
async def _opened() -> AsyncIterator[Job]:
    async with AsyncExitStack() as on:
        # By TCP: dlt takes no URL of a socket.
        server = on.enter_context(embedded.Postgres(durable=True, tcp=True)).url
        redis = on.enter_context(embedded.redis())
        simulator = await on.enter_async_context(SimulatorProcess(rate_limit=0, seed=3))
        await simulator.apost("/_simulator/webhooks", {"quiet": True})
        ways = {}
        for number, (name, command) in enumerate({AFTERNOON: (), **_ways()}.items()):
            url = await _database(server, f"way_{number}")
            settings = worker_settings(url, redis, simulator.url)
            ways[name] = Way(command, settings, TABLES.get(name, "pluggy.transactions"))
        ours = await _database(server, OURS)
        db = await open_pool(ours, max_size=4, statement_cache=100)
        on.push_async_callback(close_pool, db)
        worker = WorkerProcess(ours, redis, simulator.url, PRODUCTS=PRODUCTS)
        await on.enter_async_context(worker)
        client = connect(redis)
        on.push_async_callback(client.aclose)
        running = await on.enter_async_context(handler(ways[AFTERNOON].environment))
        yield Job(server, db, ArqWaker(client), simulator, worker.child.pid, ways, running)


async def _database(server: str, name: str) -> str:
    """The URL of a new database with our tables."""
    await execute(server, f"CREATE DATABASE {name}")
    url = with_database(server, name)
    await migrate(url)
    return url


async def one_round(job: Job, items: int, rows: int) -> dict[str, dict[str, Cost]]:
    """New items, and then their new rows, twice: costs by kind and way."""
    await recycle_wal(job.server)
    wanted = {"transactions": rows, "importedMinutesAgo": IMPORTED_MINUTES_AGO}
    made = [await job.simulator.apost("/_simulator/items", wanted) for _ in range(items)]
    ids = [item["id"] for item in made]
    created = [_event("item/created", item) for item in ids]
    costs = {"backfill": await job.each("backfill", ids, created)}
    for kind in DELTAS:
        told = [event for item in ids for event in await job.collected(item)]
        costs[kind] = await job.each("delta", ids, told)
    await _assert_equal(job, ids)
    return costs


def _event(name: str, item_id: str) -> dict[str, Any]:
    return {"event": name, "eventId": str(uuid.uuid4()), "itemId": item_id}


async def _assert_equal(job: Job, items: list[str]) -> None:
    """Raises RuntimeError unless all have mirrored the same number of rows."""
    count = "SELECT count(*) FROM {} WHERE item_id::text = ANY ($1::text[])"
    numbers = {OURS: await job.db.fetchval(count.format("pluggy.transactions"), items)}
    for name, way in job.ways.items():
        conn = await asyncpg.connect(way.environment["DATABASE_URL"])
        numbers[name] = await conn.fetchval(count.format(way.table), items)
        await conn.close()
    if len(set(numbers.values())) != 1:
        raise RuntimeError(f"rows mirrored: {numbers}")


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians and spreads of rounds; ratios are of the same round."""
    rounds, items, rows = (2, 4, 500) if quick else (5, 10, 2000)
    async with _opened() as job:
        await one_round(job, 2, 500)  # warms up
        found = [await one_round(job, items, rows) for _ in range(rounds)]
    return _summary(found)


def _summary(found: list[dict[str, dict[str, Cost]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for kind in ("backfill", *DELTAS):
        rounds = [one[kind] for one in found]
        for name in rounds[0]:
            if name != OURS:
                speeds = [one[name].wall_s / one[OURS].wall_s for one in rounds]
                cpu = [one[name].cpu_s / one[OURS].cpu_s for one in rounds]
                figures[f"{kind}, speed: ours / {name}"] = spread(speeds, 2)
                figures[f"{kind}, CPU of a client: {name} / ours"] = spread(cpu, 2)
            figures[f"{kind}, {name}, s"] = spread([one[name].wall_s for one in rounds], 2)
            figures[f"{kind}, {name}, requests"] = rounds[-1][name].requests
    return figures
