"""What a claim leaves out because its product is parked is read after it is unparked, always."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import timedelta

import pytest

from tests.support.stack import Stack
from tests.syncing.test_at_once import holding
from tests.syncing.test_parked_products import FORBIDDEN, last_states, parked_products
from worker.engine.item_state import load_item_state
from worker.engine.settlement import settle
from worker.lease.lease import SyncSession
from worker.lease.parked_products import mark_parked
from worker.planner.outcomes import Outcome
from worker.store import parks

HOUR = timedelta(hours=1, seconds=1)
FIRST_PAGES = "/v2/transactions?"


async def park(stack: Stack) -> None:
    """As claims of other items park it."""
    await parks.park_product(
        stack.db,
        product="transactions",
        endpoint="GET /v2/transactions",
        failure_code="403:no_code",
        error_id=None,
        items=5,
        advice="Ask Pluggy.",
        probe_every=timedelta(hours=1),
    )


async def walking(stack: Stack) -> str:
    """A new item whose first walk has to wait for a limit of its account."""
    item_id: str = (await stack.item(transactions=20, accounts=1))["id"]
    limit = {"retryAfter": 30, "codeDescription": "ACCOUNT_OPEN_FINANCE_RATE_LIMIT"}
    await stack.refuse("GET /v2/transactions", 429, **limit)
    await stack.process("item/created", item_id)
    await stack.clear_faults()
    assert await stack.states(item_id) == ["walking"]
    return item_id


async def is_due(stack: Stack, item_id: str) -> bool:
    due: bool = await stack.db.fetchval(
        "SELECT run_at IS NOT NULL FROM pluggy_sync.item_sync WHERE item_id = $1",
        uuid.UUID(item_id),
    )
    return due


async def ends_equal(stack: Stack, item_id: str) -> None:
    assert not await is_due(stack, item_id), "a parked product keeps an item due"
    assert await parked_products(stack) == ["transactions"]
    await stack.after(HOUR)
    assert await parked_products(stack) == []
    assert await last_states(stack, [item_id]) == {"applied"}
    await stack.assert_equal(item_id)


async def test_a_walk_that_waited_when_its_product_was_parked_goes_on_after(stack: Stack) -> None:
    item_id = await walking(stack)
    await park(stack)
    await stack.after(timedelta(minutes=1))
    await ends_equal(stack, item_id)


async def test_a_walk_that_is_refused_after_its_product_was_parked_goes_on_after(
    stack: Stack,
) -> None:
    item_id = await walking(stack)
    await stack.shift(timedelta(minutes=1))
    async with holding(stack, FIRST_PAGES) as pluggy:
        pluggy.answers[FIRST_PAGES] = lambda _: (403, json.dumps(FORBIDDEN).encode())
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        await pluggy.has_been_asked(FIRST_PAGES)
        await park(stack)
        pluggy.held.clear()
        await asyncio.wait({syncing})
        del pluggy.answers[FIRST_PAGES]
    await ends_equal(stack, item_id)


async def test_a_walk_whose_event_came_while_its_product_was_parked_goes_on_after(
    stack: Stack,
) -> None:
    """The claim has steps of other products, and plans none of the walk."""
    item_id = await walking(stack)
    await park(stack)
    await stack.process("item/updated", item_id)
    await stack.after(timedelta(minutes=1))
    await ends_equal(stack, item_id)


async def planned_while_parked(stack: Stack) -> tuple[str, SyncSession, uuid.UUID, Outcome]:
    """A claim that has loaded an item without what is parked; the product is then unparked."""
    item_id = (await stack.synced_item(transactions=10, accounts=1))["id"]
    await park(stack)
    await stack.collect(item_id, created=3)
    [account_id] = await stack.live(item_id, "accounts")
    await stack.tell("transactions/created", item_id, accountId=str(account_id))
    session = await stack.worker.engine._begin(await stack.claim())
    item_state = await load_item_state(session)
    assert item_state.parked == {"transactions"}
    await session.open_run("sync", [event.id for event in item_state.events])
    await stack.db.execute("DELETE FROM pluggy_sync.parked_products")
    await stack.tend()
    return item_id, session, uuid.UUID(str(account_id)), Outcome("ignored", "product_parked")


@pytest.mark.parametrize("marked_first", [True, False])
async def test_what_was_unparked_while_a_claim_left_it_out_is_read_after_the_claim(
    stack: Stack, *, marked_first: bool
) -> None:
    item_id, session, account_id, outcome = await planned_while_parked(stack)
    left_out = {("transactions", account_id)}
    if marked_first:
        await mark_parked(session, left_out)
        # The lease lapses while its worker stands still, and nobody claims the item.
        await stack.db.execute("UPDATE pluggy_sync.item_leases SET until = now()")
        await stack.tend()
    item_state = await load_item_state(session)
    if not marked_first:
        await mark_parked(session, left_out)
    outcomes = {event.id: outcome for event in item_state.events}
    await settle(session, item_state, outcomes, settling=outcomes)
    await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)
