"""Reads by id of rows that events name: in blocks, each once, resumed by a later claim."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.altered_pluggy import altered
from tests.support.stack import Stack
from worker.engine import rounds
from worker.sync import by_id
from worker.sync.by_id import BLOCK_SIZE


class Asked:
    """Counts how often each id is asked for, on the way to the simulator."""

    def __init__(self) -> None:
        self.requests = 0
        self.ids: Counter[str] = Counter()

    async def __call__(self, path: str, body: bytes) -> bytes:
        if "&ids=" in path:
            self.requests += 1
            self.ids.update(parse_qs(urlsplit(path).query)["ids"][0].split(","))
        return body


async def one_account(stack: Stack, rows: int = 60) -> tuple[str, str, list[str]]:
    """A mirrored item with its one account and the ids of its rows."""
    item = await stack.synced_item(transactions=rows, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    return item["id"], account, sorted(await stack.live(item["id"]))


def unknown_ids(count: int) -> list[str]:
    return [str(uuid.UUID(int=n, version=4)) for n in range(1, count + 1)]


async def tell_updated(stack: Stack, item_id: str, account: str, ids: list[str]) -> None:
    await stack.tell("transactions/updated", item_id, accountId=account, transactionIds=ids)


async def test_30_000_ids_take_as_many_requests_as_blocks(stack: Stack) -> None:
    item_id, account, _ = await one_account(stack)
    ids = unknown_ids(30_000)
    for start in range(0, 30_000, 5_000):
        await tell_updated(stack, item_id, account, ids[start : start + 5_000])
    asked = Asked()
    async with altered(stack, asked):
        await stack.quiet()
    assert asked.requests == -(-30_000 // BLOCK_SIZE) == 153
    assert all(asked.ids[i] == 1 for i in ids)
    assert set(await stack.states(item_id)) == {"applied"}


async def test_a_claim_goes_on_behind_the_last_block_of_the_one_before(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, account, _ = await one_account(stack)
    ids = unknown_ids(8 * 150)
    for start in range(0, len(ids), 150):
        await tell_updated(stack, item_id, account, ids[start : start + 150])
    monkeypatch.setattr(rounds, "LAST_BLOCK_TIMEOUT_S", 1000.0)  # a block a claim
    asked = Asked()
    async with altered(stack, asked):
        for block in range(1, 8):
            await stack.worker.engine.sync(await stack.claim())
            assert asked.requests == min(block, 7)
            applied = (await stack.states(item_id)).count("applied") - 1
            assert applied == min(block * BLOCK_SIZE, len(ids)) // 150
        await stack.quiet()
    assert asked.requests == 7
    assert all(asked.ids[i] == 1 for i in ids)


async def test_what_a_killed_claim_has_asked_is_not_asked_again(stack: Stack) -> None:
    item_id, account, _ = await one_account(stack)
    await tell_updated(stack, item_id, account, unknown_ids(5 * BLOCK_SIZE))
    asked = Asked()

    async def stall(path: str, body: bytes) -> bytes:
        await asked(path, body)
        if asked.requests == 4:
            reached.set()
            await asyncio.Event().wait()
        return body

    reached = asyncio.Event()
    async with altered(stack, stall):
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        await reached.wait()
        syncing.cancel()
        await asyncio.gather(syncing, return_exceptions=True)
        again = Asked()
        async with altered(stack, again):
            await stack.quiet()
    assert again.requests == 2
    assert (await stack.states(item_id))[-1] == "applied"


async def test_the_same_ids_named_by_many_events_are_asked_for_once(stack: Stack) -> None:
    item_id, account, ids = await one_account(stack, 400)
    for n in range(20):
        await tell_updated(stack, item_id, account, ids[n:] + ids[:n])
    asked = Asked()
    async with altered(stack, asked):
        await stack.quiet()
    assert asked.requests == -(-400 // BLOCK_SIZE)
    assert set(await stack.states(item_id)) == {"applied"}


async def test_a_list_that_is_pending_again_is_asked_from_its_start(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, account, _ = await one_account(stack)
    ids = unknown_ids(2 * BLOCK_SIZE)
    await tell_updated(stack, item_id, account, ids)
    monkeypatch.setattr(rounds, "LAST_BLOCK_TIMEOUT_S", 1000.0)
    await stack.worker.engine.sync(await stack.claim())
    for state in ("dead", "pending"):  # as a requeue does
        await stack.db.execute(
            "UPDATE pluggy_sync.webhook_events SET state = $1 WHERE event = 'transactions/updated'",
            state,
        )
    asked = Asked()
    async with altered(stack, asked):
        await stack.quiet()
    assert all(asked.ids[i] == 1 for i in ids)


async def test_deleted_ids_that_came_back_in_an_earlier_claim_are_asked_once_more(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, account, rows = await one_account(stack)
    ids = rows[:1] + unknown_ids(2 * BLOCK_SIZE)
    await stack.tell("transactions/deleted", item_id, accountId=account, transactionIds=ids)
    monkeypatch.setattr(rounds, "LAST_BLOCK_TIMEOUT_S", 1000.0)
    await stack.quiet()
    [*_, announced] = await stack.events(item_id)
    assert (announced["state"], announced["ask_again_at"] is not None) == ("pending", True)
    await stack.shift(timedelta(minutes=6))
    asked = Asked()
    async with altered(stack, asked):
        await stack.quiet()
    assert all(asked.ids[i] == 1 for i in ids)
    assert (await stack.states(item_id))[-1] == "applied"


async def test_new_events_of_the_item_wait_for_no_list(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, account, _ = await one_account(stack)
    await tell_updated(stack, item_id, account, unknown_ids(5 * BLOCK_SIZE))
    monkeypatch.setattr(by_id, "UNDISTURBED_S", 0.0)
    asked = Asked()

    async def announced_meanwhile(path: str, body: bytes) -> bytes:
        await asked(path, body)
        if asked.requests == 2:
            await stack.tell("item/login_succeeded", item_id)
        return body

    async with altered(stack, announced_meanwhile):
        await stack.worker.engine.sync(await stack.claim())
        assert asked.requests == 2
        await stack.quiet()
    assert asked.requests == 5
    assert set(await stack.states(item_id)) == {"applied"}


async def test_nothing_is_kept_of_lists_that_are_settled(stack: Stack) -> None:
    item_id, account, rows = await one_account(stack)
    await tell_updated(stack, item_id, account, rows)
    await stack.quiet()
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.id_progress") == 0
