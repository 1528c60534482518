"""Bulk slots: a process begins no more bulk work than its slots and the rate limit allow."""

from __future__ import annotations

import time

from tests.support.stack import Stack
from worker.engine.bulk_slots import BulkSlots
from worker.infra.lanes import Lane
from worker.infra.redis_keys import PREFIX


def test_bulk_work_takes_no_more_than_its_slots() -> None:
    slots = BulkSlots(3)
    assert [slots.take() for _ in range(5)] == [True, True, True, False, False]
    slots.give_back(rate_limited=False)
    assert (slots.free, slots.limit) == (1, 3)


def test_bulk_work_that_waits_in_vain_is_halved_until_one_is_left() -> None:
    slots = BulkSlots(15)
    limits = []
    for _ in range(5):
        assert slots.take()
        slots.give_back(rate_limited=True)
        limits.append(slots.limit)
    assert limits == [7, 3, 1, 1, 1]
    for _ in range(20):
        assert slots.take()
        slots.give_back(rate_limited=False)
    assert slots.limit == 15


def test_what_is_taken_beyond_a_halved_limit_comes_back_before_more_is_taken() -> None:
    slots = BulkSlots(4)
    assert all(slots.take() for _ in range(4))
    slots.give_back(rate_limited=True)
    assert (slots.limit, slots.free) == (2, 0)
    slots.give_back()
    slots.give_back()
    assert slots.free == 1


async def test_a_walk_that_the_rate_limit_puts_off_halves_what_its_process_does_at_once(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=10)
    # No call of this group is granted for a minute.
    await stack.redis.delete(f"{PREFIX}budget:transactions")
    async with stack.redis.pipeline() as pipe:
        until_ms = int((time.time() + 60) * 1000)
        pipe.hset(f"{PREFIX}budget:transactions", mapping={"blocked_until": until_ms})
        await pipe.execute()
    bulk = stack.worker.engine.bulk
    assert (bulk.limit, bulk.free) == (4, 4)
    await stack.order("sync/verify", item["id"], Lane.AUDIT)
    await stack.worker.engine.sync(await stack.claim())
    assert (bulk.limit, bulk.free) == (2, 2)
