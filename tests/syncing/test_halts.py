"""Failures: those that concern us halt everything, those of an item are retried or become dead."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from arq.connections import ArqRedis

from tests.support.stack import Stack, fill_budget
from worker.infra.lanes import Lane
from worker.infra.redis_keys import PREFIX
from worker.maintenance.reference_data import refresh_reference_data
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import PluggyUnavailable
from worker.store import halts
from worker.sync.page_rows import read_rows

CALLS = f"{PREFIX}calls:*[0-9]"


async def overview(stack: Stack) -> asyncpg.Record:
    row = await stack.db.fetchrow("SELECT * FROM pluggy_ops.overview")
    assert row is not None
    return row


async def attempts(stack: Stack) -> int:
    total: int = await stack.db.fetchval(
        "SELECT coalesce(sum(attempts), 0) FROM pluggy_sync.product_sync"
    )
    return total


async def test_a_limit_that_lasts_is_reported_after_five_minutes(stack: Stack) -> None:
    await stack.db.execute("INSERT INTO pluggy_sync.workers (worker_id, slots) VALUES ('w', 1)")
    item = await stack.synced_item(transactions=20)
    await stack.refuse("GET /items", 429, retryAfter=30)
    await stack.collect(item["id"], created=1)
    await stack.tell("item/updated", item["id"])
    for _ in range(5):
        await stack.quiet()
        assert (await overview(stack))["events_late"] == 0
        await stack.shift(timedelta(minutes=1, seconds=1))
    await stack.quiet()
    shown = await overview(stack)
    assert (shown["events_late"], shown["stale_products"]) == (1, 0)
    assert "rate limit" in shown["sentence"]
    assert await stack.db.fetchval(
        "SELECT failure_code FROM pluggy_ops.runs ORDER BY id DESC LIMIT 1"
    ) in ("429", "rate_budget")
    await stack.clear_faults()
    await stack.redis.delete(f"{PREFIX}budget:items")
    await fill_budget(stack.redis)
    await stack.after(timedelta(minutes=1, seconds=1))
    assert await stack.states(item["id"]) == ["applied", "applied"]
    assert (await overview(stack))["events_late"] == 0


async def new_items_refused(
    stack: Stack, count: int, match: str, status: int, **fault: Any
) -> list[dict[str, Any]]:
    """New items with their webhooks, of which Pluggy refuses the requests that match."""
    items = [await stack.item(transactions=20) for _ in range(count)]
    await stack.refuse(match, status, **fault)
    for item in items:
        await stack.tell("item/created", item["id"])
    return items


async def test_refused_credentials_park_everything_and_burn_no_attempt(stack: Stack) -> None:
    items = await new_items_refused(stack, 6, "POST /auth", 401)
    for _ in range(10):  # ten minutes: a probe each
        await stack.quiet()
        await stack.shift(timedelta(minutes=1, seconds=1))
    assert await attempts(stack) == 0
    shown = await overview(stack)
    assert shown["light"] == "red"
    assert "PLUGGY_CLIENT_ID" in shown["sentence"]
    assert (await stack.requests())["POST /auth"] <= 11
    await stack.clear_faults()
    await stack.after(timedelta(minutes=2))
    for item in items:
        assert await stack.states(item["id"]) == ["applied"]
        await stack.assert_equal(item["id"])
    assert (await overview(stack))["halted_at"] is None


async def test_while_halted_only_a_probe_a_minute_asks(stack: Stack) -> None:
    await new_items_refused(stack, 4, "POST /auth", 401)
    await stack.quiet()
    await stack.reset_requests()
    await stack.quiet()
    assert await stack.requests() == {}
    await stack.after(timedelta(minutes=1, seconds=1))
    assert await stack.requests() == {"POST /auth": 1}, "the plain thing waits for a key"


async def test_while_pluggy_is_down_everything_is_parked_behind_a_probe(stack: Stack) -> None:
    items = await new_items_refused(stack, 15, "GET /items/*", 503)
    await stack.quiet()
    assert (await overview(stack))["halted_by"] == "pluggy_down"
    spent = await attempts(stack)
    assert spent < 10
    for _ in range(6):
        await stack.reset_requests()
        await stack.after(timedelta(seconds=6))
        assert await stack.requests() == {"GET /items/{id}": 1}
    assert await attempts(stack) == spent
    await stack.clear_faults()
    await stack.after(timedelta(seconds=6))
    await stack.shift(timedelta(seconds=10))  # what had failed before anybody knew
    await stack.quiet()
    assert {state for i in items for state in await stack.states(i["id"])} == {"applied"}


async def calls(redis: ArqRedis, name: str = "answered") -> int:
    """Calls of the last 30 seconds that all workers know of."""
    keys = [key async for key in redis.scan_iter(CALLS)]
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hget(key, name)
        return sum(int(number or 0) for number in await pipe.execute())


async def test_answered_calls_are_added_to_the_shared_counts_together(redis: ArqRedis) -> None:
    ledger = CallLedger(redis)
    for _ in range(50):
        await ledger.note(uuid.uuid4(), failed=False)
    assert await calls(redis) == 0
    await ledger.flush()
    await ledger.flush()
    assert await calls(redis) == 50


async def test_a_failed_call_is_known_to_every_worker_at_once(redis: ArqRedis) -> None:
    one, other = CallLedger(redis), CallLedger(redis)
    for number in range(10):
        assert not await other.is_down()
        await (one, other)[number % 2].note(uuid.uuid4(), failed=True)
    assert await one.is_down()
    assert await other.is_down()


async def test_a_failure_is_judged_with_the_calls_answered_before_it(redis: ArqRedis) -> None:
    ledger = CallLedger(redis)
    for failed in [False] * 10 + [True] * 10:
        await ledger.note(uuid.uuid4(), failed=failed)
        assert not await ledger.is_down()
    await ledger.note(uuid.uuid4(), failed=True)
    assert await ledger.is_down()
    await ledger.note(uuid.uuid4(), failed=False)
    await ledger.reset()
    await ledger.flush()
    assert await calls(redis) == 0


async def test_a_probe_that_walks_ends_the_halt(stack: Stack) -> None:
    await new_items_refused(stack, 6, "GET /v2/transactions", 503)
    await stack.quiet()
    await stack.shift(timedelta(hours=1))
    await stack.worker.engine.ledger.reset()  # only walks are due now
    await stack.quiet()
    assert (await overview(stack))["halted_by"] == "pluggy_down"
    await stack.clear_faults()
    await stack.shift(timedelta(seconds=6))
    probe = await stack.claim()
    assert probe.probe
    await stack.worker.engine.sync(probe)
    assert (await overview(stack))["halted_at"] is None


async def test_one_failing_item_is_not_a_pluggy_that_is_down(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await stack.refuse("GET /items/*", 503)
    for _ in range(20):
        await stack.process("item/updated", item["id"])
        await stack.shift(timedelta(hours=1))
    assert (await overview(stack))["halted_at"] is None


async def test_what_everything_needs_and_is_retired_halts(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.collect(item["id"], created=1)
    await stack.refuse("GET /items/*", 410, codeDescription="ENDPOINT_DEPRECATED")
    await stack.process("item/updated", item["id"])
    shown = await overview(stack)
    assert shown["light"] == "red"
    assert "newer release" in shown["sentence"]
    assert "GET /items/{id} (410:ENDPOINT_DEPRECATED)" in shown["sentence"]
    assert await stack.states(item["id"]) == ["applied", "pending"]


async def test_one_item_that_is_gone_for_good_does_not_halt(stack: Stack) -> None:
    gone, other = await stack.synced_item(transactions=5), await stack.synced_item(transactions=5)
    await stack.refuse(f"GET /items/{gone['id']}", 410)
    for item in (gone, other):
        await stack.tell("item/updated", item["id"])
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None
    assert (await stack.states(other["id"]))[-1] == "applied"
    step = await failed_step(stack, gone["id"])
    assert (step["failure_class"], step["failure_endpoint"]) == ("refused", "GET /items/{id}")


SOMETHING = "403:SOMETHING_FORBIDDEN"


async def refused_items(stack: Stack, number: int = 6) -> list[str]:
    """Stored items that Pluggy refuses from now on; each has a new event."""
    items = [(await stack.synced_item(transactions=20))["id"] for _ in range(number)]
    await stack.db.execute("DELETE FROM pluggy_sync.webhook_events")
    for item_id in items:
        await stack.collect(item_id, created=1)
    await stack.refuse("GET /items/*", 403, codeDescription="SOMETHING_FORBIDDEN")
    for item_id in items:
        await stack.tell("item/updated", item_id)
    return items


async def test_five_items_that_fail_alike_halt_and_come_back_to_life(stack: Stack) -> None:
    items = await refused_items(stack)
    await stack.quiet()
    shown = await overview(stack)
    assert (shown["halted_by"], shown["light"]) == (SOMETHING, "red")
    assert f"{SOMETHING} to GET /items/{{id}}" in shown["sentence"]
    assert shown["dead_letters"] == 0
    lanes = await stack.db.fetch("SELECT lane FROM pluggy_sync.item_sync")
    assert {Lane(row["lane"]) for row in lanes} <= {Lane.LIVE, Lane.RETRY}
    await stack.clear_faults()
    await stack.after(timedelta(minutes=1, seconds=1))
    for item_id in items:
        assert await stack.states(item_id) == ["applied"]
        await stack.assert_equal(item_id)


async def test_a_halt_that_recurs_spends_nothing_and_tries_a_few_items_a_minute(
    stack: Stack,
) -> None:
    items = await refused_items(stack, 12)
    await stack.quiet()
    for _ in range(5):
        await stack.reset_requests()
        await stack.after(timedelta(minutes=1, seconds=1))
        asked = await stack.requests()
        assert (asked["POST /auth"], asked["GET /connectors/{id}"]) == (1, 1)
        assert asked["GET /items/{id}"] <= 5 + 3
    assert (await overview(stack))["halted_by"] == SOMETHING
    assert {state for item_id in items for state in await stack.states(item_id)} == {"pending"}
    assert await attempts(stack) == 0


async def test_a_probe_asks_for_a_key_and_a_plain_thing_never_for_an_item(stack: Stack) -> None:
    await refused_items(stack)
    await stack.quiet()
    await stack.reset_requests()
    await stack.shift(timedelta(minutes=1, seconds=1))
    await stack.tend()
    assert await stack.requests() == {"POST /auth": 1, "GET /connectors/{id}": 1}
    assert (await overview(stack))["halted_at"] is None


@pytest.mark.parametrize("events", [5, 8])
@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "ITEM_NOT_FOUND"), (403, "NOT_YOURS"), (400, None), (401, None), (410, "GONE")],
)
async def test_what_pluggy_says_of_items_that_we_do_not_hold_never_halts(
    stack: Stack, events: int, status: int, code: str | None
) -> None:
    """A quiet minute: no item succeeds beside them."""
    stored = await stack.synced_item(transactions=5)
    await stack.shift(timedelta(minutes=10))
    forged = [str(uuid.uuid4()) for _ in range(events)]
    for item_id in forged:
        more = {} if code is None else {"codeDescription": code}
        await stack.refuse(f"GET /items/{item_id}", status, **more)
        await stack.tell("item/updated", item_id)
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None
    await stack.update(stored["id"], created=1)
    assert (await stack.states(stored["id"]))[-1] == "applied"


async def test_forged_ids_of_different_classes_never_halt(stack: Stack) -> None:
    for status in (400, 401, 403, 404, 410, 400, 403, 404):
        item_id = str(uuid.uuid4())
        await stack.refuse(f"GET /items/{item_id}", status)
        await stack.tell("transactions/created", item_id, accountId=str(uuid.uuid4()))
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None


async def test_items_that_pluggy_has_deleted_do_not_halt_while_another_is_answered(
    stack: Stack,
) -> None:
    kept = await stack.synced_item(transactions=5)
    gone = [(await stack.synced_item(transactions=5))["id"] for _ in range(6)]
    await stack.shift(timedelta(minutes=10))
    for item_id in gone:
        await stack.client_deletes(item_id)
        await stack.order("sync/missed-webhook-check", item_id)
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None
    assert {(await stack.states(item_id))[-1] for item_id in gone} == {"dead"}
    assert kept["id"] not in gone


@pytest.mark.parametrize(
    ("event", "ends"), [("sync/register", "ignored"), ("item/updated", "dead")]
)
async def test_items_that_pluggy_does_not_know_and_that_are_not_held_halt_nothing(
    stack: Stack, event: str, ends: str
) -> None:
    unknown = [str(uuid.uuid4()) for _ in range(7)]
    for item_id in unknown:
        await (stack.order if event.startswith("sync/") else stack.tell)(event, item_id)
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None
    for item_id in unknown:
        assert await stack.states(item_id) == [ends]


async def test_a_first_start_with_wrong_keys_and_no_items_ends_by_itself(stack: Stack) -> None:
    await stack.refuse("POST /auth", 401)
    await refresh_reference_data(stack.db, stack.client)
    assert (await overview(stack))["halted_by"] == "auth:401"
    await stack.after(timedelta(minutes=1, seconds=1))
    assert (await overview(stack))["halted_by"] == "auth:401"
    await stack.clear_faults()
    await stack.after(timedelta(minutes=1, seconds=1))
    assert (await overview(stack))["halted_at"] is None


async def test_a_worker_that_starts_probes_a_halt_at_once(stack: Stack) -> None:
    await stack.refuse("POST /auth", 401)
    await refresh_reference_data(stack.db, stack.client)
    await stack.clear_faults()
    await stack.tend()
    assert (await overview(stack))["halted_at"] is not None
    await halts.probe_soon(stack.db)
    await stack.tend()
    assert (await overview(stack))["halted_at"] is None


async def test_a_down_pluggy_is_probed_plainly_when_no_item_is_due(stack: Stack) -> None:
    await new_items_refused(stack, 15, "GET /items/*", 503)
    await stack.quiet()
    assert (await overview(stack))["halted_by"] == "pluggy_down"
    await stack.db.execute("UPDATE pluggy_sync.item_sync SET run_at = now() + interval '1 hour'")
    await stack.reset_requests()
    await stack.shift(timedelta(seconds=6))
    await stack.tend()
    assert await stack.requests() == {"GET /connectors/{id}": 1}
    assert (await overview(stack))["halted_at"] is None


async def test_new_keys_that_are_refused_at_first_halt_nothing(stack: Stack) -> None:
    items = await new_items_refused(stack, 6, "GET /items/*", 403, times=1, rate=None)
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None
    assert await attempts(stack) == 0
    assert (await stack.requests())["POST /auth"] == 1
    for item in items:
        assert await stack.states(item["id"]) == ["applied"]


async def test_keys_that_everything_refuses_halt_and_spend_nothing(stack: Stack) -> None:
    items = await new_items_refused(stack, 6, "GET *", 403)
    await stack.worker.engine.sync(await stack.claim())
    refusals = stack.client._refusals
    assert refusals.since is not None
    refusals.since += 3600  # all the others are refused in the same moment, however slowly
    await stack.quiet()
    assert (await overview(stack))["halted_at"] is None, "one moment is no proof"
    await stack.shift(timedelta(seconds=5))
    refusals.since -= 3605
    await stack.quiet()
    shown = await overview(stack)
    assert shown["halted_by"] == "key_refused"
    assert "dashboard" in shown["sentence"]
    assert await attempts(stack) == 0
    await stack.clear_faults()
    await stack.after(timedelta(minutes=1, seconds=1))
    for item in items:
        assert await stack.states(item["id"]) == ["applied"]


async def test_a_server_error_is_retried_with_backoff_until_it_works(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await stack.refuse("GET /accounts", 500)
    await stack.process("item/created", item["id"])
    assert await stack.states(item["id"]) == ["pending"]
    step = await failed_step(stack, item["id"])
    assert (step["attempts"], step["failure_class"]) == (1, "retry")
    # The pause is drawn, and may be over before the next event is taken up.
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET next_try_at = now() + interval '1 minute'"
        " WHERE item_id = $1 AND next_try_at IS NOT NULL",
        item["id"],
    )
    await stack.reset_requests()
    await stack.process("item/updated", item["id"])
    assert "GET /accounts" not in await stack.requests(), "a new event hurries no step in back-off"
    await stack.clear_faults()
    await stack.after(timedelta(hours=1))
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
    await stack.refuse("GET /accounts", 503)
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
    await stack.refuse("GET /accounts", 400)
    await stack.process("item/created", item["id"])
    assert await stack.states(item["id"]) == ["dead"]
    await stack.clear_faults()
    await stack.process("item/updated", item["id"])
    await stack.assert_equal(item["id"])
    assert await stack.states(item["id"]) == ["dead", "applied"]


async def test_a_failing_account_list_does_not_stop_transactions(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    await stack.collect(item["id"], created=5)
    await stack.refuse("GET /accounts", 500)
    await stack.tell("item/updated", item["id"])
    await stack.process("transactions/created", item["id"], accountId=account, transactionsCount=5)
    await stack.assert_equal(item["id"], ["transactions"])
    assert (await stack.states(item["id"]))[1:] == ["pending", "applied"]


async def test_a_429_is_later_and_costs_no_attempt(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await stack.refuse("GET /accounts", 429, times=1, rate=None, retryAfter=60)
    await stack.process("item/created", item["id"])
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
        await read_rows(page.rows, owner_key="accountId", owner=uuid.UUID(second))
