"""Eight worker processes at Pluggy's limit: none is refused, little is wasted, live goes first.

Three minutes of wall time and more: the budget's clock is Redis's own.
"""

from __future__ import annotations

import asyncio
import uuid
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest

from tests.support.receiver import SECRET, Client, ReceiverProcess, event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import now
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.inbox.accept import accept_events
from worker.inbox.events import registration
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool

LIMIT = 360
WORKERS = 8
WINDOWS = 3
MOST_WINDOWS = 6
"""Other programs may take a minute of the machine away: then later minutes are looked at."""
WELL_USED = 0.9
MOST_CALLS = 30
"""As many as the limit allows in five seconds: a live event waits for no more of others."""
BACKFILLED = 420
TRANSACTIONS = 1100
"""Of an item of two accounts: two pages each."""
LIVE_ITEMS = 20
LIVE_EVERY_S = 1.2
MAX_LOG = 20_000
MINUTES_S = 300.0
"""What the limit lets happen takes minutes."""


@dataclass(frozen=True)
class Use:
    """What the simulator counted in one of its minutes."""

    minute: datetime
    transactions: int
    refused: int


@pytest.fixture
def limited() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(rate_limit=LIMIT, seed=11) as simulator:
        simulator.post("/_simulator/webhooks", {"quiet": True})
        yield simulator


async def make_items(simulator: SimulatorProcess, count: int, transactions: int) -> list[str]:
    made = [
        await simulator.apost("/_simulator/items", {"transactions": transactions})
        for _ in range(count)
    ]
    return [item["id"] for item in made]


async def requests(simulator: SimulatorProcess) -> list[dict[str, Any]]:
    """The simulator's own log."""
    log: list[dict[str, Any]] = (await simulator.aget(f"/_simulator/requests?last={MAX_LOG}"))[
        "log"
    ]
    assert len(log) < MAX_LOG, "the log has forgotten requests"
    return log


async def uses(simulator: SimulatorProcess) -> list[Use]:
    """The simulator's own count, by its minutes."""
    answered, refused = Counter[datetime](), Counter[datetime]()
    for entry in await requests(simulator):
        minute = datetime.fromisoformat(entry["at"]).replace(second=0, microsecond=0)
        refused[minute] += entry["status"] == 429
        answered[minute] += entry["path"].startswith("/v2/transactions")
    minutes = sorted(set(answered) | set(refused))
    return [Use(minute, answered[minute], refused[minute]) for minute in minutes]


async def deliver_live(
    receiver_client: Client, simulator: SimulatorProcess, items: list[str]
) -> None:
    """Collections and their webhooks, until cancelled."""
    clock = asyncio.get_running_loop().time
    started = clock()
    for number in range(10_000):
        item_id = items[number % len(items)]
        await simulator.apost(f"/_simulator/items/{item_id}/collect", {"created": 1})
        assert (await receiver_client.deliver(event_body(item_id))).status == 202
        await asyncio.sleep(max(0.0, started + (number + 1) * LIVE_EVERY_S - clock()))


async def applied(db: Pool, items: list[str]) -> bool:
    query = (
        "SELECT count(DISTINCT item_id) FROM pluggy_sync.webhook_events"
        " WHERE state = 'applied' AND item_id = ANY($1::uuid[])"
    )
    return bool(await db.fetchval(query, items) == len(items))


@pytest.mark.timeout(2400)
async def test_eight_workers_use_the_budget_and_are_never_refused(
    database_url: str, db: Pool, own_redis_url: str, limited: SimulatorProcess
) -> None:
    live = await make_items(limited, LIVE_ITEMS, 40)
    bulk = await make_items(limited, BACKFILLED, TRANSACTIONS)
    environment = {
        "PLUGGY_REQUESTS_PER_MINUTE": str(LIMIT),
        "PRODUCTS": "transactions",
    }
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(aiohttp.ClientSession())
        receiver = await opened.enter_async_context(
            ReceiverProcess(
                DATABASE_URL=database_url, REDIS_URL=own_redis_url, WEBHOOK_SECRET=SECRET
            )
        )
        receiver_client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        for _ in range(WORKERS):
            await opened.enter_async_context(
                WorkerProcess(database_url, own_redis_url, limited.url, **environment)
            )
        await accept_events(db, [registration(uuid.UUID(i), now()) for i in live])
        await until(lambda: applied(db, live), "the live items are mirrored", timeout_s=MINUTES_S)
        began = now()
        await accept_events(
            db, [registration(uuid.UUID(i), now(), lane=Lane.BACKFILL) for i in bulk]
        )
        delivering = asyncio.create_task(deliver_live(receiver_client, limited, live))
        full = await minutes_of(limited, began, delivering)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        waiting = await db.fetchval("SELECT count(*) FROM pluggy_sync.account_walks")
        await until(
            lambda: all_live_applied(db, live),
            "the last live events are applied",
            timeout_s=MINUTES_S,
        )
        figures = await lag(db, live, began)
        calls = await calls_waited_for(db, limited, live, began)
    used = share(full)
    print({"uses": full, "share": round(used, 3), "walks_left": waiting, **figures})
    print({"calls answered while an event waited": Counter(calls)})
    assert waiting, "the backfill ended before its time: it was not limited"
    assert [use.refused for use in full] == [0] * len(full)
    assert used >= WELL_USED
    assert len(calls) >= 100
    assert calls[int(0.99 * len(calls))] < MOST_CALLS


def share(minutes: list[Use]) -> float:
    """The part of the limit that was used in the last of these minutes."""
    return sum(use.transactions for use in minutes[-WINDOWS:]) / (LIMIT * WINDOWS)


async def minutes_of(
    simulator: SimulatorProcess, began: datetime, delivering: asyncio.Task[None]
) -> list[Use]:
    """The whole minutes after the one in which the backfill began, until the limit is well used."""
    first = began.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for count in range(WINDOWS, MOST_WINDOWS + 1):
        end = first + timedelta(minutes=count)
        while now() < end + timedelta(seconds=1):
            assert not delivering.done(), delivering.exception()
            await asyncio.sleep(1)
        found = [use for use in await uses(simulator) if first <= use.minute < end]
        if share(found) >= WELL_USED:
            break
    return found


async def all_live_applied(db: Pool, items: list[str]) -> bool:
    query = (
        "SELECT count(*) FROM pluggy_sync.webhook_events"
        " WHERE state IN ('pending', 'walking') AND item_id = ANY($1::uuid[])"
    )
    return not await db.fetchval(query, items)


async def calls_waited_for(
    db: Pool, simulator: SimulatorProcess, items: list[str], since: datetime
) -> list[int]:
    """For each live event, the lists of transactions answered from its receipt to its settlement,
    in ascending order: time on a slow machine, of which the limit is not the cause, is not in it.
    """
    log = await requests(simulator)
    answered = sorted(
        datetime.fromisoformat(e["at"]) for e in log if e["path"].startswith("/v2/transactions")
    )
    query = (
        "SELECT received_at, settled_at FROM pluggy_sync.webhook_events"
        " WHERE item_id = ANY($1::uuid[]) AND event = 'item/updated' AND state = 'applied'"
        " AND received_at >= $2"
    )
    return sorted(
        bisect_right(answered, event["settled_at"]) - bisect_left(answered, event["received_at"])
        for event in await db.fetch(query, items, since)
    )


async def lag(db: Pool, items: list[str], since: datetime) -> dict[str, Any]:
    """From receipt to the settlement, in seconds."""
    query = (
        "SELECT count(*) AS events,"
        " percentile_cont(0.5) WITHIN GROUP (ORDER BY s)::float AS p50_s,"
        " percentile_cont(0.99) WITHIN GROUP (ORDER BY s)::float AS p99_s, max(s)::float AS max_s"
        " FROM (SELECT extract(epoch FROM settled_at - received_at) AS s"
        " FROM pluggy_sync.webhook_events WHERE item_id = ANY($1::uuid[])"
        " AND event = 'item/updated' AND state = 'applied' AND received_at >= $2) AS live"
    )
    found = await db.fetchrow(query, items, since)
    assert found is not None
    return dict(found)
