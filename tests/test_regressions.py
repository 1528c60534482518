"""Defects that the oracle found: the fact that each of them broke."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from tests.stack import Stack
from tests.test_absence import flagged
from tests.test_transactions import tell_all


async def asked(stack: Stack, endpoint: str) -> None:
    """Return once the simulator has been asked."""
    async with asyncio.timeout(20):
        while True:
            if (await stack.requests()).get(endpoint):
                return
            await asyncio.sleep(0.01)


async def fault(stack: Stack, **fields: Any) -> None:
    await stack.simulator.apost("/_simulator/faults", fields)


async def test_item_deleted_buries_although_its_404_was_on_the_way_to_another_event(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.forget_requests()
    await fault(stack, match="GET /items", kind="slow", seconds=0.3)
    await stack.tell("item/updated", item["id"])
    syncing = asyncio.create_task(stack.quiet())
    await asked(stack, "GET /items/{id}")
    await stack.tell("item/deleted", item["id"])
    await syncing
    await stack.quiet()
    assert await stack.live(item["id"]) == {}
    assert (await stack.states(item["id"]))[-1] == "applied"


async def test_a_failed_step_that_is_due_again_within_its_claim_is_tried_again_at_once(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=40, accounts=2)
    await tell_all(stack, await stack.collect(item["id"], created=6))
    await fault(stack, match="GET /v2/transactions", kind="status", status=429, retryAfter=0)
    await fault(stack, match="GET /loans", kind="slow", seconds=1.0)
    await stack.quiet()
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_an_account_whose_rows_are_all_flagged_is_verified(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5, accounts=1)
    await tell_all(stack, await stack.collect(item["id"], deleted=5))
    await stack.order("sync/verify", item["id"])
    await stack.quiet()
    assert len(await flagged(stack, item["id"])) == 5
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_rows_that_were_gone_before_they_were_read_hold_an_event_back_minutes_not_for_ever(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=0, accounts=1)
    told = await stack.collect(item["id"], created=2)
    await stack.collect(item["id"], deleted=2)
    await tell_all(stack, told)
    await stack.quiet()
    assert "pending" in await stack.states(item["id"])
    for _ in range(4):
        await stack.shift(timedelta(minutes=5))
        await stack.quiet()
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_a_revoked_consent_leaves_no_dead_letters_of_investments(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await tell_all(stack, await stack.collect(item["id"], consent="revoked"))
    await stack.order("sync/verify", item["id"])
    await stack.quiet()
    dead = await stack.db.fetch(
        "SELECT product FROM pluggy_sync.product_sync WHERE item_id = $1 AND dead_at IS NOT NULL",
        item["id"],
    )
    assert dead == []
