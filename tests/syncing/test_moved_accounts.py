"""Accounts that Pluggy lists under another item, or under two."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.support.altered_pluggy import altered
from tests.support.stack import Stack


@dataclass(slots=True)
class Move:
    """An account of one item that Pluggy shows under another one."""

    account_id: str
    old: str
    new: str
    omitted: bool = True
    """Whether the old item's own list leaves it out."""
    empty: bool = False
    """Whether the old item's own list is empty."""


@asynccontextmanager
async def moved(stack: Stack, move: Move) -> AsyncIterator[None]:
    account = (await stack.truth(move.old, "accounts"))[move.account_id]
    theirs = account | {"itemId": move.new}

    async def alter(path: str, body: bytes) -> bytes:
        if path.startswith(f"/accounts/{move.account_id}"):
            return json.dumps(theirs).encode()
        if not path.startswith("/accounts?"):
            return body
        page = json.loads(body)
        if move.new in path:
            page["results"].append(theirs)
        elif move.old in path:
            page["results"] = _of_old(page["results"], move)
        return json.dumps(page).encode()

    async with altered(stack, alter):
        yield


def _of_old(rows: list[dict[str, Any]], move: Move) -> list[dict[str, Any]]:
    if move.empty:
        return []
    return [row for row in rows if not move.omitted or row["id"] != move.account_id]


async def two_items(stack: Stack) -> tuple[str, str, str]:
    """An old and a new item, and an account of the old one."""
    old = await stack.synced_item(transactions=40, accounts=2, clientUserId="same")
    new = await stack.synced_item(transactions=20, accounts=1, clientUserId="same")
    return old["id"], new["id"], next(iter(await stack.live(old["id"], "accounts")))


async def collected(stack: Stack, *item_ids: str) -> None:
    await stack.shift(timedelta(hours=1))
    for item_id in item_ids:
        await stack.collect(item_id, created=1)
        await stack.tell("item/updated", item_id)
    await stack.quiet()


async def rows_of(stack: Stack, item_id: str, account_id: str) -> int:
    rows = (await stack.live(item_id)).values()
    return sum(str(row["account_id"]) == account_id for row in rows)


async def duplicates(stack: Stack) -> list[dict[str, Any]]:
    return [dict(r) for r in await stack.db.fetch("SELECT * FROM pluggy_live.duplicate_accounts")]


async def test_a_moved_account_ends_under_the_item_that_no_longer_lists_it(stack: Stack) -> None:
    old, new, account = await two_items(stack)
    async with moved(stack, Move(account, old, new)):
        await collected(stack, old, new)
        assert account not in await stack.live(old, "accounts")
        assert account in await stack.live(new, "accounts")
        assert await rows_of(stack, old, account) == 0
        assert await rows_of(stack, new, account) > 0
        assert {*await stack.states(old), *await stack.states(new)} == {"applied"}
        assert await duplicates(stack) == []


async def test_an_account_that_both_items_list_is_live_under_both(stack: Stack) -> None:
    old, new, account = await two_items(stack)
    async with moved(stack, Move(account, old, new, omitted=False)):
        await collected(stack, old, new)
        for item_id in (old, new):
            assert account in await stack.live(item_id, "accounts")
            assert await rows_of(stack, item_id, account) > 0
        assert {*await stack.states(old), *await stack.states(new)} == {"applied"}
        [found] = await duplicates(stack)
        assert {str(found["item_id"]), str(found["other_item_id"])} == {old, new}
        assert str(found["account_id"]) == str(found["other_account_id"]) == account


async def test_an_empty_list_of_the_old_item_ends_nothing(stack: Stack) -> None:
    old, new, account = await two_items(stack)
    before = await rows_of(stack, old, account)
    async with moved(stack, Move(account, old, new, empty=True)):
        await collected(stack, old, new)
        assert account in await stack.live(old, "accounts")
        assert await rows_of(stack, old, account) >= before
