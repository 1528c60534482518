"""Events that wait for walks: the claim that ends the walks settles them if nothing is left."""

from __future__ import annotations

from tests.support.stack import Stack


async def test_a_first_sync_is_settled_by_the_claim_that_begins_it(stack: Stack) -> None:
    item = await stack.item(transactions=60)
    await stack.tell("item/created", item["id"])
    assert await stack.quiet() == 1
    [event] = await stack.events(item["id"])
    runs = await stack.db.fetch("SELECT * FROM pluggy_sync.runs ORDER BY id")
    assert [(run["kind"], run["outcome"]) for run in runs] == [("sync", "done"), ("walk", "done")]
    assert [run["event_ids"] for run in runs] == [[event["id"]], [event["id"]]]
    assert (event["state"], event["run_id"]) == ("applied", runs[-1]["id"])
    assert event["visible_at"] is not None
    await stack.assert_equal(item["id"])


async def test_an_event_whose_walk_has_died_is_not_applied_by_the_claim_that_walked(
    stack: Stack,
) -> None:
    item = await stack.item(transactions=60, accounts=1)
    await stack.fault("/v2/transactions", kind="status", status=400, times=1)
    await stack.process("item/created", item["id"])
    assert await stack.states(item["id"]) == ["dead"]
