"""Items that webhooks name, stored or unknown: a bounded share of the rate limit."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest
from arq.connections import ArqRedis

from tests.support.stack import CLIENT_ID, CLIENT_SECRET, Stack, fill_budget
from tests.support.waiting import until
from tests.syncing.test_rate_limit import command
from worker.infra.redis_keys import PREFIX
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.errors import Deferred
from worker.pluggy_api.rate_limit import MAX_WAIT_S, UNKNOWN_RESERVATIONS_MS, RateBudget

LIMIT = 360
SHARE = LIMIT // 4
KEY = f"{PREFIX}budget:items:unknown"


async def shift(redis: ArqRedis, seconds: float, key: str = KEY) -> None:
    """Let time pass for the share."""
    for field in ("at", "last_reservation"):
        if await command(redis, "HEXISTS", key, field):
            await command(redis, "HINCRBYFLOAT", key, field, -1000 * seconds)


async def taken(budget: RateBudget, item_id: uuid.UUID | None = None) -> bool:
    """Whether a call is granted, at once or after a wait in the slot."""
    return await budget._take_share("items", item_id) <= MAX_WAIT_S


async def test_no_minute_gives_unknown_items_more_than_a_quarter(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=LIMIT)
    granted, began = 0, time.monotonic()
    for _ in range(60):
        while await taken(budget):
            granted += 1
        await shift(redis, 1)
    # Those granted last are still waiting in their slots; the share fills while this goes on.
    waiting = (MAX_WAIT_S + time.monotonic() - began) * SHARE / 60
    assert SHARE * 0.9 <= granted <= SHARE + waiting + 1


@pytest.mark.parametrize(("limit", "share"), [(LIMIT, LIMIT // 12), (60, 12), (6, 6)])
async def test_no_minute_gives_one_known_item_more_than_its_share(
    redis: ArqRedis, limit: int, share: int
) -> None:
    budget, item_id = RateBudget(redis, per_minute=limit), uuid.uuid4()
    key = f"{PREFIX}budget:items:{item_id}"
    granted, began = 0, time.monotonic()
    for _ in range(60):
        while await taken(budget, item_id):
            granted += 1
        await shift(redis, 1, key)
    waiting = (MAX_WAIT_S + time.monotonic() - began) * share / 60
    assert share * 0.9 <= granted <= share + waiting + 1
    assert await budget._take_share("items", uuid.uuid4()) == 0
    assert 0 < await redis.pttl(key) <= 600_000


async def test_the_webhooks_of_one_collection_wait_for_no_share(redis: ArqRedis) -> None:
    budget, item_id = RateBudget(redis, per_minute=LIMIT), uuid.uuid4()
    assert [await budget._take_share("items", item_id) for _ in range(8)] == [0] * 8


async def test_each_that_is_sent_away_gets_a_time_of_its_own(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=LIMIT)
    while await taken(budget):
        pass
    turns: list[tuple[float, float]] = []
    while len(turns) < 200:
        asked_at = time.monotonic()
        wait_s = await budget._take_share("items")
        if wait_s > MAX_WAIT_S:  # not granted: on a slow machine the share fills meanwhile
            turns.append((asked_at + wait_s, time.monotonic() + wait_s))
    apart_s = 60 / (SHARE - SHARE / 12)
    # Each turn lies between its two times: how far they are apart is how long the answer took.
    assert all(later[1] - sooner[0] > apart_s - 0.01 for sooner, later in pairwise(turns))
    deferred = await sent_away(budget)
    assert time.monotonic() + deferred.wait_s > turns[-1][0]


async def sent_away(budget: RateBudget) -> Deferred:
    """The next call that the share does not suffice for."""
    while True:
        try:
            await budget.take_share("items")
        except Deferred as deferred:
            return deferred


async def test_times_are_not_given_for_ever_ahead(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=LIMIT)
    waits = [await budget._take_share("items") for _ in range(1500)]
    assert max(waits) <= UNKNOWN_RESERVATIONS_MS / 1000
    # Of a clock that has gone back by a day.
    await shift(redis, -86_400)
    assert await budget._take_share("items") <= UNKNOWN_RESERVATIONS_MS / 1000


async def test_a_storm_of_unknown_items_takes_its_share_and_halts_nothing(stack: Stack) -> None:
    stored = [(await stack.synced_item(transactions=20))["id"] for _ in range(3)]
    forged = [str(uuid.uuid4()) for _ in range(60)]
    await stack.reset_requests()
    async with limited(stack) as client:
        stack.worker.engine = replace(stack.worker.engine, client=client)
        for item_id in forged:
            await stack.tell("item/updated", item_id)
        for item_id in stored:
            await stack.collect(item_id, created=1)
            await stack.tell("item/updated", item_id)
        leases = [await stack.claim() for _ in range(len(forged) + len(stored))]
        await fill_budget(stack.redis)
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.gather(*(stack.worker.engine.sync(lease) for lease in leases))
        # The share fills while a slow machine is at it.
        took_s = clock() - began
    for item_id in stored:
        assert (await stack.states(item_id))[-1] == "applied"
    asked = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.webhook_events WHERE reason = '404:ITEM_NOT_FOUND'"
    )
    assert 0 < asked <= SHARE / 12 + (MAX_WAIT_S + took_s) * SHARE / 60 + 1
    due = await stack.db.fetch(
        "SELECT next_try_at FROM pluggy_sync.product_sync"
        " WHERE product = 'items' AND next_try_at IS NOT NULL AND attempts = 0"
    )
    assert len({record["next_try_at"] for record in due}) == len(forged) - asked
    assert not await stack.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.halts WHERE halted_at IS NOT NULL"
    )


async def test_a_storm_about_one_known_item_leaves_the_limit_to_others(stack: Stack) -> None:
    made = [(await stack.synced_item(transactions=20, accounts=1))["id"] for _ in range(2)]
    stormy, genuine = made
    clock = asyncio.get_running_loop().time
    async with limited(stack) as client:
        stack.worker.engine = replace(stack.worker.engine, client=client)
        await fill_budget(stack.redis)
        await stack.reset_requests()
        began = clock()
        for _ in range(40):
            await stack.process("item/updated", stormy)
        took_s = clock() - began
        await stack.update(genuine, created=1)
        share = LIMIT / 12
        log = (await stack.simulator.aget("/_simulator/requests?last=500"))["log"]
        asked = sum(entry["path"] == f"/items/{stormy}" for entry in log)
        assert share / 3 <= asked <= share / 3 + (MAX_WAIT_S + took_s) * share * 2 / 3 / 60 + 1
        assert (await stack.states(genuine))[-1] == "applied"
        # On a slow machine the share may just have sufficed for the last of them.
        while (await stack.states(stormy))[-1] == "applied":
            await stack.process("item/updated", stormy)
        # What waits has spent no attempt, and one request answers all of it.
        assert (await stack.states(stormy))[-1] == "pending"
        attempts = "SELECT attempts FROM pluggy_sync.product_sync WHERE item_id = $1"
        found = await stack.db.fetch(f"{attempts} AND product = 'items'", stormy)
        assert [record["attempts"] for record in found] == [0]
        await stack.shift(timedelta(seconds=30))
        await shift(stack.redis, 30, f"{PREFIX}budget:items:{stormy}")
        await stack.reset_requests()
        await stack.quiet()
        assert set(await stack.states(stormy)) == {"applied"}
        assert (await stack.requests()) == {"GET /items/{id}": 1}


def limited(stack: Stack) -> PluggyClient:
    """A client at Pluggy's limit."""
    return PluggyClient(
        base_url=stack.simulator.url,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        budget=RateBudget(stack.redis, per_minute=LIMIT),
    )


async def waits(redis: ArqRedis) -> bool:
    return bool(await command(redis, "HEXISTS", f"{PREFIX}budget:items", "last_reservation:0"))


async def test_events_that_come_while_a_request_waits_cost_no_further_one(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.collect(item["id"], created=1)
    await stack.tell("item/updated", item["id"])
    lease = await stack.claim()
    await stack.reset_requests()
    async with limited(stack) as client:
        engine = replace(stack.worker.engine, client=client)
        await stack.redis.delete(f"{PREFIX}budget:auth")
        for group in ("auth", "items"):
            seconds, _ = await stack.redis.time()
            # A token comes after three seconds: time enough to tell of more meanwhile.
            refill_per_s = (LIMIT - LIMIT / 12) / 60
            tokens, at = 1 - 3 * refill_per_s, int(seconds) * 1000 + 999
            bucket = f"{PREFIX}budget:{group}"
            await command(stack.redis, "HSET", bucket, "tokens", tokens, "at", at)
        syncing = asyncio.create_task(engine.sync(lease))
        await until(partial(waits, stack.redis), "the request waits")
        for _ in range(3):
            await stack.tell("item/updated", item["id"])
        await syncing
    assert (await stack.requests())["GET /items/{id}"] == 1
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])
