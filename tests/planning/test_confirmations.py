"""Rechecks of an answer that contradicts its event: one schedule, then the answer is accepted."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from msgspec.structs import replace

from tests.support.altered_pluggy import altered
from tests.support.planning import (
    CHECKING,
    HOUR,
    MINUTE,
    NOW,
    READ_AFTER,
    SAVINGS,
    decided,
    event,
    fresh_steps,
    item,
    item_state,
    only,
    place,
    step,
)
from tests.support.stack import Stack
from tests.syncing.test_transactions import changed
from worker.infra.lanes import Lane
from worker.maintenance.reconciliation import order_confirmations
from worker.planner.confirmations import MAX_JOINED, RECHECK_AFTER, next_recheck
from worker.planner.steps import ReadAccounts, ReadDelta
from worker.pluggy_api.endpoints import PluggyReader

RECHECKS: Final = (5, 25, 90, 180)
"""Seconds from one read to the next."""
NOTHING = b'{"page":1,"total":0,"totalPages":0,"results":[],"next":null}'
Answer = Callable[[str, bytes], bytes]


@asynccontextmanager
async def lagging(stack: Stack, alter: Answer) -> AsyncIterator[None]:
    """Give the worker answers changed by `alter`."""

    async def answer(path: str, body: bytes) -> bytes:
        return alter(path, body)

    async with altered(stack, answer):
        yield


def empty(path_start: str) -> Answer:
    return lambda path, body: NOTHING if path.startswith(path_start) else body


def without_rows(ids: list[str]) -> Answer:
    """Hide transactions, in lists and by id."""

    def answer(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/transactions"):
            return body
        found = json.loads(body)
        found["results"] = [row for row in found["results"] if row["id"] not in ids]
        return json.dumps(found).encode()

    return answer


async def later(stack: Stack, seconds: float) -> None:
    """Move the time and sync until nothing is due."""
    await stack.shift(timedelta(seconds=seconds + 0.5))
    await order_confirmations(stack.db)
    await stack.quiet()


async def asked(stack: Stack) -> dict[str, int]:
    """Requests for data since the last reset."""
    return {k: n for k, n in (await stack.requests()).items() if k.startswith("GET ")}


async def last(stack: Stack, item_id: str) -> Any:
    return (await stack.events(item_id))[-1]


async def reasons(stack: Stack, item_id: str) -> dict[str, tuple[str, str | None]]:
    """State and reason of each product of the item."""
    found = await stack.db.fetch(
        "SELECT product, state, reason FROM pluggy_ops.freshness WHERE item_id = $1", item_id
    )
    return {record["product"]: (record["state"], record["reason"]) for record in found}


async def backed_off(stack: Stack, item_id: str) -> int:
    found: int = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.product_sync WHERE item_id = $1"
        " AND (next_try_at IS NOT NULL OR deferred_since IS NOT NULL OR attempts > 0)",
        item_id,
    )
    return found


async def old_item(stack: Stack, **options: Any) -> dict[str, Any]:
    """A mirrored item whose last reads are eight hours old, and so are its rows at Pluggy."""
    item = await stack.synced_item(**options)
    await stack.simulator.apost("/_simulator/clock", {"advance": 8 * 3600})
    await stack.shift(timedelta(hours=8))
    await stack.db.execute(
        "UPDATE pluggy_sync.item_reconciliations SET webhook_check_at = NULL, recent_read_at = NULL"
    )
    await stack.db.execute("UPDATE pluggy_sync.product_sync SET recent_at = now(), wide_by = NULL")
    await stack.quiet()
    # The key has expired with the clock: its renewal is not what is counted here.
    await PluggyReader(stack.client, Lane.LIVE).item(uuid.UUID(item["id"]))
    return item


async def test_accounts_that_show_up_after_item_created_are_read_at_the_first_confirmation(
    stack: Stack,
) -> None:
    item = await stack.item(transactions=40, accounts=2)
    async with lagging(stack, empty("/accounts?")):
        await stack.process("item/created", item["id"])
        announced = await last(stack, item["id"])
        assert (announced["state"], announced["confirming"]) == ("pending", "accounts")
        assert (await reasons(stack, item["id"]))["accounts"] == ("fresh", "confirming")
        assert await backed_off(stack, item["id"]) == 0
    await later(stack, RECHECKS[0])
    await stack.assert_equal(item["id"])
    assert (await last(stack, item["id"]))["state"] == "applied"
    assert (await reasons(stack, item["id"]))["accounts"] == ("fresh", None)


async def test_an_item_without_accounts_is_asked_for_them_five_times_in_its_life(
    stack: Stack,
) -> None:
    item = await stack.item(transactions=0, accounts=0, products=["ACCOUNTS"])
    async with lagging(stack, empty("/accounts?")):
        await stack.process("item/created", item["id"])
        for pause in RECHECKS:
            assert (await last(stack, item["id"]))["state"] == "pending"
            await later(stack, pause)
        assert (await last(stack, item["id"]))["state"] == "applied"
        assert (await asked(stack))["GET /accounts"] == 5
        assert (await asked(stack))["GET /items/{id}"] == 1
        await stack.reset_requests()
        await stack.process("item/updated", item["id"])
        for pause in RECHECKS:
            await later(stack, pause)
        assert await asked(stack) == {"GET /items/{id}": 1}


@pytest.mark.parametrize("name", ["transactions/created", "transactions/deleted"])
async def test_an_account_that_is_listed_later_is_not_given_up_on(stack: Stack, name: str) -> None:
    item = await stack.item(transactions=60, accounts=2)
    hidden = (await stack.truth(item["id"], "accounts")).popitem()[0]

    def partial(path: str, body: bytes) -> bytes:
        if not path.startswith("/accounts?"):
            return body
        answer = json.loads(body)
        answer["results"] = [row for row in answer["results"] if row["id"] != hidden]
        return json.dumps(answer).encode()

    ids = [str(uuid.uuid4())]
    async with lagging(stack, partial):
        await stack.process("item/created", item["id"])
        await stack.reset_requests()
        await stack.process(name, item["id"], accountId=hidden, transactionIds=ids)
        announced = await last(stack, item["id"])
        assert (announced["state"], announced["confirming"]) == ("pending", "accounts")
        await later(stack, RECHECKS[0])
        assert (await last(stack, item["id"]))["state"] == "pending"
    await later(stack, RECHECKS[1])
    await stack.assert_equal(item["id"])
    assert (await last(stack, item["id"]))["state"] == "applied"
    assert (await asked(stack))["GET /accounts"] == 3
    assert (await asked(stack))["GET /items/{id}"] == 1


async def test_an_account_that_is_never_listed_costs_five_lists_however_many_events(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.reset_requests()
    for _ in range(20):
        await stack.tell("transactions/created", item["id"], accountId=str(uuid.uuid4()))
    await stack.quiet()
    for pause in RECHECKS:
        assert set(await stack.states(item["id"])) == {"applied", "pending"}
        await later(stack, pause)
    found = (await stack.events(item["id"]))[1:]
    assert {(e["state"], e["reason"]) for e in found} == {("dead", "account_not_of_item")}
    assert await asked(stack) == {"GET /items/{id}": 1, "GET /accounts": 5}


async def test_an_item_that_still_shows_its_collection_before_is_fetched_again(
    stack: Stack,
) -> None:
    item = await old_item(stack, transactions=40)
    before = json.dumps(await one_item(stack, item["id"])).encode()
    await stack.collect(item["id"], created=3)
    await stack.reset_requests()

    def stale(path: str, body: bytes) -> bytes:
        return before if path.startswith("/items/") else body

    async with lagging(stack, stale):
        await stack.process("item/updated", item["id"])
        announced = await last(stack, item["id"])
        assert (announced["state"], announced["confirming"]) == ("pending", "items")
        assert {reason for _, reason in (await reasons(stack, item["id"])).values()} == {
            "confirming"
        }
        await later(stack, RECHECKS[0])
        assert await asked(stack) == {"GET /items/{id}": 2}
    await later(stack, RECHECKS[1])
    await stack.assert_equal(item["id"])
    assert (await last(stack, item["id"]))["state"] == "applied"
    assert (await asked(stack))["GET /items/{id}"] == 3


async def one_item(stack: Stack, item_id: str) -> dict[str, Any]:
    [found] = (await stack.simulator.aget(f"/_simulator/truth/{item_id}"))["items"]
    return dict(found)


async def test_an_item_that_has_not_moved_costs_five_requests_however_many_events(
    stack: Stack,
) -> None:
    item = await old_item(stack, transactions=20)
    await stack.reset_requests()
    for _ in range(10):
        await stack.tell("item/updated", item["id"])
    await stack.quiet()
    for pause in RECHECKS:
        assert "pending" in await stack.states(item["id"])
        await later(stack, pause)
    assert set(await stack.states(item["id"])) == {"applied"}
    assert await asked(stack) == {"GET /items/{id}": 5}


async def test_rows_that_show_up_after_their_event_are_read_at_a_confirmation(stack: Stack) -> None:
    item = await old_item(stack, transactions=60, accounts=1)
    answer = await stack.collect(item["id"], created=4)
    [(account_id, ids)] = changed(answer, "created").items()
    [announced] = [e for e in answer["events"] if e["event"] == "transactions/created"]
    await stack.reset_requests()
    async with lagging(stack, without_rows(ids)):
        await stack.process_all({"events": [announced]})
        event = await last(stack, item["id"])
        assert (event["state"], event["confirming"]) == ("pending", f"transactions/{account_id}")
        assert (await reasons(stack, item["id"]))["transactions"] == ("fresh", "confirming")
        assert await backed_off(stack, item["id"]) == 0
        first = (await asked(stack))["GET /v2/transactions"]
        for rechecks, pause in enumerate(RECHECKS[:2], start=1):
            await later(stack, pause)
            assert (await asked(stack))["GET /v2/transactions"] == first + rechecks
    for pause in RECHECKS[2:]:
        await later(stack, pause)
        assert (await last(stack, item["id"]))["state"] == "applied"
        await stack.assert_equal(item["id"], ["transactions"])
        assert await asked(stack) == {"GET /items/{id}": 1, "GET /v2/transactions": first + 3}


async def test_an_empty_delta_after_announced_rows_backs_no_step_off(stack: Stack) -> None:
    item = await old_item(stack, transactions=60, accounts=1)
    answer = await stack.collect(item["id"], created=4)
    [announced] = [e for e in answer["events"] if e["event"] == "transactions/created"]
    async with lagging(stack, lambda path, body: NOTHING if "createdAtFrom=" in path else body):
        await stack.process_all({"events": [announced]})
        assert (await last(stack, item["id"]))["state"] == "pending"
        assert await backed_off(stack, item["id"]) == 0
    for pause in RECHECKS:
        await later(stack, pause)
    assert (await last(stack, item["id"]))["state"] == "applied"
    await stack.assert_equal(item["id"], ["transactions"])


async def test_rows_that_never_come_cost_four_confirmations_however_many_events(
    stack: Stack,
) -> None:
    item = await old_item(stack, transactions=60, accounts=1)
    [account_id] = await stack.live(item["id"], "accounts")
    ahead = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    await stack.reset_requests()
    fields = {"accountId": account_id, "transactionsCount": 3, "transactionsCreatedAtFrom": ahead}
    for _ in range(30):
        await stack.tell("transactions/created", item["id"], **fields)
    await stack.quiet()
    first = (await asked(stack))["GET /v2/transactions"]
    assert first <= 2  # the delta, and a witness of its emptiness
    for pause in RECHECKS:
        await later(stack, pause)
    assert set(await stack.states(item["id"])) == {"applied"}
    assert await asked(stack) == {"GET /items/{id}": 1, "GET /v2/transactions": first + 4}


async def test_a_read_for_another_cause_ends_the_confirmations(stack: Stack) -> None:
    item = await old_item(stack, transactions=60, accounts=1)
    answer = await stack.collect(item["id"], created=4)
    [ids] = changed(answer, "created").values()
    announced = [e for e in answer["events"] if e["event"] == "transactions/created"]
    async with lagging(stack, without_rows(ids)):
        await stack.process_all({"events": announced})
    assert (await last(stack, item["id"]))["state"] == "pending"
    await stack.process_order("sync/verify", item["id"])
    assert (await stack.events(item["id"]))[1]["state"] == "applied"
    await stack.reset_requests()
    for pause in RECHECKS:
        await later(stack, pause)
    assert await asked(stack) == {}
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_ordinary_events_are_asked_for_once(stack: Stack) -> None:
    item = await old_item(stack, transactions=60, accounts=2)
    answer = await stack.collect(item["id"], created=4)
    await stack.process("item/updated", item["id"])
    await stack.reset_requests()
    await stack.process("item/updated", item["id"])
    await stack.process_all(answer)
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.shift(timedelta(hours=2))
    await stack.process("item/error", item["id"])
    assert set(await stack.states(item["id"])) == {"applied"}
    once = await asked(stack)
    for pause in RECHECKS:
        await later(stack, pause)
    assert await asked(stack) == once


@pytest.mark.parametrize("path", ["/loans", "/investments?", "/v2/transactions"])
async def test_rows_of_a_list_that_was_empty_at_first_are_read_soon(
    stack: Stack, path: str
) -> None:
    item = await with_all_products(stack)
    async with lagging(stack, empty(path)):
        await stack.process("item/created", item["id"])
        assert await stack.states(item["id"]) == ["applied"]
        await later(stack, RECHECKS[0])
    await later(stack, RECHECKS[1])
    await stack.assert_equal(item["id"])
    assert "confirming" not in {reason for _, reason in (await reasons(stack, item["id"])).values()}


async def with_all_products(stack: Stack) -> dict[str, Any]:
    """An item that has rows of every product."""
    for _ in range(60):
        item = await stack.item(transactions=30, accounts=1)
        found = [await stack.truth(item["id"], t) for t in ("loans", "investments", "identities")]
        if all(found):
            return item
    raise AssertionError("the simulator makes no such item")


async def test_what_an_item_does_not_have_is_asked_for_four_times_and_never_again(
    stack: Stack,
) -> None:
    item = await with_all_products(stack)
    async with lagging(stack, empty("/loans")):
        await stack.process("item/created", item["id"])
        assert (await reasons(stack, item["id"]))["loans"] == ("fresh", "confirming")
        await stack.reset_requests()
        for pause in RECHECKS:
            await later(stack, pause)
        found = await asked(stack)
        assert found["GET /loans"] == 4
        assert found.get("GET /items/{id}", 0) == 0
        await stack.reset_requests()
        await stack.shift(timedelta(hours=1))
        await stack.update(item["id"])
        for pause in RECHECKS:
            await later(stack, pause)
        assert (await asked(stack))["GET /loans"] == 1
    assert (await reasons(stack, item["id"]))["loans"] == ("fresh", None)


async def test_what_pluggy_does_not_collect_for_an_item_is_not_asked_for(stack: Stack) -> None:
    item = await stack.item(transactions=30, products=["ACCOUNTS", "TRANSACTIONS"])
    await stack.process("item/created", item["id"])
    await stack.reset_requests()
    for pause in RECHECKS:
        await later(stack, pause)
    assert set(await asked(stack)) <= {"GET /consents", "GET /v2/transactions"}


def test_confirmations_are_counted_from_the_first_contradiction() -> None:
    assert [after.total_seconds() for after in RECHECK_AFTER] == [5, 30, 120, 300]
    assert next_recheck(NOW, NOW) == NOW + RECHECK_AFTER[0]
    assert next_recheck(NOW, NOW + RECHECK_AFTER[0]) == NOW + RECHECK_AFTER[1]
    assert next_recheck(NOW, NOW + RECHECK_AFTER[-1]) is None


def read_accounts(seconds_ago: float) -> Any:
    at = NOW - timedelta(seconds=seconds_ago)
    return step("accounts", complete_read_at=at, read_seq=2**62, source_updated_at=READ_AFTER)


@pytest.mark.parametrize("collected_hours_ago", [0.5, 5], ids=["lately", "long ago"])
def test_a_collection_read_again_within_the_hour_is_no_sign_that_the_announced_one_was_read(
    collected_hours_ago: float,
) -> None:
    collected = NOW - timedelta(hours=collected_hours_ago)
    verified = [
        replace(read, complete_read_at=NOW - 5 * MINUTE, source_updated_at=collected)
        for read in fresh_steps()
    ]
    announced = item_state(event("item/updated"), changed=verified)
    found = decided(announced, of=item(collected=collected))
    assert found.steps == []
    outcome = only(found.outcomes)
    lately = collected_hours_ago < 1
    assert (outcome.state, outcome.confirming) == (
        ("applied", None) if lately else ("pending", "items")
    )


def test_events_about_the_same_thing_share_a_schedule() -> None:
    since = NOW - timedelta(seconds=20)
    first = event(
        "transactions/created", 1, account_id=SAVINGS, confirming="accounts", confirming_since=since
    )
    second = event("transactions/created", 2, account_id=SAVINGS, age=timedelta(seconds=1))
    found = decided(item_state(first, second, changed=[read_accounts(0.5)]))
    assert found.steps == []
    due = {(o.due_at, o.confirming_since) for o in found.outcomes.values()}
    assert due == {(since + timedelta(seconds=30), since)}


@pytest.mark.parametrize(
    ("late", "again"),
    [(timedelta(0), False), (timedelta(seconds=1), True), (timedelta(hours=1), False)],
    ids=["in time", "late", "the clock went back"],
)
def test_an_event_that_joined_late_has_a_schedule_of_its_own_afterwards(
    late: timedelta, again: bool
) -> None:
    since = NOW - RECHECK_AFTER[-1]
    announced = event(
        "transactions/created",
        account_id=SAVINGS,
        confirming="accounts",
        confirming_since=since,
        pending_since=since + MAX_JOINED + late,
    )
    outcome = only(decided(item_state(announced, changed=[read_accounts(0)])).outcomes)
    assert (outcome.state == "pending") is again
    assert outcome.confirming_since == (NOW if again else None)


def test_a_repeated_read_of_an_account_s_rows_is_one_delta_without_witness() -> None:
    announced = event(
        "transactions/created",
        created_at_from=NOW - MINUTE,
        expected_rows=2,
        confirming=f"transactions/{CHECKING}",
        confirming_since=NOW - timedelta(seconds=10),
        age=timedelta(seconds=15),
    )
    read = step(
        "transactions",
        CHECKING,
        complete_read_at=NOW - timedelta(seconds=10),
        read_since=NOW - HOUR,
        read_seq=2**62,
    )
    found = decided(item_state(announced, changed=[read], newest_rows={CHECKING: NOW - HOUR}))
    [recheck] = found.steps
    assert isinstance(recheck, ReadDelta)
    assert not recheck.expects_rows
    brought = decided(item_state(announced, changed=[read], newest_rows={CHECKING: NOW}))
    assert (brought.steps, only(brought.outcomes).state) == ([], "applied")


def test_a_repeated_read_that_may_not_run_now_waits_for_its_step() -> None:
    announced = event(
        "transactions/created",
        account_id=SAVINGS,
        confirming="accounts",
        confirming_since=NOW - timedelta(seconds=10),
    )
    waits = step("accounts", complete_read_at=NOW - timedelta(seconds=9), read_seq=2**62)
    assert [type(s) for s in decided(item_state(announced, changed=[waits])).steps] == [
        ReadAccounts
    ]
    blocked = step(
        "accounts",
        complete_read_at=NOW - timedelta(seconds=9),
        read_seq=2**62,
        next_try_at=NOW + MINUTE,
    )
    found = decided(item_state(announced, changed=[blocked]))
    assert (found.steps, only(found.outcomes).due_at) == ([], NOW + MINUTE)


@pytest.mark.parametrize(
    ("fetched_s", "read_s", "state"),
    [(20, 10, "pending"), (5, 8, "pending"), (5, 4, "applied")],
    ids=["beside the item as stored", "before the item's next fetch", "after it"],
)
def test_only_a_list_read_after_the_next_fetch_shows_that_an_item_has_moved(
    fetched_s: int, read_s: int, state: str
) -> None:
    def ago(seconds: int) -> datetime:
        return NOW - timedelta(seconds=seconds)

    contradicted = event(
        "item/updated", age=timedelta(seconds=30), confirming="items", confirming_since=ago(15)
    )

    fetched, read = ago(fetched_s), ago(read_s)
    item_step, accounts = (
        replace(found, complete_read_at=at, read_seq=place(at))
        for found, at in zip(fresh_steps(), (fetched, read), strict=False)
    )
    found = decided(item_state(contradicted, changed=[item_step, accounts]))
    assert only(found.outcomes).state == state
