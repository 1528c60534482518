"""Partly unreadable events: readable parts are used, and the cost is bounded."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest

from tests.support.planning import (
    CHECKING,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    decided,
    event,
    item,
    item_state,
    only,
    step,
    walk,
)
from tests.support.stack import Stack, now
from tests.syncing.test_transactions import changed
from worker.inbox.events import own_event, parse_webhook
from worker.infra.lanes import Lane
from worker.planner.outcomes import Answered
from worker.planner.state import PendingEvent
from worker.planner.steps import AskIds, AskWalk

UNREADABLE = "not-an-id"
WALK = "GET /v2/transactions"


async def tell_ids(
    stack: Stack, item_id: str, account_id: object, ids: object, name: str = "transactions/deleted"
) -> None:
    await stack.tell(name, item_id, accountId=account_id, transactionIds=ids)


async def tombstones(stack: Stack, item_id: str) -> set[str]:
    found = await stack.db.fetch(
        "SELECT id::text FROM pluggy.transactions WHERE item_id = $1 AND deleted_at IS NOT NULL",
        item_id,
    )
    return {record["id"] for record in found}


async def deleted_at_pluggy(stack: Stack, item_id: str, count: int) -> tuple[str, list[str]]:
    """An account of the item, and rows of it that Pluggy has deleted without a webhook."""
    answer = await stack.collect(item_id, deleted=count)
    [(account_id, ids), *_] = changed(answer, "deleted").items()
    return account_id, ids


async def test_all_of_five_thousand_ids_are_asked_for(stack: Stack) -> None:
    made = await stack.synced_item(transactions=200, accounts=1)
    account_id, gone = await deleted_at_pluggy(stack, made["id"], 3)
    others = [str(uuid.uuid4()) for _ in range(5_000)]
    await tell_ids(stack, made["id"], account_id, [*others, *gone])
    await stack.quiet()
    assert await tombstones(stack, made["id"]) == set(gone)
    assert await stack.states(made["id"]) == ["applied", "applied"]


async def test_events_in_the_singular_bring_what_they_mean(stack: Stack) -> None:
    made = await stack.synced_item(transactions=60, accounts=1)
    done = await stack.collect(made["id"], created=2, updated=2, deleted=1)
    told_event = [body for body in done["events"] if body["event"].startswith("transactions/")]
    for body in told_event:
        body["event"] = body["event"].replace("transactions/", "transaction/")
    assert len(told_event) == 3
    await stack.process_all({"events": told_event})
    await stack.assert_equal(made["id"], ["transactions"])
    assert set(await stack.states(made["id"])) == {"applied"}


async def test_an_unknown_name_brings_what_was_collected(stack: Stack) -> None:
    made = await stack.synced_item(transactions=20, connectorId=600)
    await stack.collect(made["id"], created=2, products={"loans": {"created": 1}})
    await stack.process("consent/updated", made["id"])
    await stack.assert_equal(made["id"])


async def test_readable_ids_are_asked_for_and_a_walk_stands_for_the_others(stack: Stack) -> None:
    made = await stack.synced_item(transactions=200, accounts=1)
    account_id, gone = await deleted_at_pluggy(stack, made["id"], 3)
    await stack.reset_requests()
    await tell_ids(stack, made["id"], account_id, [gone[0], UNREADABLE, 5])
    await stack.quiet()
    assert await tombstones(stack, made["id"]) == set(gone)
    assert (await stack.requests())[WALK] == 3  # the ids, the walk, what the walk has missed
    assert set(await stack.states(made["id"])) == {"applied"}


@pytest.mark.parametrize("name", ["transactions/updated", "transaction/deleted"])
@pytest.mark.parametrize("ids", [None, [], [UNREADABLE], "x", {"0": "x"}])
async def test_without_readable_ids_the_account_is_walked(
    stack: Stack, name: str, ids: object
) -> None:
    made = await stack.synced_item(transactions=100, accounts=2)
    account_id, gone = await deleted_at_pluggy(stack, made["id"], 1)
    await tell_ids(stack, made["id"], account_id, ids, name)
    lease = await stack.claim()
    assert lease.lane == Lane.LIVE
    await stack.worker.engine.sync(lease)
    await stack.quiet()
    assert await tombstones(stack, made["id"]) == set(gone)
    assert set(await stack.states(made["id"])) == {"applied"}


async def test_a_storm_costs_an_account_one_walk_a_day(stack: Stack) -> None:
    made = await stack.synced_item(transactions=50, accounts=2)
    account_ids = sorted(await stack.live(made["id"], "accounts"))
    await stack.reset_requests()
    for _ in range(5):
        for n in range(20):
            await tell_ids(stack, made["id"], account_ids[n % 2], [UNREADABLE, n])
        await stack.quiet()
    assert (await stack.requests())[WALK] == 2
    states = await stack.states(made["id"])
    assert states.count("pending") == 2  # the newest of each account waits for tomorrow's walk
    assert states.count("applied") == 21
    reasons = {e["reason"] for e in await stack.events(made["id"]) if e["state"] == "ignored"}
    assert reasons == {"superseded"}
    # Once they wait for tomorrow's walks, more of them ask nothing at all.
    await stack.reset_requests()
    await tell_ids(stack, made["id"], account_ids[0], [UNREADABLE])
    await stack.quiet()
    assert not await stack.requests()

    await stack.after(timedelta(hours=23))
    assert WALK not in await stack.requests()
    await stack.after(timedelta(hours=2))
    assert (await stack.requests())[WALK] == 2
    assert "pending" not in await stack.states(made["id"])


async def test_what_comes_after_the_walk_of_the_day_is_healed_by_tomorrow_s(stack: Stack) -> None:
    made = await stack.synced_item(transactions=50, accounts=1)
    [account_id] = await stack.live(made["id"], "accounts")
    await tell_ids(stack, made["id"], account_id, [UNREADABLE])
    await stack.quiet()
    _, gone = await deleted_at_pluggy(stack, made["id"], 1)
    await tell_ids(stack, made["id"], account_id, [UNREADABLE])
    await stack.quiet()
    assert not await tombstones(stack, made["id"])
    await stack.after(timedelta(hours=25))
    assert await tombstones(stack, made["id"]) == set(gone)


@pytest.mark.parametrize("name", ["transactions/created", "transactions/deleted", "loan/updated"])
async def test_an_event_of_which_only_the_item_is_known_is_read_as_item_updated(
    stack: Stack, name: str
) -> None:
    made = await stack.synced_item(transactions=50, accounts=1)
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    await stack.collect(made["id"], created=4)
    await tell_ids(stack, made["id"], UNREADABLE, [UNREADABLE], name)
    await stack.quiet()
    await stack.assert_equal(made["id"])
    assert set(await stack.states(made["id"])) == {"applied"}


async def test_events_with_nothing_usable_are_in_the_worklist_for_a_week(
    stack: Stack,
) -> None:
    bodies: list[dict[str, Any]] = [
        {"event": "item/updated", "itemId": 5},
        {"event": "transactions/created", "accountId": str(uuid.uuid4())},
        {"event": "loan/updated"},
        {"event": "connector/status_updated", "connectorId": []},
        {"event": "boleto/updated"},
    ]
    await stack.accept(*(parse_webhook(json.dumps(body).encode(), now()) for body in bodies))
    found = "SELECT what FROM pluggy_ops.worklist WHERE kind = 'events_kept' ORDER BY 1"
    texts = [record["what"] for record in await stack.db.fetch(found)]
    assert [text.partition(" was kept")[0] for text in texts] == [
        "1 delivery of connector/status_updated",
        "1 delivery of item/updated",
        "1 delivery of loan/updated",
        "1 delivery of transactions/created",
    ]
    await stack.shift(timedelta(days=8))
    assert await stack.db.fetch(found) == []


async def test_a_hundred_thousand_ids_are_stored_beside_their_neighbours(stack: Stack) -> None:
    item_id, account_id = str(uuid.uuid4()), str(uuid.uuid4())
    ids = [str(uuid.UUID(int=n)) for n in range(100_000)]
    body = {"event": "transactions/deleted", "itemId": item_id, "accountId": account_id}
    big = parse_webhook(json.dumps(body | {"transactionIds": ids}).encode(), now())
    small = own_event("sync/verify", uuid.UUID(item_id), lane=Lane.AUDIT, now=now())
    assert [answer.is_new for answer in await stack.accept(small, big, small)] == [  # type: ignore[union-attr]
        True,
        True,
        False,
    ]
    stored = await stack.db.fetchval(
        "SELECT cardinality(transaction_ids) FROM pluggy_sync.webhook_events"
        " WHERE item_id = $1 AND event = 'transactions/deleted'",
        item_id,
    )
    assert stored == 100_000


def half(event_id: int = 1, *, readable: int = 1, **fields: Any) -> PendingEvent:
    """A transactions/deleted of CHECKING that names three rows."""
    fields |= {"ids_open": readable, "ids_unreadable": True, "expected_rows": 3}
    return event("transactions/deleted", event_id, **fields)


def test_readable_ids_go_before_the_walk() -> None:
    first = decided(item_state(half()))
    assert [type(found) for found in first.steps] == [AskIds]
    then = decided(item_state(half()), answered=Answered(frozenset({1})))
    [found] = then.steps
    assert isinstance(found, AskWalk)
    assert (found.account_id, found.lane, found.for_unreadable) == (CHECKING, Lane.AUDIT, True)


def test_nothing_is_asked_for_again_once_the_walk_has_ended() -> None:
    walked = step("transactions", CHECKING, walked_at=NOW, unreadable_walk_at=NOW)
    found = decided(item_state(half(readable=0), changed=[walked]))
    assert (found.steps, only(found.outcomes).state) == ([], "applied")


def test_a_walk_that_is_under_way_is_waited_for() -> None:
    recent = step("transactions", CHECKING, unreadable_walk_at=NOW - HOUR)
    state = item_state(half(readable=0), changed=[recent], walks=[walk(CHECKING)])
    assert only(decided(state).outcomes).state == "walking"


def test_of_those_that_wait_for_tomorrow_the_newest_stands_for_all() -> None:
    recent = step("transactions", CHECKING, unreadable_walk_at=NOW - HOUR)
    events = [half(n, readable=0) for n in (1, 2, 3)]
    found = decided(item_state(*events, changed=[recent]))
    assert found.steps == []
    assert [found.outcomes[n].state for n in (1, 2, 3)] == ["ignored", "ignored", "pending"]
    assert found.outcomes[3].due_at == found.outcomes[3].ask_again_at == NOW - HOUR + DAY


def test_of_an_account_without_a_watermark_the_first_walk_is_the_answer() -> None:
    state = item_state(
        half(readable=0), changed=[step("transactions", CHECKING, watermark=None, walked_at=None)]
    )
    [found] = [s for s in decided(state).steps if isinstance(s, AskWalk)]
    assert (found.lane, found.for_unreadable) == (Lane.BACKFILL, False)


def test_an_item_in_progress_holds_back_what_only_names_the_item() -> None:
    announced = event("transactions/updated", account_id=None, ids_open=None, age=MINUTE)
    outcome = only(decided(item_state(announced), of=item("UPDATING")).outcomes)
    assert (outcome.state, outcome.reason) == ("pending", "collection_in_progress")
