"""From the sending of a webhook until a query sees the row, and until the event is settled.

Deltas: `transactions/created` of one new row, several a second. Updates: `item/updated` of an item
of two accounts with new rows, one at a time, settled when all products are read. Both without
latency and with 150 ms for each answer of Pluggy: two answers are the limit of a delta.
"""

from __future__ import annotations

import asyncio
import statistics
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import asyncpg

import embedded
from bench.figures import p99, spread
from ops.migrations import migrate
from tests.support.receiver import SECRET, Client, ReceiverProcess, event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess

ITEMS: Final = 16
DELTAS_A_S: Final = 20
ANSWER_MS: Final = 150
POLL_INTERVAL_S: Final = 0.002
SEEN: Final = "SELECT count(*) = $2 FROM pluggy.transactions WHERE id = ANY ($1::uuid[])"
SETTLED: Final = (
    "SELECT settled_at - received_at FROM pluggy_sync.webhook_events WHERE event_id = $1"
)
STARTED: Final = """
SELECT extract(epoch FROM r.started_at - e.accepted_at)::float * 1000
FROM pluggy_sync.webhook_events e JOIN pluggy_sync.runs r ON r.id = e.run_id
WHERE e.event = 'transactions/created' AND e.id > $1
"""
OPEN: Final = (
    "SELECT count(*) FROM pluggy_sync.webhook_events WHERE state IN ('pending', 'walking')"
)


@dataclass(slots=True)
class Service:
    """The service of processes, with items that it holds."""

    db: asyncpg.Pool[asyncpg.Record]
    client: Client
    simulator: SimulatorProcess
    items: list[str] = field(default_factory=list)

    async def connect_items(self) -> None:
        """Items of two accounts, mirrored."""
        for _ in range(ITEMS):
            made = await self.simulator.apost("/_simulator/items", {"transactions": 200})
            self.items.append(made["id"])
            await self.client.deliver(event_body(made["id"], event="item/created"))
        await self.at_rest()

    async def at_rest(self) -> None:
        """Wait until no event is open."""

        async def none_open() -> bool:
            return not await self.db.fetchval(OPEN)

        await until(none_open, "all is settled")

    async def delta(self, item_id: str) -> float:
        """Milliseconds until a new row is visible that its webhook announces."""
        done = await self.simulator.apost(f"/_simulator/items/{item_id}/collect", {"created": 1})
        [event] = [e for e in done["events"] if e["event"] == "transactions/created"]
        rows = [r for changes in done["changes"]["accounts"].values() for r in changes["created"]]
        clock = asyncio.get_running_loop().time
        began = clock()
        await self.client.deliver(event)
        while not await self.db.fetchval(SEEN, rows, len(rows)):  # noqa: ASYNC110 - polled
            await asyncio.sleep(POLL_INTERVAL_S)
        return (clock() - began) * 1000

    async def deltas(self, count: int) -> tuple[list[float], list[float]]:
        """So many of them, begun at a steady rate, each item in turn: until a row is visible, and
        from the acceptance of an event until its run is open."""
        last = await self.db.fetchval("SELECT max(id) FROM pluggy_sync.webhook_events")
        begun = []
        for number in range(count):
            begun.append(asyncio.create_task(self.delta(self.items[number % ITEMS])))
            await asyncio.sleep(1 / DELTAS_A_S)
        found = await asyncio.gather(*begun)
        await self.at_rest()
        return found, [row[0] for row in await self.db.fetch(STARTED, last)]

    async def update(self, item_id: str) -> float:
        """Milliseconds from receipt to settlement of an item/updated."""
        await self.simulator.apost(f"/_simulator/items/{item_id}/collect", {"created": 6})
        event_id = str(uuid.uuid4())
        await self.client.deliver(event_body(item_id, eventId=event_id))
        await self.at_rest()
        return float((await self.db.fetchval(SETTLED, event_id)).total_seconds() * 1000)

    async def updates(self, count: int) -> list[float]:
        """So many of them, one at a time."""
        return [await self.update(self.items[number % ITEMS]) for number in range(count)]


async def slow_down(simulator: SimulatorProcess, seconds: float) -> None:
    """Have each answer of Pluggy take so long."""
    await simulator.adelete("/_simulator/faults")
    if seconds:
        slow = {"match": "*", "kind": "slow", "seconds": seconds, "rate": 1.0}
        await simulator.apost("/_simulator/faults", slow)


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians of rounds; in each, without and with latency."""
    rounds, deltas, updates = (3, 20, 4) if quick else (5, 60, 8)
    found: dict[str, list[list[float]]] = {}
    async with AsyncExitStack() as on:
        service, _ = await start(on)
        for number in range(rounds + 1):
            for latency_ms in (0, ANSWER_MS):
                await slow_down(service.simulator, latency_ms / 1000)
                visible, started = await service.deltas(deltas)
                one = {"delta": visible, "delta, accepted to started": started}
                one["item/updated, settled"] = await service.updates(updates)
                for name, times in one.items():
                    if number:  # the first round warms up
                        found.setdefault(f"{name}, {latency_ms} ms an answer", []).append(times)
    return _summary(found)


async def start(on: AsyncExitStack) -> tuple[Service, str]:
    """The processes with mirrored items, and the URL of their Redis."""
    database = on.enter_context(embedded.database(durable=True))
    redis = on.enter_context(embedded.redis())
    await migrate(database)
    simulator = await on.enter_async_context(SimulatorProcess(rate_limit=0, seed=3))
    await simulator.apost("/_simulator/webhooks", {"quiet": True})
    settings = {"DATABASE_URL": database, "REDIS_URL": redis, "WEBHOOK_SECRET": SECRET}
    receiver = await on.enter_async_context(ReceiverProcess(**settings | {"LOG_LEVEL": "INFO"}))
    await on.enter_async_context(WorkerProcess(database, redis, simulator.url))
    session = await on.enter_async_context(aiohttp.ClientSession())
    db = await on.enter_async_context(asyncpg.create_pool(database, min_size=4, max_size=4))
    client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
    service = Service(db, client, simulator)
    await service.connect_items()
    return service, redis


def _summary(found: dict[str, list[list[float]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, rounds in found.items():
        figures[f"{name}: p50 ms"] = spread([statistics.median(times) for times in rounds], 0)
        if name.startswith("delta"):
            figures[f"{name}: p99 ms"] = spread([p99(times) for times in rounds], 0)
    return figures
