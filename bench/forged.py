"""Forged webhooks beside genuine ones: `python -m bench.forged`; one JSON line a run.

A thousand forged events within a minute name unknown items, items that are mirrored, or rows by ids
that cannot be read. Genuine ones announce a new row each. Two times are measured: from sending a
genuine event until a query sees the row, by the clock of the bench, and from receipt to settlement,
by Postgres's.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp
import asyncpg
import click

import embedded
from ops.migrations import migrate
from tests.support.receiver import SECRET, Client, ReceiverProcess, event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess

UNLIMITED: Final = 60_000
PLUGGY_LIMIT: Final = 360
ITEMS: Final = 20
WORKERS: Final = 2
SETTLE_TIMEOUT_S: Final = 240.0
POLL_INTERVAL_S: Final = 0.01
MAX_LOG: Final = 100_000


@dataclass(frozen=True, slots=True)
class Run:
    """What is sent; kind is one of KINDS."""

    requests_per_minute: int
    genuine_per_s: float
    forged: int
    seconds: float
    kind: str = "mixed"


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the genuine events; unknown_share: of the limit, in the worst minute; halts: ever.

    requests: to Pluggy, by the start of their path, until the last genuine event was settled.
    """

    genuine: int
    visible_p50_ms: float
    visible_p99_ms: float
    settled_p50_ms: float
    settled_p99_ms: float
    unsettled: int
    requests: dict[str, int]
    unknown_requests_a_minute: int
    unknown_share: float
    refused_by_pluggy: int
    halts: int


@dataclass(slots=True)
class Sight:
    """Watches for rows by their ids: how long after its event each is seen by a query."""

    db: asyncpg.Connection
    announced_at: dict[uuid.UUID, float] = field(default_factory=dict)
    seen_after_s: list[float] = field(default_factory=list)

    def announce(self, row: str, at: float) -> None:
        self.announced_at[uuid.UUID(row)] = at

    async def watch(self) -> None:
        """Look for all that are announced and not seen yet, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            awaited = list(self.announced_at)
            found = await self.db.fetch(VISIBLE, awaited)
            now = clock()
            self.seen_after_s += [now - self.announced_at.pop(row["id"]) for row in found]
            await asyncio.sleep(POLL_INTERVAL_S)

    async def all_seen(self) -> bool:
        return not self.announced_at

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.seen_after_s)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)


@dataclass(slots=True)
class Bench:
    """The service of processes, with items that it holds."""

    db: asyncpg.Connection
    client: Client
    simulator: SimulatorProcess
    dice: random.Random
    sight: Sight
    items: list[str] = field(default_factory=list)
    accounts: dict[str, str] = field(default_factory=dict)

    def forged(self, kind: str) -> dict[str, Any]:
        """A webhook that Pluggy has not sent."""
        kind = self.dice.choice(KINDS) if kind == "mixed" else kind
        known = self.dice.choice(self.items)
        if kind == "unknown":
            return event_body()
        if kind == "known":
            return event_body(known)
        fields = {"accountId": self.accounts[known], "transactionIds": ["x"] * 3}
        return event_body(known, event="transactions/deleted", **fields)

    async def forge(self, run: Run) -> None:
        await _paced(
            run.forged / run.seconds, run.forged, lambda: self._deliver(self.forged(run.kind))
        )

    async def tell(self, run: Run) -> None:
        count = int(run.genuine_per_s * run.seconds)
        await _paced(run.genuine_per_s, count, self._change)

    async def _change(self) -> None:
        item_id = self.dice.choice(self.items)
        path = f"/_simulator/items/{item_id}/collect"
        done = await self.simulator.apost(path, {"created": 1})
        announced_at = asyncio.get_running_loop().time()
        for account in done["changes"]["accounts"].values():
            for row in account["created"]:
                self.sight.announce(row, announced_at)
        await self._deliver(event_body(item_id, eventId=f"{GENUINE}{uuid.uuid4()}"))

    async def _deliver(self, body: dict[str, Any]) -> None:
        reply = await self.client.deliver(body)
        if reply.status != 202:
            raise RuntimeError(f"the receiver answered {reply.status}")


KINDS: Final = ("unknown", "known", "half-readable")
GENUINE: Final = "genuine-"
VISIBLE: Final = "SELECT id FROM pluggy.transactions WHERE id = ANY($1::uuid[])"
LAG: Final = """
SELECT count(*) AS genuine, count(*) FILTER (WHERE state = 'pending') AS unsettled,
       coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), 0)::float AS p50_ms,
       coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms), 0)::float AS p99_ms
FROM (SELECT state, extract(epoch FROM settled_at - received_at) * 1000 AS ms
      FROM pluggy_sync.webhook_events WHERE starts_with(event_id, 'genuine-')) AS announced
"""


async def _paced(per_s: float, count: int, work: Callable[[], Awaitable[None]]) -> None:
    """Begin so many pieces of work a second, however long each takes."""
    clock = asyncio.get_running_loop().time
    started = clock()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / per_s - clock()))
            group.create_task(_awaited(work))


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def measure(run: Run) -> Figures:
    """Start everything, hold the items, send both, and wait until the genuine ones are settled."""
    limit = 0 if run.requests_per_minute == UNLIMITED else run.requests_per_minute
    async with AsyncExitStack() as opened:
        database = opened.enter_context(embedded.database())
        redis = opened.enter_context(embedded.redis())
        simulator = opened.enter_context(SimulatorProcess(rate_limit=limit, seed=3))
        await simulator.apost("/_simulator/webhooks", {"quiet": True})
        await migrate(database)
        bench = await _start(opened, database, redis, simulator, run)
        await simulator.adelete("/_simulator/requests")
        watching = asyncio.create_task(bench.sight.watch())
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.forge(run))
            group.create_task(bench.tell(run))
        await _settled(bench.db, GENUINE)
        await until(bench.sight.all_seen, "every row is visible")
        watching.cancel()
        return await _figures(bench, run)


async def _start(
    opened: AsyncExitStack,
    database: str,
    redis: str,
    simulator: SimulatorProcess,
    run: Run,
) -> Bench:
    environment = {"DATABASE_URL": database, "REDIS_URL": redis, "WEBHOOK_SECRET": SECRET}
    receiver = await opened.enter_async_context(
        ReceiverProcess(**environment | {"LOG_LEVEL": "INFO"})
    )
    session = await opened.enter_async_context(aiohttp.ClientSession())
    for _ in range(WORKERS):
        limit = {"PLUGGY_REQUESTS_PER_MINUTE": str(run.requests_per_minute)}
        await opened.enter_async_context(WorkerProcess(database, redis, simulator.url, **limit))
    db = await asyncpg.connect(database)
    opened.push_async_callback(db.close)
    client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
    eye = await asyncpg.connect(database)
    opened.push_async_callback(eye.close)
    dice = random.Random(1)  # noqa: S311 - repeatable draws
    bench = Bench(db, client, simulator, dice, Sight(eye))
    for _ in range(ITEMS):
        made = await simulator.apost("/_simulator/items", {"transactions": 40, "accounts": 2})
        truth = await simulator.aget(f"/_simulator/truth/{made['id']}")
        bench.items.append(made["id"])
        bench.accounts[made["id"]] = truth["accounts"][0]["id"]
        await client.deliver(event_body(made["id"], event="item/created"))
    await _settled(db, "")
    return bench


async def _settled(db: asyncpg.Connection, prefix: str) -> None:
    """Wait until no event of these is open; a limit may make that minutes."""
    query = (
        "SELECT count(*) FROM pluggy_sync.webhook_events"
        " WHERE state IN ('pending', 'walking') AND starts_with(event_id, $1)"
    )

    async def none_open() -> bool:
        return not await db.fetchval(query, prefix)

    await until(none_open, "all is settled", timeout_s=SETTLE_TIMEOUT_S)


async def _figures(bench: Bench, run: Run) -> Figures:
    lag = await bench.db.fetchrow(LAG)
    if lag is None:
        raise RuntimeError("an aggregate is one row")
    halts = await bench.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.halts WHERE coalesce(halted_at, resumed_at) IS NOT NULL"
    )
    log = (await bench.simulator.aget(f"/_simulator/requests?last={MAX_LOG}"))["log"]
    unknown = _most_a_minute([e["at"] for e in log if e["status"] == 404])
    return Figures(
        genuine=lag["genuine"],
        visible_p50_ms=bench.sight.percentile_ms(0.5),
        visible_p99_ms=bench.sight.percentile_ms(0.99),
        settled_p50_ms=round(lag["p50_ms"], 1),
        settled_p99_ms=round(lag["p99_ms"], 1),
        unsettled=lag["unsettled"],
        requests=dict(Counter(e["path"].split("/")[1] for e in log)),
        unknown_requests_a_minute=unknown,
        unknown_share=round(unknown / run.requests_per_minute, 3),
        refused_by_pluggy=Counter(e["status"] for e in log)[429],
        halts=halts,
    )


def _most_a_minute(moments: list[str]) -> int:
    """The most that lie in any window of a minute."""
    at = sorted(datetime.fromisoformat(moment).timestamp() for moment in moments)
    return max((sum(first <= other < first + 60 for other in at) for first in at), default=0)


def runs(*, quick: bool) -> list[Run]:
    """At an unlimited budget, and at Pluggy's."""
    seconds, forged = (20.0, 333) if quick else (60.0, 1000)
    kinds = ("mixed",) if quick else ("mixed", *KINDS)
    return [
        Run(limit, genuine, forged, seconds, kind)
        for limit, genuine in ((UNLIMITED, 20.0), (PLUGGY_LIMIT, 2.0))
        for kind in kinds
    ]


@click.command()
@click.option("--quick", is_flag=True, help="A third of a minute, mixed only.")
def main(quick: bool) -> None:
    """Genuine webhooks' lag beside forged ones."""
    for run in runs(quick=quick):
        figures = asyncio.run(measure(run))
        click.echo(json.dumps({"forged": asdict(run) | asdict(figures)}))


if __name__ == "__main__":
    main()
