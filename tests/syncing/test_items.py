"""Items: their life cycle, from first sight to tombstone."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from tests.support.stack import Stack
from worker.infra.lanes import Lane


async def last_event(stack: Stack, item_id: str) -> tuple[str, str | None]:
    event = (await stack.events(item_id))[-1]
    return event["state"], event["reason"]


async def set_status(stack: Stack, item_id: str, status: str) -> dict[str, Any]:
    return await stack.collect(item_id, status=status)


async def test_a_deleted_item_and_all_it_owns_become_tombstones(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"])
    assert await last_event(stack, item["id"]) == ("applied", None)
    assert await stack.live(item["id"]) == {}
    assert await stack.live(item["id"], "accounts") == {}
    kept = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy.transactions WHERE item_id = $1", item["id"]
    )
    assert kept >= 40


async def test_an_item_that_comes_back_is_read_again(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    await stack.fault(
        "GET /items/*", kind="status", status=404, codeDescription="ITEM_NOT_FOUND", times=1
    )
    await stack.process("item/deleted", item["id"])
    assert await stack.live(item["id"]) == {}
    await stack.process("item/updated", item["id"])
    assert await last_event(stack, item["id"]) == ("applied", None)
    await stack.assert_equal(item["id"])


async def test_item_deleted_while_the_item_still_answers_changes_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    await stack.process("item/deleted", item["id"])
    assert await last_event(stack, item["id"]) == ("pending", None)
    await stack.after(timedelta(minutes=6))
    assert await last_event(stack, item["id"]) == ("ignored", "item_still_exists")
    await stack.assert_equal(item["id"])


async def test_a_404_without_item_deleted_tombstones_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    before = await stack.live(item["id"])
    await stack.client_deletes(item["id"])
    await stack.process("item/updated", item["id"])
    assert await last_event(stack, item["id"]) == ("dead", "404:ITEM_NOT_FOUND")
    assert await stack.live(item["id"]) == before


async def test_a_lost_item_deleted_is_healed_by_a_later_one(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.process("item/updated", item["id"])
    await stack.process("item/deleted", item["id"])
    assert await stack.live(item["id"]) == {}


async def test_events_of_a_tombstoned_item_are_ignored_by_name(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"])
    await stack.process("item/updated", item["id"])
    assert await last_event(stack, item["id"]) == ("ignored", "item_deleted")


async def test_deletion_of_an_item_that_was_never_stored_is_ignored(stack: Stack) -> None:
    unknown = str(uuid.uuid4())
    await stack.process("item/deleted", unknown)
    assert await last_event(stack, unknown) == ("ignored", "item_unknown")


async def test_what_died_of_an_unknown_item_is_settled_by_its_deletion(stack: Stack) -> None:
    unknown = str(uuid.uuid4())
    await stack.process("item/updated", unknown)
    work = "SELECT kind, what FROM pluggy_ops.worklist ORDER BY kind"
    assert await last_event(stack, unknown) == ("dead", "404:ITEM_NOT_FOUND")
    [not_found] = await stack.db.fetch(work)
    assert f'{{"event": "item/deleted", "itemId": "{unknown}"}}' in not_found["what"]
    # As the worklist says.
    await stack.process("item/deleted", unknown)
    assert await stack.states(unknown) == ["ignored", "ignored"]
    assert await stack.db.fetch(work) == []
    assert not await stack.db.fetch("SELECT FROM pluggy_ops.freshness")


@pytest.mark.parametrize("order", ["sync/register", "sync/verify", "sync/accounts"])
async def test_an_order_of_an_id_that_pluggy_does_not_know_leaves_nothing(
    stack: Stack, order: str
) -> None:
    unknown = str(uuid.uuid4())
    await stack.process_order(order, unknown)
    assert await last_event(stack, unknown) == ("ignored", "item_unknown")
    for view in ("worklist", "dead_letters", "freshness"):
        assert not await stack.db.fetch(f"SELECT FROM pluggy_ops.{view}")


async def test_what_died_of_a_deleted_item_is_settled_by_its_deletion(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.process("item/updated", item["id"])
    assert await last_event(stack, item["id"]) == ("dead", "404:ITEM_NOT_FOUND")
    await stack.process("item/deleted", item["id"])
    announced = [(e["state"], e["reason"]) for e in await stack.events(item["id"])]
    assert announced == [("applied", None), ("ignored", "item_deleted"), ("applied", None)]
    assert not await stack.db.fetch("SELECT FROM pluggy_ops.worklist")
    assert await stack.live(item["id"]) == {}


async def test_any_event_of_an_unknown_item_brings_the_whole_item(stack: Stack) -> None:
    item = await stack.item(transactions=70)
    [account, *_] = await stack.truth(item["id"], "accounts")
    await stack.process("transactions/created", item["id"], accountId=account, transactionsCount=1)
    await stack.assert_equal(item["id"])
    assert await last_event(stack, item["id"]) == ("applied", None)


async def test_a_registered_item_is_synced_without_any_webhook(stack: Stack) -> None:
    item = await stack.item(transactions=70)
    await stack.process_order("sync/register", item["id"])
    await stack.assert_equal(item["id"])


async def test_an_item_under_collection_holds_back_but_not_its_transactions(stack: Stack) -> None:
    item = await stack.synced_item(transactions=50, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    await set_status(stack, item["id"], "UPDATING")
    await stack.tell("item/updated", item["id"])
    await stack.process("transactions/created", item["id"], accountId=account)
    assert (await stack.states(item["id"]))[1:] == ["pending", "applied"]
    due = await stack.db.fetchval(
        "SELECT run_at - now() FROM pluggy_sync.item_sync WHERE item_id = $1", item["id"]
    )
    assert timedelta(seconds=20) < due <= timedelta(seconds=31)


async def test_a_collection_that_never_ends_supersedes_its_events_after_a_day(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=30)
    await set_status(stack, item["id"], "UPDATING")
    await stack.process("item/updated", item["id"])
    await stack.after(timedelta(hours=24, minutes=1))
    assert await last_event(stack, item["id"]) == ("ignored", "superseded")


async def test_login_succeeded_of_a_known_item_is_applied_by_one_request(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    await set_status(stack, item["id"], "UPDATING")
    await stack.reset_requests()
    await stack.process("item/login_succeeded", item["id"])
    assert await last_event(stack, item["id"]) == ("applied", None)
    assert await stack.requests() == {"GET /items/{id}": 1}


async def test_an_item_error_is_mirrored_and_its_reason_is_shown(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    await set_status(stack, item["id"], "LOGIN_ERROR")
    await stack.process("item/error", item["id"])
    shown = await stack.db.fetch(
        "SELECT DISTINCT state, reason, blocked_on FROM pluggy_ops.freshness WHERE item_id = $1",
        item["id"],
    )
    assert [tuple(r) for r in shown] == [("stale", "login_error", "user")]


async def test_the_same_body_without_event_id_on_two_days_leads_to_two_syncs(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    for _ in range(2):
        await stack.tell("item/updated", item["id"], eventId=None)
        assert await stack.quiet() == 1
        await stack.after(timedelta(days=1))
    # The second shows no collection of its day, so it is looked at once more before it is believed.
    assert await stack.states(item["id"]) == ["applied"] * 3


async def test_sixty_events_at_once_lead_to_one_sync(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    for _ in range(60):
        await stack.tell("item/updated", item["id"])
    assert await stack.quiet() == 1
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_the_connector_is_cut_out_of_the_item(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    stored = await stack.db.fetchrow(
        "SELECT payload ? 'connector' AS has, connector_id FROM pluggy.items WHERE id = $1",
        item["id"],
    )
    assert stored is not None
    assert (stored["has"], stored["connector_id"]) == (False, item["connector"]["id"])


async def test_events_that_wait_for_a_walk_of_a_deleted_item_are_settled_with_it(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=5)
    with ExitStack() as taken:  # no slot is left to begin the walk in
        while taken.enter_context(stack.worker.engine.bulk.slot()):
            pass
        await stack.process_order("sync/verify", item["id"], Lane.LIVE)
    assert (await stack.states(item["id"]))[-1] == "walking"
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"])
    assert set(await stack.states(item["id"])) == {"applied", "ignored"}
