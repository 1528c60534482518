"""Failures: what is about us parks everything, what is about an item is retried or dies."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.stack import Stack, fill_budget
from worker.events import Lane
from worker.failures import PluggyUnavailable
from worker.pluggy_reader import PluggyReader
from worker.queue import PREFIX
from worker.sync.rows import read_rows


async def fault(stack: Stack, match: str, status: int, **more: Any) -> None:
    await stack.simulator.apost(
        "/_simulator/faults",
        {"match": match, "kind": "status", "status": status, "rate": 1.0} | more,
    )


async def overview(stack: Stack) -> asyncpg.Record:
    row = await stack.db.fetchrow("SELECT * FROM pluggy_ops.overview")
    assert row is not None
    return row


async def attempts(stack: Stack) -> int:
    total: int = await stack.db.fetchval(
        "SELECT coalesce(sum(attempts), 0) FROM pluggy_sync.product_sync"
    )
    return total


async def test_a_limit_that_lasts_is_told_after_five_minutes(stack: Stack) -> None:
    await stack.db.execute("INSERT INTO pluggy_sync.workers (worker_id, slots) VALUES ('w', 1)")
    item = await stack.synced_item(transactions=20)
    await fault(stack, "GET /items", 429, retryAfter=30)
    await stack.collect(item["id"], created=1)
    await stack.tell("item/updated", item["id"])
    for _ in range(5):
        await stack.quiet()
        assert (await overview(stack))["events_late"] == 0
        await stack.shift(timedelta(minutes=1, seconds=1))
    await stack.quiet()
    shown = await overview(stack)
    assert (shown["events_late"], shown["stale_products"]) == (1, 0)
    assert "rate limit" in shown["advice"]
    assert await stack.db.fetchval(
        "SELECT failure_code FROM pluggy_ops.runs ORDER BY id DESC LIMIT 1"
    ) in ("429", "rate_budget")
    await stack.simulator.adelete("/_simulator/faults")
    await stack.redis.delete(f"{PREFIX}budget:items")
    await fill_budget(stack.redis)
    await stack.shift(timedelta(minutes=1, seconds=1))
    await stack.quiet()
    assert await stack.states(item["id"]) == ["applied", "applied"]
    assert (await overview(stack))["events_late"] == 0


async def test_refused_credentials_park_everything_and_burn_no_attempt(stack: Stack) -> None:
    items = [await stack.item(transactions=20) for _ in range(6)]
    await fault(stack, "POST /auth", 401)
    for item in items:
        await stack.tell("item/created", item["id"])
    for _ in range(10):  # ten minutes: a probe each
        await stack.quiet()
        await stack.shift(timedelta(minutes=1, seconds=1))
    assert await attempts(stack) == 0
    shown = await overview(stack)
    assert shown["light"] == "red"
    assert "PLUGGY_CLIENT_ID" in shown["advice"]
    assert (await stack.requests())["POST /auth"] <= 11
    await stack.simulator.adelete("/_simulator/faults")
    await stack.shift(timedelta(minutes=2))
    await stack.quiet()
    for item in items:
        assert await stack.states(item["id"]) == ["applied"]
        await stack.assert_equal(item["id"])
    assert (await overview(stack))["halted_at"] is None


async def test_while_halted_only_a_probe_a_minute_asks(stack: Stack) -> None:
    items = [await stack.item(transactions=20) for _ in range(4)]
    await fault(stack, "POST /auth", 401)
    for item in items:
        await stack.tell("item/created", item["id"])
    await stack.quiet()
    await stack.forget_requests()
    await stack.quiet()
    assert await stack.requests() == {}
    await stack.shift(timedelta(minutes=1, seconds=1))
    await stack.quiet()
    assert await stack.requests() == {"POST /auth": 1}


async def test_while_pluggy_is_down_everything_is_parked_behind_a_probe(stack: Stack) -> None:
    items = [await stack.item(transactions=20) for _ in range(15)]
    await fault(stack, "GET /items/*", 503)
    for item in items:
        await stack.tell("item/created", item["id"])
    await stack.quiet()
    assert (await overview(stack))["halted_by"] == "pluggy_down"
    spent = await attempts(stack)
    assert spent < 10
    for _ in range(6):
        await stack.forget_requests()
        await stack.shift(timedelta(seconds=6))
        await stack.quiet()
        assert await stack.requests() == {"GET /items/{id}": 1}
    assert await attempts(stack) == spent
    await stack.simulator.adelete("/_simulator/faults")
    await stack.shift(timedelta(seconds=6))
    await stack.quiet()
    await stack.shift(timedelta(seconds=10))  # what had failed before anybody knew
    await stack.quiet()
    assert {state for i in items for state in await stack.states(i["id"])} == {"applied"}


async def test_a_probe_that_walks_ends_the_halt(stack: Stack) -> None:
    items = [await stack.item(transactions=20, accounts=2) for _ in range(6)]
    await fault(stack, "GET /v2/transactions", 503)
    for item in items:
        await stack.tell("item/created", item["id"])
    await stack.quiet()
    await stack.shift(timedelta(hours=1))
    await stack.worker.engine.ledger.forget()  # only walks are due now
    await stack.quiet()
    assert (await overview(stack))["halted_by"] == "pluggy_down"
    await stack.simulator.adelete("/_simulator/faults")
    await stack.shift(timedelta(seconds=6))
    probe = await stack.claim()
    assert probe.probe
    await stack.worker.engine.sync(probe)
    assert (await overview(stack))["halted_at"] is None


async def test_one_failing_item_is_not_a_pluggy_that_is_down(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await fault(stack, "GET /items/*", 503)
    for _ in range(20):
        await stack.tell("item/updated", item["id"])
        await stack.quiet()
        await stack.shift(timedelta(hours=1))
    assert (await overview(stack))["halted_at"] is None


async def test_a_retired_endpoint_halts(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.collect(item["id"], created=1)
    await fault(stack, "GET /v2/transactions", 410, codeDescription="ENDPOINT_DEPRECATED")
    await stack.tell("item/updated", item["id"])
    await stack.quiet()
    shown = await overview(stack)
    assert shown["light"] == "red"
    assert "newer release" in shown["advice"]
    assert await stack.states(item["id"]) == ["applied", "pending"]


async def test_five_items_that_fail_alike_halt_and_come_back_to_life(stack: Stack) -> None:
    items = [await stack.item(transactions=20) for _ in range(6)]
    await fault(stack, "GET /items/*", 403, codeDescription="SOMETHING_FORBIDDEN")
    for item in items:
        await stack.tell("item/created", item["id"])
    await stack.quiet()
    assert (await overview(stack))["halted_by"] == "403:SOMETHING_FORBIDDEN"
    assert (await overview(stack))["dead_letters"] == 0
    lanes = await stack.db.fetch("SELECT lane FROM pluggy_sync.item_sync")
    assert [Lane(row["lane"]) for row in lanes] == [Lane.LIVE] * 6
    await stack.simulator.adelete("/_simulator/faults")
    await stack.shift(timedelta(minutes=1, seconds=1))
    await stack.quiet()
    for item in items:
        assert await stack.states(item["id"]) == ["applied"]


async def test_a_probe_that_fails_of_the_same_keeps_everything_parked(stack: Stack) -> None:
    items = [await stack.item(transactions=20) for _ in range(6)]
    await fault(stack, "GET /items/*", 403, codeDescription="SOMETHING_FORBIDDEN")
    for item in items:
        await stack.tell("item/created", item["id"])
    await stack.quiet()
    for _ in range(5):
        await stack.forget_requests()
        await stack.shift(timedelta(minutes=1, seconds=1))
        await stack.quiet()
        assert (await stack.requests())["GET /items/{id}"] == 1
    assert (await overview(stack))["halted_by"] == "403:SOMETHING_FORBIDDEN"
    assert {state for item in items for state in await stack.states(item["id"])} == {"pending"}
    assert await attempts(stack) == 0


async def test_a_few_forged_item_ids_do_not_halt_while_others_succeed(stack: Stack) -> None:
    forged = [str(uuid.uuid4()) for _ in range(7)]
    for index, item_id in enumerate(forged):
        if index == 3:
            await stack.synced_item(transactions=20)
        await stack.tell("item/updated", item_id)
        await stack.quiet()
    assert (await overview(stack))["halted_at"] is None
    for item_id in forged:
        assert await stack.states(item_id) == ["dead"]


async def test_a_server_error_is_retried_with_backoff_until_it_works(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await fault(stack, "GET /accounts", 500)
    await stack.tell("item/created", item["id"])
    await stack.quiet()
    assert await stack.states(item["id"]) == ["pending"]
    step = await failed_step(stack, item["id"])
    assert (step["attempts"], step["failure_class"]) == (1, "retry")
    await stack.forget_requests()
    await stack.tell("item/updated", item["id"])
    await stack.quiet()
    assert "GET /accounts" not in await stack.requests(), "a new event hurries no step in back-off"
    await stack.simulator.adelete("/_simulator/faults")
    await stack.shift(timedelta(hours=1))
    await stack.quiet()
    await stack.assert_equal(item["id"])


async def failed_step(stack: Stack, item_id: str) -> asyncpg.Record:
    row = await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.product_sync WHERE item_id = $1 AND failed_at IS NOT NULL",
        item_id,
    )
    assert row is not None
    return row


async def test_after_three_days_of_failures_the_step_is_dead_and_the_event_with_it(
    stack: Stack,
) -> None:
    item = await stack.item(transactions=20)
    await fault(stack, "GET /accounts", 503)
    await stack.tell("item/created", item["id"])
    for _ in range(80):
        await stack.quiet()
        await stack.shift(timedelta(hours=1, seconds=1))
    event = (await stack.events(item["id"]))[-1]
    assert (event["state"], event["reason"]) == ("dead", "503:no_code")
    letters = await stack.db.fetch("SELECT * FROM pluggy_ops.dead_letters")
    assert [(r["id"], r["reason"], r["error_id"]) for r in letters] == [
        (event["id"], "503:no_code", "simulated")
    ]


async def test_a_dead_item_with_a_new_event_comes_back_to_life(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await fault(stack, "GET /accounts", 400)
    await stack.tell("item/created", item["id"])
    await stack.quiet()
    assert await stack.states(item["id"]) == ["dead"]
    await stack.simulator.adelete("/_simulator/faults")
    await stack.tell("item/updated", item["id"])
    await stack.quiet()
    await stack.assert_equal(item["id"])
    assert await stack.states(item["id"]) == ["dead", "applied"]


async def test_a_failing_account_list_does_not_stop_transactions(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    await stack.collect(item["id"], created=5)
    await fault(stack, "GET /accounts", 500)
    await stack.tell("item/updated", item["id"])
    await stack.tell("transactions/created", item["id"], accountId=account, transactionsCount=5)
    await stack.quiet()
    await stack.assert_equal(item["id"], ["transactions"])
    assert (await stack.states(item["id"]))[1:] == ["pending", "applied"]


async def test_a_429_is_later_and_costs_no_attempt(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await fault(stack, "GET /accounts", 429, times=1, rate=None, retryAfter=60)
    await stack.tell("item/created", item["id"])
    await stack.quiet()
    assert await attempts(stack) == 0
    due = await stack.db.fetchval(
        "SELECT run_at - now() FROM pluggy_sync.item_sync WHERE item_id = $1", item["id"]
    )
    assert timedelta(seconds=50) < due < timedelta(seconds=80)


async def test_rows_of_another_account_refuse_the_page(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=2)
    first, second = await stack.live(item["id"], "accounts")
    reader = PluggyReader(stack.client, Lane.LIVE)
    page = await reader.transactions(uuid.UUID(first))
    with pytest.raises(PluggyUnavailable, match="rows_of_another_accountId"):
        read_rows(page.rows, owner_key="accountId", owner=uuid.UUID(second))
