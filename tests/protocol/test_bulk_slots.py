"""Bulk slots: a process begins no more bulk work than its slots and the rate limit allow."""

from __future__ import annotations

import time
from contextlib import ExitStack

from tests.support.stack import Stack
from worker.engine.sync_item import BulkSlots
from worker.infra.lanes import Lane
from worker.infra.redis_keys import PREFIX


def test_bulk_work_takes_no_more_than_its_slots() -> None:
    slots = BulkSlots(3)
    with ExitStack() as others, ExitStack() as stack:
        assert [others.enter_context(slots.slot()) for _ in range(2)] == [True, True]
        taken = [stack.enter_context(slots.slot(lambda: False)) for _ in range(3)]
        assert taken == [True, False, False]
        stack.close()
        assert (slots.free, slots.limit) == (1, 3)


def test_no_slot_is_taken_where_none_is_wanted() -> None:
    slots = BulkSlots(3)
    with slots.slot(lambda: True, wanted=False) as taken:
        assert not taken
        assert slots.free == 3
    assert slots.limit == 3


def test_bulk_work_that_the_rate_limit_stops_is_halved_until_one_is_left() -> None:
    slots = BulkSlots(15)
    limits = []
    for _ in range(5):
        with slots.slot(lambda: True) as taken:
            assert taken
        limits.append(slots.limit)
    assert limits == [7, 3, 1, 1, 1]
    for _ in range(20):
        with slots.slot(lambda: False) as taken:
            assert taken
    assert slots.limit == 15


def test_what_is_taken_beyond_a_halved_limit_comes_back_before_more_is_taken() -> None:
    slots = BulkSlots(4)
    with ExitStack() as others:
        assert [others.enter_context(slots.slot()) for _ in range(3)] == [True] * 3
        with slots.slot(lambda: True) as taken:
            assert taken
        assert (slots.limit, slots.free) == (2, 0)
    assert slots.free == 2


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
