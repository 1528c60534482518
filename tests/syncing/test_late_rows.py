"""Rows of an import that show up after its walk: found with the next event or within the hour."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.support.altered_pluggy import altered, without_rows
from tests.support.stack import Stack
from tests.syncing.test_transactions import AFTER_THE_IMPORT, let_pass
from worker.maintenance.reconciliation import order_confirmations

SIZES = (40, 1200)
"""Rows of an import: less than a page, whose overlap is always read, and more."""
HOUR = timedelta(hours=1)


@asynccontextmanager
async def every_fourth_row_hidden(stack: Stack, item_id: str) -> AsyncIterator[None]:
    """No list shows them; all rows of an import share one createdAt."""
    late = {row for n, row in enumerate(sorted(await stack.truth(item_id))) if n % 4 == 0}

    async with altered(stack, without_rows(late)):
        yield


async def imported(stack: Stack, rows: int) -> str:
    """An item of one account whose walk is over before the late rows show up."""
    item = await stack.item(transactions=rows, accounts=1)
    async with every_fourth_row_hidden(stack, item["id"]):
        await stack.process("item/created", item["id"])
    assert len(await stack.live(item["id"])) == rows * 3 // 4
    return str(item["id"])


async def one_row_more(stack: Stack, item_id: str) -> None:
    await stack.process_all(await stack.collect(item_id, created=1))


async def look(stack: Stack) -> bool:
    """What a worker does of itself."""
    ordered = await order_confirmations(stack.db)
    await stack.quiet()
    return ordered


async def deltas(stack: Stack) -> int:
    return (await stack.requests()).get("GET /v2/transactions", 0)


@pytest.mark.parametrize("rows", SIZES)
async def test_late_rows_are_found_with_the_next_event(late_stack: Stack, rows: int) -> None:
    stack = late_stack
    item_id = await imported(stack, rows)
    await one_row_more(stack, item_id)
    await stack.assert_equal(item_id, ["transactions"])


@pytest.mark.parametrize("rows", SIZES)
async def test_late_rows_are_found_by_two_events_in_quick_succession(
    late_stack: Stack, rows: int
) -> None:
    stack = late_stack
    item_id = await imported(stack, rows)
    for _ in range(2):
        await one_row_more(stack, item_id)
    await stack.assert_equal(item_id, ["transactions"])


@pytest.mark.parametrize("rows", SIZES)
async def test_late_rows_are_found_within_the_hour_without_any_event(
    late_stack: Stack, rows: int
) -> None:
    stack = late_stack
    item_id = await imported(stack, rows)
    assert not await look(stack)
    await stack.shift(HOUR)
    assert await look(stack)
    await stack.assert_equal(item_id, ["transactions"])
    assert set(await stack.states(item_id)) == {"applied"}


@pytest.mark.parametrize("rows", SIZES)
async def test_rows_later_than_the_first_delta_are_found_within_the_hour(
    late_stack: Stack, rows: int
) -> None:
    """The second delta of a long import is a narrow one, and the last event that comes."""
    stack = late_stack
    item = await stack.item(transactions=rows, accounts=1)
    async with every_fourth_row_hidden(stack, item["id"]):
        await stack.process("item/created", item["id"])
        await let_pass(stack, AFTER_THE_IMPORT)
        await one_row_more(stack, item["id"])
    await let_pass(stack, AFTER_THE_IMPORT)
    await stack.reset_requests()
    await one_row_more(stack, item["id"])
    assert await deltas(stack) == 1
    await stack.shift(HOUR)
    assert await look(stack)
    await stack.assert_equal(item["id"], ["transactions"])


async def test_rows_later_than_the_first_delta_are_found_by_an_event_ten_minutes_after_it(
    late_stack: Stack,
) -> None:
    stack = late_stack
    item = await stack.item(transactions=1200, accounts=1)
    async with every_fourth_row_hidden(stack, item["id"]):
        await stack.process("item/created", item["id"])
        await let_pass(stack, AFTER_THE_IMPORT)
        await one_row_more(stack, item["id"])
    await let_pass(stack, AFTER_THE_IMPORT)
    await stack.shift(timedelta(minutes=10))
    await one_row_more(stack, item["id"])
    await stack.assert_equal(item["id"], ["transactions"])


async def test_an_event_that_reaches_back_is_honoured_at_once(late_stack: Stack) -> None:
    stack = late_stack
    item = await stack.item(transactions=1200, accounts=1)
    created_at = min(row["createdAt"] for row in (await stack.truth(item["id"])).values())
    async with every_fourth_row_hidden(stack, item["id"]):
        await stack.process("item/created", item["id"])
        await let_pass(stack, AFTER_THE_IMPORT)
        await one_row_more(stack, item["id"])
    await let_pass(stack, AFTER_THE_IMPORT)
    [account_id] = await stack.live(item["id"], "accounts")
    announced = {"accountId": account_id, "transactionsCreatedAtFrom": created_at}
    await stack.process("transactions/created", item["id"], **announced, transactionsCount=300)
    await stack.assert_equal(item["id"], ["transactions"])


async def test_narrow_deltas_move_no_watermark_and_order_one_read_however_many(
    late_stack: Stack,
) -> None:
    stack = late_stack
    item = await stack.synced_item(transactions=1200, accounts=1)
    await let_pass(stack, AFTER_THE_IMPORT)
    await one_row_more(stack, item["id"])
    mark = "SELECT watermark FROM pluggy_sync.product_sync WHERE product = 'transactions'"
    before = await stack.db.fetchval(mark)
    await let_pass(stack, AFTER_THE_IMPORT)
    await stack.reset_requests()
    for _ in range(3):
        await one_row_more(stack, item["id"])
    assert await deltas(stack) == 3
    assert await stack.db.fetchval(mark) == before
    await stack.shift(HOUR)
    assert await look(stack)
    assert not await look(stack)
    assert [e["event"] for e in await stack.events(item["id"])].count("sync/confirm") == 1
    assert await stack.db.fetchval(mark) > before
