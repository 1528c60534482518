"""Order of events and reads: by sequence numbers, so a clock that goes back changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.maintaining.test_reference_data import (
    health,
    outcome,
    refresh,
    refreshed,
    tell_connector,
)
from tests.support.stack import Stack
from tests.syncing.test_transactions import changed
from worker.lease.halt import halt, resume
from worker.pluggy_api.errors import PluggyHalt
from worker.store import operating

STEPS_BACK = [timedelta(seconds=1), timedelta(seconds=30), timedelta(hours=2), timedelta(days=400)]


async def set_clock_back(stack: Stack, by: timedelta) -> None:
    """All that is stored was stored by a clock that was ahead; what was due stays due."""
    await stack.shift(-by)
    await stack.db.execute("UPDATE pluggy_sync.item_sync SET run_at = least(run_at, now())")
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET until = least(until, now())")


async def read(stack: Stack, event_id: int | None) -> dict[str, Any]:
    found = await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.webhook_events WHERE id = $1", event_id
    )
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("by", STEPS_BACK, ids=str)
async def test_an_event_after_the_clock_went_back_is_read(stack: Stack, by: timedelta) -> None:
    item = await stack.synced_item(transactions=20, accounts=2)
    await set_clock_back(stack, by)
    answer = await stack.collect(item["id"], created=3, updated=1, deleted=1)
    await stack.process_all(answer)
    await stack.assert_equal(item["id"])
    assert set(await stack.states(item["id"])) == {"applied"}


@pytest.mark.parametrize("by", STEPS_BACK, ids=str)
async def test_a_step_back_during_a_sync_loses_nothing(stack: Stack, by: timedelta) -> None:
    """The first event is read by the clock before, the second comes by the clock after."""
    item = await stack.synced_item(transactions=20, accounts=1)
    first = await stack.collect(item["id"], created=2)
    await stack.process("item/updated", item["id"])
    await stack.reset_requests()
    await set_clock_back(stack, by)
    second = await stack.collect(item["id"], created=2)
    for answer in (first, second):
        [account_id] = changed(answer, "created")
        await stack.tell("transactions/created", item["id"], accountId=account_id)
    await stack.quiet()
    await stack.assert_equal(item["id"], ["transactions"])
    # One delta answers both.
    assert (await stack.requests())["GET /v2/transactions"] == 1


async def test_a_verify_after_the_clock_went_back_reads_everything(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await set_clock_back(stack, timedelta(hours=2))
    await stack.reset_requests()
    await stack.process_order("sync/verify", item["id"])
    asked = await stack.requests()
    assert asked["GET /v2/transactions"] >= 1
    assert asked["GET /accounts"] == 1
    assert (await stack.states(item["id"]))[-1] == "applied"


async def test_a_connector_s_event_after_the_clock_went_back_is_read(stack: Stack) -> None:
    await refreshed(stack)
    row_id = await tell_connector(stack, 201)
    # Accepted by the clock before.
    await stack.db.execute("UPDATE pluggy_sync.webhook_events SET pending_since = now() + '1 hour'")
    async with health(stack, 201, "OFFLINE"):
        assert await refresh(stack) == 1
    assert await outcome(stack, row_id) == ("applied", None)


async def redeliver(stack: Stack, event: dict[str, Any]) -> None:
    answer = await stack.tell(
        event["event"], str(event["item_id"]), eventId="again", accountId=str(event["account_id"])
    )
    assert answer.is_new


async def requeue(stack: Stack, event: dict[str, Any]) -> None:
    await operating.requeue_dead_letters(
        stack.db, ids=[event["id"]], reason=None, item_id=None, connector_id=None
    )


async def halt_all(stack: Stack, _: dict[str, Any]) -> None:
    """What died of the same within five minutes is pending again."""
    await halt(stack.db, PluggyHalt("400:X", advice="wait"))
    await resume(stack.db)


@pytest.mark.parametrize("revive", [redeliver, requeue, halt_all])
async def test_an_event_that_became_pending_again_is_not_answered_by_an_older_read(
    stack: Stack, revive: Callable[[Stack, dict[str, Any]], Awaitable[None]]
) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    [account_id] = await stack.truth(item["id"], "accounts")
    announced = await stack.tell(
        "transactions/created", item["id"], eventId="again", accountId=account_id
    )
    await stack.quiet()
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = 'dead', reason = '400:X' WHERE id = $1",
        announced.row_id,
    )
    # Nobody tells of these.
    await stack.collect(item["id"], created=2)
    await revive(stack, await read(stack, announced.row_id))
    await stack.quiet()
    assert (await read(stack, announced.row_id))["state"] == "applied"
    await stack.assert_equal(item["id"], ["transactions"])


@pytest.mark.parametrize("state", ["dead", "ignored", "applied"])
async def test_every_way_back_to_pending_draws_a_new_place(stack: Stack, state: str) -> None:
    """By a person's hand too: no statement has to think of it."""
    item = await stack.synced_item(transactions=20)
    accepted = await stack.tell("item/updated", item["id"])
    first = await set_state(stack, accepted.row_id, "walking")
    assert await set_state(stack, accepted.row_id, "pending") == first
    assert await set_state(stack, accepted.row_id, state) == first
    assert await set_state(stack, accepted.row_id, "pending") > first


async def set_state(stack: Stack, event_id: int | None, state: str) -> int:
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = $2 WHERE id = $1", event_id, state
    )
    place: int = (await read(stack, event_id))["pending_seq"]
    return place
