"""Investment transactions: their changes are mirrored although the investment has not changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.altered_pluggy import Alter, altered
from tests.support.stack import Stack

LISTED = "/transactions"


def movements(change: Any) -> Alter:
    """The movements of every investment come altered, the investments themselves as they are."""

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith("/investments/") or LISTED not in path:
            return body
        page = json.loads(body)
        page["results"] = change(page["results"])
        return json.dumps(page).encode()

    return alter


async def item_with_movements(stack: Stack) -> str:
    for _ in range(20):
        item = await stack.item(transactions=10, connectorId=600)
        if await stack.truth(item["id"], "investment_transactions"):
            return str(item["id"])
    raise AssertionError("the simulator makes no item with movements")


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [],  # none yet, at the first read
        lambda rows: rows[:1],  # an interest, a tax, a round trip of one day
        lambda rows: [row | {"description": "as it was", "amount": 1} for row in rows],
    ],
    ids=["none", "fewer", "another amount"],
)
async def test_movements_change_though_no_field_of_the_investment_does(
    stack: Stack, change: Any
) -> None:
    item_id = await item_with_movements(stack)
    async with altered(stack, movements(change)):
        await stack.process("item/created", item_id)
    await stack.update(item_id)
    await stack.assert_equal(item_id)
    assert set(await stack.states(item_id)) == {"applied"}


async def test_movements_of_a_collection_are_read_once(stack: Stack) -> None:
    item_id = await item_with_movements(stack)
    await stack.process("item/created", item_id)
    await stack.collect(item_id)
    investments = len(await stack.live(item_id, "investments"))
    for expected in (investments, 0):
        await stack.reset_requests()
        await stack.process("item/updated", item_id)
        asked = (await stack.requests()).get("GET /investments/{id}/transactions", 0)
        assert asked == expected


async def test_an_event_is_not_applied_before_the_sweep_has_ended(stack: Stack) -> None:
    item_id = await item_with_movements(stack)
    await stack.process("item/created", item_id)
    await stack.collect(item_id)
    await stack.fault("GET /investments/*/transactions", kind="status", status=503, rate=1.0)
    await stack.process("item/updated", item_id)
    assert (await stack.states(item_id))[-1] == "pending"


async def test_a_sweep_lets_new_events_go_first_and_goes_on_behind_them(stack: Stack) -> None:
    for _ in range(20):
        item_id = await item_with_movements(stack)
        if len(investments := await stack.truth(item_id, "investments")) > 2:
            break
    await stack.process("item/created", item_id)
    await stack.collect(item_id, created=1)

    async def tell_meanwhile(path: str, body: bytes) -> bytes:
        if path.startswith(("/items/", "/investments/")):
            await stack.tell("transactions/updated", item_id)
        return body

    await stack.tell("item/updated", item_id)
    for claims in range(1, len(investments)):
        async with altered(stack, tell_meanwhile):
            await stack.reset_requests()
            await stack.worker.engine.sync(await stack.claim())
        # One of the sweep in any case, so that events without end do not keep it from its end.
        assert (await stack.requests())["GET /investments/{id}/transactions"] == 1, claims
        assert (await stack.states(item_id))[1] == "pending"
    await stack.reset_requests()
    await stack.quiet()
    assert (await stack.requests())["GET /investments/{id}/transactions"] == 1
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def test_an_investment_that_changes_while_another_is_found_gone_is_read_again_at_once(
    stack: Stack,
) -> None:
    item_id = await item_with_movements(stack)
    await stack.process("item/created", item_id)
    await stack.collect(item_id)
    await stack.tell("item/updated", item_id)
    listed = 0

    async def collect_behind_the_list(path: str, body: bytes) -> bytes:
        nonlocal listed
        if path.startswith("/investments?"):
            listed += 1
            if listed == 1:
                changes = {"investments": {"deleted": 1, "updated": 99}}
                await stack.collect(item_id, products=changes)
        return body

    with capture_logs() as logs:
        async with altered(stack, collect_behind_the_list):
            await stack.quiet()
    assert listed == 2, "an investment was gone"
    assert [line for line in logs if line["event"] == "no_progress"] == []
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)
