"""200 clients that wait for 200 items at one ops process: from a commit to the client's answer.

Events of the items are settled one after the other while all others wait on, and all at one moment.
The time begins before the settling statement is sent, so it includes its commit. Items have ten
products; a durable Postgres. The waits' client is this process.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import asyncpg

import embedded
from bench.figures import spread
from ops.migrations import migrate
from tests.support.ops import OpsProcess, ops_environment, stage
from tests.support.receiver import Client
from tests.support.service_process import cpu_s
from tests.support.waiting import until
from worker.infra.settings import PRODUCTS

WAITS: Final = 200
PACE_S: Final = 0.01
NAME: Final = "bench_of_the_barrier"
# One for all waits; the start has opened another one for other requests.
CONNECTIONS_OF_ALL: Final = "connections to Postgres of the process"
SETTLE: Final = """
UPDATE pluggy_sync.webhook_events SET state = 'applied', settled_at = clock_timestamp()
WHERE item_id = ANY ($1) AND state = 'pending'
"""
CONNECTIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An ops process, a client of it, and the database that both look at."""

    db: asyncpg.Pool[asyncpg.Record]
    client: Client
    pid: int

    async def round(self, *, at_once: bool) -> dict[str, float]:
        """Times of one round of 200 waits, and what the process has used for it."""
        items = await stage(self.db, WAITS, products=PRODUCTS)
        clock = asyncio.get_running_loop().time
        answered: dict[uuid.UUID, float] = {}

        async def wait(item_id: uuid.UUID) -> None:
            reply = await self.client.call("GET", f"/v1/items/{item_id}/wait?timeout=300")
            answered[item_id] = clock()
            if reply.status != 200:
                raise RuntimeError(f"a wait has ended with {reply.status}")

        waits = [asyncio.create_task(wait(item_id)) for item_id in items]
        await self._polled()
        connections = await self.db.fetchval(CONNECTIONS, NAME)
        used, began = cpu_s(self.pid), clock()
        settled = await self._settle(items, at_once=at_once)
        await asyncio.gather(*waits)
        took = sorted((answered[item] - settled[item]) * 1000 for item in items)
        return {
            "p50 ms": took[len(took) // 2],
            "p99 ms": took[len(took) * 99 // 100],
            "most ms": took[-1],
            "CPU %": (cpu_s(self.pid) - used) / (clock() - began) * 100,
            "connections": connections,
        }

    async def _settle(
        self, items: Sequence[uuid.UUID], *, at_once: bool
    ) -> Mapping[uuid.UUID, float]:
        """Settle the items' events; returns when each of their statements was sent."""
        clock = asyncio.get_running_loop().time
        sent: dict[uuid.UUID, float] = {}
        for group in [items] if at_once else [[item] for item in items]:
            sent |= dict.fromkeys(group, clock())
            await self.db.execute(SETTLE, group)
            await asyncio.sleep(PACE_S)
        return sent

    async def _polled(self) -> None:
        """Wait until all waits have begun, and a poll for all of them has ended."""
        before: list[float] = []

        async def polled() -> bool:
            if await self.client.metric("pluggy_sync_waits") < WAITS:
                return False
            before.append(await self.client.metric("pluggy_sync_wait_polls_total"))
            return before[-1] > before[0] + 2

        await until(polled, "all waits are polled for")


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians and spreads of rounds, after one that warms up."""
    rounds = 3 if quick else 7
    found: dict[str, list[dict[str, float]]] = {"one by one": [], "all at once": []}
    async with AsyncExitStack() as on:
        waiting = await _start(on)
        for number in range(rounds + 1):
            for name, times in found.items():
                one = await waiting.round(at_once=name == "all at once")
                if number:
                    times.append(one)
    return _summary(found)


async def _start(on: AsyncExitStack) -> Waiting:
    database = on.enter_context(embedded.database(durable=True))
    redis = on.enter_context(embedded.redis())
    await migrate(database)
    named = f"{database}{'&' if '?' in database else '?'}application_name={NAME}"
    settings = ops_environment(named, redis, "http://127.0.0.1:9")
    ops = await on.enter_async_context(OpsProcess(**settings | {"LOG_LEVEL": "INFO"}))
    connector = aiohttp.TCPConnector(limit=0)
    session = await on.enter_async_context(aiohttp.ClientSession(connector=connector))
    db = await on.enter_async_context(asyncpg.create_pool(database, min_size=2, max_size=2))
    client = Client(f"http://127.0.0.1:{await ops.port()}", session)
    return Waiting(db, client, ops.child.pid)


def _summary(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {CONNECTIONS_OF_ALL: 0}
    for name, rounds in found.items():
        for figure in ("p50 ms", "p99 ms", "most ms", "CPU %"):
            figures[f"{name}: {figure}"] = spread([one[figure] for one in rounds], 1)
        most = max(int(one["connections"]) for one in rounds)
        figures[CONNECTIONS_OF_ALL] = max(most, figures[CONNECTIONS_OF_ALL])
    return figures
