"""Odd times from Pluggy: a wrong time has no effect beyond the answer that carried it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.altered_pluggy import Alter, altered, item_body, item_with, without_rows
from tests.support.stack import Stack, now
from tests.syncing.test_transactions import changed, watermarks
from worker.planner.freshness import AHEAD, OVERLAP

FUTURE = "2031-05-06T07:08:09.000Z"
PARTS = ("accounts", "creditCards", "transactions", "investments", "loans", "identity")
PRODUCTS = {"loans": {"created": 1}, "investments": {"created": 1}}


def dated(date: str) -> Callable[[str, str], str]:
    """Every answer about transactions comes with this Date."""
    return lambda path, announced: date if path.startswith("/v2/transactions") else announced


async def new_rows(stack: Stack, item_id: str, **more: Any) -> None:
    """Rows that no event names: only a read from before the watermark finds them."""
    await stack.update(item_id, created=3, **more)


@pytest.mark.parametrize(
    "date",
    [
        "Thu, 01 Jan 2099 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Sun, 06 Nov 2044 08:49:37 +0300",
        "Sunday, 06-Nov-44 08:49:37 GMT",
        "Sun Nov  6 08:49:37 2044",
    ],
)
@pytest.mark.parametrize("read", ["walk", "delta"])
async def test_a_wrong_date_header_lives_as_long_as_one_read(
    stack: Stack, date: str, read: str
) -> None:
    item = await stack.item(transactions=20, accounts=1)
    if read == "delta":
        await stack.process("item/created", item["id"])
        await stack.collect(item["id"], created=1)
    async with altered(stack, date=dated(date)):
        await stack.process("item/created" if read == "walk" else "item/updated", item["id"])
    [watermark] = (await watermarks(stack, item["id"])).values()
    assert watermark < now() + AHEAD
    await new_rows(stack, item["id"])
    await stack.assert_equal(item["id"])


async def test_a_clock_far_ahead_leaves_an_overlap_before_ours(stack: Stack) -> None:
    item = await stack.item(transactions=20, accounts=1)
    before = now()
    async with altered(stack, date=dated("Thu, 01 Jan 2099 00:00:00 GMT")):
        await stack.process("item/created", item["id"])
    [watermark] = (await watermarks(stack, item["id"])).values()
    assert before - OVERLAP <= watermark <= now() - OVERLAP


def with_time(time: str, *, of: str) -> Alter:
    """The item says of itself, or of one of its products, that it was collected then."""
    if of in ("lastUpdatedAt", "updatedAt"):
        return item_with(**{of: time})

    def alter(body: bytes) -> bytes:
        fields = json.loads(body)
        true = {"isUpdated": True, "lastUpdatedAt": fields["lastUpdatedAt"], "warnings": []}
        detail = dict.fromkeys(PARTS, true) | {of: true | {"lastUpdatedAt": time}}
        return json.dumps(fields | {"statusDetail": detail}).encode()

    return item_body(alter)


@pytest.mark.parametrize("of", ["lastUpdatedAt", "updatedAt", *PARTS])
async def test_a_collection_dated_in_the_future_hides_none_after_it(stack: Stack, of: str) -> None:
    item = await stack.synced_item(transactions=20, connectorId=600)
    async with altered(stack, with_time(FUTURE, of=of)):
        await new_rows(stack, item["id"], products=PRODUCTS)
    await stack.assert_equal(item["id"])
    await new_rows(stack, item["id"], products=PRODUCTS)
    await stack.assert_equal(item["id"])
    await costs_a_check(stack, item["id"])


async def costs_a_check(stack: Stack, item_id: str) -> None:
    """Another event of a collection that was read costs one request again."""
    await stack.reset_requests()
    await stack.process("item/updated", item_id)
    asked = {k: n for k, n in (await stack.requests()).items() if k.startswith("GET")}
    assert asked == {"GET /items/{id}": 1}


async def test_a_collection_dated_a_little_ahead_hides_none_after_it(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    soon = (now() + AHEAD - timedelta(seconds=30)).isoformat()
    async with altered(stack, item_with(lastUpdatedAt=soon)):
        await new_rows(stack, item["id"], products=PRODUCTS)
    await new_rows(stack, item["id"], products=PRODUCTS)
    await stack.assert_equal(item["id"])
    await costs_a_check(stack, item["id"])


async def test_an_item_that_stays_in_the_future_is_read_with_every_update(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    async with altered(stack, item_with(lastUpdatedAt=FUTURE)):
        for _ in range(3):
            await new_rows(stack, item["id"], products=PRODUCTS)
            await stack.assert_equal(item["id"])


async def test_an_item_without_last_updated_at_is_read_with_every_update(stack: Stack) -> None:
    item = await stack.item(transactions=20, connectorId=600)
    async with altered(stack, item_with(lastUpdatedAt=None)):
        await stack.process("item/created", item["id"])
        for _ in range(3):
            await new_rows(stack, item["id"], products=PRODUCTS)
            await stack.assert_equal(item["id"])


async def test_a_row_updated_in_the_future_is_overwritten_by_the_next_answer(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    answer = await stack.collect(item["id"], updated=2)
    [ids] = changed(answer, "updated").values()

    async def of_the_future(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/transactions"):
            return body
        page = json.loads(body)
        page["results"] = [row | {"updatedAt": FUTURE} for row in page["results"]]
        return json.dumps(page).encode()

    async with altered(stack, of_the_future):
        await stack.process_all(answer)
    stored = await stack.live(item["id"])
    assert {stored[i]["source_updated_at"] for i in ids} == {datetime.fromisoformat(FUTURE)}
    [account_id] = await stack.live(item["id"], "accounts")
    await stack.process(
        "transactions/updated", item["id"], accountId=account_id, transactionIds=sorted(stored)
    )
    await stack.assert_equal(item["id"])


async def test_an_item_updated_in_the_future_is_overwritten_by_the_next_answer(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    async with altered(stack, item_with(updatedAt=FUTURE, lastUpdatedAt=FUTURE)):
        await new_rows(stack, item["id"])
    await new_rows(stack, item["id"], products=PRODUCTS)
    await stack.assert_equal(item["id"])
    announced = (
        "SELECT greatest(source_updated_at, last_updated_at) FROM pluggy.items WHERE id = $1"
    )
    assert await stack.db.fetchval(announced, item["id"]) < datetime.fromisoformat(FUTURE)


async def test_one_odd_promise_does_not_stop_the_check(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    async with altered(stack, item_with(nextAutoSyncAt="9999-12-31T23:59:59Z")):
        await stack.process("item/login_succeeded", item["id"])
    webhook_check_at = (
        "SELECT webhook_check_at - now() FROM pluggy_sync.item_reconciliations WHERE item_id = $1"
    )
    assert await stack.db.fetchval(webhook_check_at, item["id"]) <= timedelta(days=2)
    await stack.process("item/login_succeeded", item["id"])
    assert await stack.db.fetchval(webhook_check_at, item["id"]) <= timedelta(days=1, minutes=16)


@pytest.mark.parametrize("since", ["2031-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"])
async def test_rows_announced_for_the_future_are_read_all_the_same(
    stack: Stack, since: str
) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    [account_id] = changed(await stack.collect(item["id"], created=3), "created")
    fields = {"accountId": account_id, "transactionsCreatedAtFrom": since}
    await stack.process("transactions/created", item["id"], **fields)
    await stack.assert_equal(item["id"], ["transactions"])


@pytest.mark.parametrize("event", ["transactions/created", "item/updated"])
async def test_rows_of_an_import_that_show_up_after_its_walk_are_read_with_the_next_delta(
    stack: Stack, event: str
) -> None:
    """All rows of a first import share one createdAt; the walk saw 30 of 40."""
    item = await stack.item(transactions=40, accounts=1)
    late = {row for n, row in enumerate(sorted(await stack.truth(item["id"]))) if n % 4 == 0}

    async with altered(stack, without_rows(late)):
        await stack.process("item/created", item["id"])
    assert len(await stack.live(item["id"])) == 30
    answer = await stack.collect(item["id"], created=1)
    fields = {}
    if event == "transactions/created":
        [fields] = [
            {k: announced[k] for k in ("accountId", "transactionsCreatedAtFrom")}
            for announced in answer["events"]
            if announced["event"] == event
        ]
    await stack.process(event, item["id"], **fields)
    await stack.assert_equal(item["id"], ["transactions"])
