"""Deleted ids that take more than one request: over the limit, all of them are flagged."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.support.altered_pluggy import altered
from tests.support.partial_view import hiding, one_account, without
from tests.support.stack import Stack
from tests.syncing.test_deletion_limits import dead, name_deleted, reasons
from tests.syncing.test_deletions import flagged, tombstones
from worker.engine import rounds
from worker.sync.by_id import BLOCK_SIZE

TOO_MANY = "too_many_at_once"


async def tell_deleted(stack: Stack, item_id: str, ids: list[str]) -> None:
    [account] = await stack.live(item_id, "accounts")
    await stack.tell("transactions/deleted", item_id, accountId=account, transactionIds=ids)


async def sync_once(stack: Stack) -> None:
    await stack.worker.engine.sync(await stack.claim())


async def test_what_several_blocks_name_over_the_limit_is_flagged_whole(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 1000)
    gone = ids[100:500]
    async with hiding(stack, *gone):
        await name_deleted(stack, item_id, gone)
        assert await tombstones(stack, item_id) == 0
        assert await reasons(stack, item_id) == dict.fromkeys(gone, TOO_MANY)
        assert set(await stack.states(item_id)) == {"applied"}
        await stack.after(timedelta(days=1, minutes=1))
        assert await tombstones(stack, item_id) == 0
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.id_progress") == 0


async def test_what_several_blocks_name_within_the_limit_is_tombstoned(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 1050)
    gone = ids[100:310]
    assert len(gone) > BLOCK_SIZE
    async with hiding(stack, *gone):
        await name_deleted(stack, item_id, gone)
    assert await dead(stack, item_id) == set(gone)
    assert await flagged(stack, item_id) == []


async def test_a_second_event_over_the_limit_of_seven_days_is_flagged_whole(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 1000)
    first, second = ids[100:250], ids[300:450]
    async with hiding(stack, *first, *second):
        await name_deleted(stack, item_id, first)
        assert await dead(stack, item_id) == set(first)
        assert await flagged(stack, item_id) == []
        await stack.shift(timedelta(days=3))
        await name_deleted(stack, item_id, second)
    assert await dead(stack, item_id) == set(first)
    assert await reasons(stack, item_id) == dict.fromkeys(second, TOO_MANY)


async def test_events_that_are_asked_together_are_over_the_limit_together(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, ids = await one_account(stack, 1000)
    gone = ids[100:400]
    monkeypatch.setattr(rounds, "LAST_BLOCK_TIMEOUT_S", 1000.0)  # a block a claim
    async with hiding(stack, *gone):
        await tell_deleted(stack, item_id, gone[:190])
        await tell_deleted(stack, item_id, gone[190:])
        await stack.quiet()
    assert await tombstones(stack, item_id) == 0
    assert await reasons(stack, item_id) == dict.fromkeys(gone, TOO_MANY)


async def test_each_claim_that_goes_on_flags_what_the_first_one_flagged(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, ids = await one_account(stack, 1000)
    gone = ids[100:500]
    monkeypatch.setattr(rounds, "LAST_BLOCK_TIMEOUT_S", 1000.0)
    async with hiding(stack, *gone):
        await tell_deleted(stack, item_id, gone)
        for block in range(1, 4):
            await sync_once(stack)
            assert len(await flagged(stack, item_id)) == min(block * BLOCK_SIZE, 400)
            assert await tombstones(stack, item_id) == 0
        await stack.quiet()
    assert await reasons(stack, item_id) == dict.fromkeys(gone, TOO_MANY)


async def test_a_worker_killed_between_two_blocks_changes_no_decision(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 1000)
    gone = ids[100:500]
    hidden, blocks, reached = set(gone), 0, asyncio.Event()

    async def stall_at_the_last(path: str, body: bytes) -> bytes:
        nonlocal blocks
        blocks += "&ids=" in path
        if blocks == 3:
            reached.set()
            await asyncio.Event().wait()
        return without(body, hidden) if path.startswith("/v2/transactions") else body

    await tell_deleted(stack, item_id, gone)
    async with altered(stack, stall_at_the_last):
        syncing = asyncio.create_task(sync_once(stack))
        await reached.wait()
        assert len(await flagged(stack, item_id)) == 2 * BLOCK_SIZE
        syncing.cancel()
        await asyncio.gather(syncing, return_exceptions=True)
        async with hiding(stack, *gone):
            await stack.quiet()
    assert await tombstones(stack, item_id) == 0
    assert await reasons(stack, item_id) == dict.fromkeys(gone, TOO_MANY)


async def test_named_rows_that_come_back_are_stored_and_not_flagged(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 1000)
    named, shown = ids[100:500], set(ids[100:500:2])
    async with hiding(stack, *(set(named) - shown)):
        await name_deleted(stack, item_id, named)
        assert await tombstones(stack, item_id) == 0
        assert await reasons(stack, item_id) == dict.fromkeys(set(named) - shown, TOO_MANY)
    assert shown <= set(await stack.live(item_id))


async def test_ids_that_are_not_stored_count_for_no_limit(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 1000)
    strangers = [f"00000000-0000-4000-8000-{n:012d}" for n in range(400)]
    gone = ids[100:110]
    async with hiding(stack, *gone):
        await tell_deleted(stack, item_id, sorted([*gone, *strangers]))
        await stack.quiet()
    assert await dead(stack, item_id) == set(gone)
    assert await flagged(stack, item_id) == []
