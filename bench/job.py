"""The whole job: items mirrored for the first time, and five new rows each; beside a script.

Ours is one worker process that is told by webhooks; the script (bench/peers/script.py) asks every
item. Both mirror items, accounts and transactions, in turn, into databases of their own on one
server. CPU is that of the client's process, without Postgres and without its start.
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

import embedded
from bench.accept import cpu_s
from bench.figures import spread
from bench.visible import OPEN
from ops.migrations import migrate
from tests.support.kept_database import execute, with_database
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
OURS, SCRIPT = "ours", "script"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run of all items."""

    wall_s: float
    cpu_s: float
    requests: int


@dataclass(slots=True)
class Job:
    """A worker over one database and a script over another."""

    db: Pool
    waker: ArqWaker
    simulator: SimulatorProcess
    worker_pid: int
    script_env: dict[str, str]

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

    async def script(self, kind: str, items: list[str]) -> Cost:
        """Run the script once."""
        await self.simulator.adelete("/_simulator/requests")
        command = (sys.executable, "-m", "bench.peers.script", kind, *items)
        process = await asyncio.create_subprocess_exec(
            *command, env=self.script_env, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError("the script has failed")
        return Cost(**json.loads(output), requests=await self._asked())

    async def _asked(self) -> int:
        """GETs since the log was emptied: each has to ask for its key, ours seldom."""
        asked = (await self.simulator.aget("/_simulator/requests"))["endpoints"]
        return sum(count for endpoint, count in asked.items() if endpoint.startswith("GET "))


@asynccontextmanager
async def _opened() -> AsyncIterator[Job]:
    async with AsyncExitStack() as on:
        server = on.enter_context(embedded.database(durable=True))
        redis = on.enter_context(embedded.redis())
        urls = {}
        for name in (OURS, SCRIPT):
            await execute(server, f"CREATE DATABASE {name}")
            urls[name] = with_database(server, name)
            await migrate(urls[name])
        simulator = await on.enter_async_context(SimulatorProcess(rate_limit=0, seed=3))
        await simulator.apost("/_simulator/webhooks", {"quiet": True})
        db = await open_pool(urls[OURS], max_size=4, statement_cache=100)
        on.push_async_callback(close_pool, db)
        worker = WorkerProcess(urls[OURS], redis, simulator.url, PRODUCTS=PRODUCTS)
        await on.enter_async_context(worker)
        env = worker_settings(urls[SCRIPT], redis, simulator.url)
        client = connect(redis)
        on.push_async_callback(client.aclose)
        yield Job(db, ArqWaker(client), simulator, worker.child.pid, env)


async def one_round(job: Job, items: int, rows: int) -> dict[str, Cost]:
    """New items, and then their new rows."""
    made = [
        await job.simulator.apost("/_simulator/items", {"transactions": rows}) for _ in range(items)
    ]
    ids = [item["id"] for item in made]
    first = [_event("item/created", item) for item in ids]
    found = {
        "backfill ours": await job.ours(first),
        "backfill script": await job.script("backfill", ids),
    }
    told = []
    for item in ids:
        path = f"/_simulator/items/{item}/collect"
        done = await job.simulator.apost(path, {"created": NEW_ROWS})
        told += [e for e in done["events"] if e["event"].startswith("transactions/")]
    found["delta ours"] = await job.ours(told)
    found["delta script"] = await job.script("delta", ids)
    await _assert_equal(job, ids)
    return found


def _event(name: str, item_id: str) -> dict[str, Any]:
    return {"event": name, "eventId": str(uuid.uuid4()), "itemId": item_id}


async def _assert_equal(job: Job, items: list[str]) -> None:
    """Raises RuntimeError unless both have mirrored the same number of rows."""
    count = "SELECT count(*) FROM pluggy.transactions WHERE item_id = ANY ($1::uuid[])"
    theirs = await asyncpg.connect(job.script_env["DATABASE_URL"])
    numbers = await job.db.fetchval(count, items), await theirs.fetchval(count, items)
    await theirs.close()
    if numbers[0] != numbers[1]:
        raise RuntimeError(f"rows mirrored: {numbers}")


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians and spreads of rounds; ratios are of the same round."""
    rounds, items, rows = (3, 4, 1000) if quick else (5, 20, 2000)
    async with _opened() as job:
        found = [await one_round(job, items, rows) for _ in range(rounds + 1)][1:]
    return _summary(found)


def _summary(found: list[dict[str, Cost]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for kind in ("backfill", "delta"):
        pairs = [(one[f"{kind} ours"], one[f"{kind} script"]) for one in found]
        figures[f"{kind}, speed: ours / script"] = spread(
            [b.wall_s / a.wall_s for a, b in pairs], 2
        )
        figures[f"{kind}, CPU of a client: script / ours"] = spread(
            [b.cpu_s / a.cpu_s for a, b in pairs], 2
        )
        for name, at in ((OURS, 0), (SCRIPT, 1)):
            figures[f"{kind} {name}, s"] = spread([pair[at].wall_s for pair in pairs], 2)
            figures[f"{kind} {name}, requests"] = pairs[-1][at].requests
    return figures
