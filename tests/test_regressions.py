"""Defects that the oracle found: the fact that each of them broke."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.stack import Stack
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
