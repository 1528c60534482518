"""Syncs a second of 1, 2, 4, 8 and 16 worker processes of 4 slots, with 100 ms for each answer.

A sync is a delta of two answers: 4 slots do 20 a second at most. Each round starts its own
processes, which first do as many without latency, so that their sessions know the statements.
The deltas are a multiple of all numbers of slots: with a few more, most slots would have nothing to
do while the last ones are done.
Beside each figure: how much of all cores was in use, by whatever ran.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import embedded
from bench.figures import spread
from bench.visible import OPEN, slow_down
from ops.migrations import migrate
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.inbox.accept import accept_events
from worker.inbox.events import parse_webhook
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect
from worker.wakeup.queue import ArqWaker

WORKERS: Final = (1, 2, 4, 8, 16)
SLOTS: Final = 4
ANSWER_MS: Final = 100
ANSWERS: Final = 2


@dataclass(slots=True)
class Load:
    """Items, and the servers that all workers share."""

    database_url: str
    redis_url: str
    db: Pool
    waker: ArqWaker
    simulator: SimulatorProcess
    items: list[str]

    async def first_syncs(self) -> None:
        """Mirror the items."""
        async with self._worker(20):
            await self._sync([_event("item/created", item) for item in self.items])

    async def run(self, workers: int) -> tuple[float, float]:
        """Syncs a second of one delta an item, and the share of the cores in use."""
        async with AsyncExitStack() as on:
            await asyncio.gather(
                *(on.enter_async_context(self._worker(SLOTS)) for _ in range(workers))
            )
            await self._sync([await self._collected(item) for item in self.items])
            events = [await self._collected(item) for item in self.items]
            await slow_down(self.simulator, ANSWER_MS / 1000)
            clock, used = asyncio.get_running_loop().time, _jiffies()
            began = clock()
            await self._sync(events)
            took, busy = clock() - began, _jiffies()
            await slow_down(self.simulator, 0)
        total = busy[1] - used[1]
        return len(events) / took, (busy[0] - used[0]) / total if total else 0.0

    def _worker(self, slots: int) -> WorkerProcess:
        return WorkerProcess(
            *(self.database_url, self.redis_url, self.simulator.url),
            WORKER_SLOTS=str(slots),
            METRICS_PORT="0",
        )

    async def _collected(self, item: str) -> dict[str, Any]:
        path = f"/_simulator/items/{item}/collect"
        done = await self.simulator.apost(path, {"created": 1})
        found: list[dict[str, Any]] = done["events"]
        return next(e for e in found if e["event"] == "transactions/created")

    async def _sync(self, events: list[dict[str, Any]]) -> None:
        now = datetime.now(UTC)
        parsed = [parse_webhook(json.dumps(event).encode(), now) for event in events]
        await accept_events(self.db, parsed)
        await self.waker.wake([e.item_id for e in parsed if e.item_id is not None])

        async def none_open() -> bool:
            return not await self.db.fetchval(OPEN)

        await until(none_open, "all is settled", timeout_s=300)


def _event(name: str, item: str) -> dict[str, Any]:
    return {"event": name, "eventId": f"{name}:{item}", "itemId": item}


def _jiffies() -> tuple[int, int]:
    """(in use, in all) since the machine started; Linux only, else zeros."""
    try:
        first = Path("/proc/stat").read_text("utf-8").partition("\n")[0]
    except FileNotFoundError:
        return 0, 0
    fields = [int(field) for field in first.split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians of rounds, each of all numbers of workers."""
    rounds, items, workers = (1, 48, WORKERS[:3]) if quick else (5, 128, WORKERS)
    found: dict[int, list[tuple[float, float]]] = {number: [] for number in workers}
    async with AsyncExitStack() as on:
        load = await _opened(on, items)
        for _ in range(rounds):
            for number in workers:
                found[number].append(await load.run(number))
    return _summary(found)


def _summary(found: dict[int, list[tuple[float, float]]]) -> dict[str, Any]:
    cores = os.cpu_count() or 1
    figures: dict[str, Any] = {}
    for number, rounds in found.items():
        limit = number * SLOTS * 1000 / ANSWER_MS / ANSWERS
        figures[f"{number:2} workers, syncs/s"] = spread([speed for speed, _ in rounds], 1)
        figures[f"{number:2} workers, of their slots' limit: ours / limit"] = spread(
            [speed / limit for speed, _ in rounds], 2
        )
        figures[f"{number:2} workers, cores in use of {cores}"] = spread(
            [share * cores for _, share in rounds], 2
        )
    return figures


async def _opened(on: AsyncExitStack, items: int) -> Load:
    database = on.enter_context(embedded.database(durable=True))
    redis = on.enter_context(embedded.redis())
    await migrate(database)
    simulator = await on.enter_async_context(SimulatorProcess(rate_limit=0, seed=5))
    await simulator.apost("/_simulator/webhooks", {"quiet": True})
    made = [await simulator.apost("/_simulator/items", {"transactions": 20}) for _ in range(items)]
    db = await open_pool(database, max_size=4, statement_cache=100)
    on.push_async_callback(close_pool, db)
    client = connect(redis)
    on.push_async_callback(client.aclose)
    ids = [item["id"] for item in made]
    load = Load(database, redis, db, ArqWaker(client), simulator, ids)
    await load.first_syncs()
    return load
