"""Regressions: defects that the oracle found, one test each."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.stack import Stack
from tests.support.waiting import until
from tests.syncing.test_at_once import holding
from tests.syncing.test_deletions import flagged, freshness


async def asked(stack: Stack, endpoint: str) -> None:
    """Return once the simulator has been asked."""
    async with asyncio.timeout(20):
        while True:
            if (await stack.requests()).get(endpoint):
                return
            await asyncio.sleep(0.01)


async def test_item_deleted_tombstones_although_its_404_was_on_the_way_to_another_event(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.reset_requests()
    await stack.fault("GET /items", kind="slow", seconds=0.3)
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
    await stack.tell_all(await stack.collect(item["id"], created=6))
    await stack.fault("GET /v2/transactions", kind="status", status=429, retryAfter=0)

    async def is_due_again() -> bool:
        return bool(
            await stack.db.fetchval(
                "SELECT EXISTS (SELECT FROM pluggy_sync.product_sync"
                " WHERE product = 'transactions' AND next_try_at <= clock_timestamp())"
            )
        )

    async with holding(stack, "/loans") as pluggy:
        syncing = asyncio.create_task(stack.quiet())
        await until(is_due_again, "the step is due again")
        pluggy.held.clear()
        await syncing
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_an_account_whose_rows_are_all_flagged_is_verified(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5, accounts=1)
    await stack.tell_all(await stack.collect(item["id"], deleted=5))
    await stack.process_order("sync/verify", item["id"])
    assert len(await flagged(stack, item["id"])) == 5
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_rows_that_were_gone_before_they_were_read_hold_an_event_back_minutes_not_for_ever(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=0, accounts=1)
    announced = await stack.collect(item["id"], created=2)
    await stack.collect(item["id"], deleted=2)
    await stack.process_all(announced)
    assert "pending" in await stack.states(item["id"])
    for _ in range(4):
        await stack.after(timedelta(minutes=5))
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_a_revoked_consent_leaves_no_dead_letters_of_investments(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.tell_all(await stack.collect(item["id"], consent="revoked"))
    await stack.process_order("sync/verify", item["id"])
    dead = await stack.db.fetch(
        "SELECT product FROM pluggy_sync.product_sync WHERE item_id = $1 AND dead_at IS NOT NULL",
        item["id"],
    )
    assert dead == []


async def test_item_deleted_that_became_visible_after_the_404_of_another_event_tombstones(
    stack: Stack,
) -> None:
    """Its transaction committed a moment later than its time says."""
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.process("item/updated", item["id"])
    announced = await stack.tell("item/deleted", item["id"])
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events e SET pending_seq = p.dead_seq"
        " FROM pluggy_sync.product_sync p"
        " WHERE e.id = $1 AND p.item_id = e.item_id AND p.product = 'items'",
        announced.row_id,
    )
    await stack.quiet()
    assert await stack.live(item["id"]) == {}
    assert (await stack.states(item["id"]))[-1] == "applied"


async def test_movements_are_read_once_and_after_the_list_that_shows_what_changed(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    # As a worker leaves it that was killed between the investments and their movements.
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET fingerprint = NULL"
        " WHERE item_id = $1 AND product = 'investment_transactions'",
        item["id"],
    )
    changes = {"investments": {"updated": 9}}
    await stack.tell_all(await stack.collect(item["id"], created=2, products=changes))
    await stack.reset_requests()
    with capture_logs() as logs:
        await stack.quiet()
    assert set(await stack.states(item["id"])) == {"applied"}
    assert [line for line in logs if line["event"] == "no_progress"] == []
    investments = len(await stack.live(item["id"], "investments"))
    assert (await stack.requests())["GET /investments/{id}/transactions"] == investments


async def test_a_delta_without_the_rows_of_its_event_beside_a_question_is_no_fault_of_ours(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=0, accounts=1)
    created = await stack.collect(item["id"], created=3)
    deleted = await stack.collect(item["id"], deleted=3)
    await stack.tell_all(created)
    await stack.tell_all(deleted)
    with capture_logs() as logs:
        await stack.quiet()
    assert [line for line in logs if line["event"] == "no_progress"] == []
    announced = {e["event"]: e for e in await stack.events(item["id"])}
    [account_id] = await stack.live(item["id"], "accounts")
    assert announced["transactions/created"]["confirming"] == f"transactions/{account_id}"
    await stack.shift(timedelta(minutes=5))
    with capture_logs() as logs:
        await stack.quiet()
    assert [line for line in logs if line["event"] == "no_progress"] == []
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_an_account_that_is_gone_when_its_rows_are_read_is_tombstoned_without_dead_letter(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=60, accounts=2)
    [closing, staying] = await stack.live(item["id"], "accounts")
    await stack.tell("transactions/created", item["id"], accountId=closing, transactionsCount=1)
    await stack.collect(item["id"], close=[closing])
    await stack.quiet()
    assert set(await stack.live(item["id"], "accounts")) == {staying}
    assert (await stack.states(item["id"]))[-1] == "ignored"
    assert {r["state"] for r in await freshness(stack, item["id"])} == {"fresh"}


async def test_a_list_read_again_for_an_owner_that_is_gone_keeps_the_time_it_was_collected(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=60, accounts=2)
    mark = (
        "SELECT source_updated_at FROM pluggy_sync.product_sync"
        " WHERE item_id = $1 AND product = 'accounts'"
    )
    before = await stack.db.fetchval(mark, item["id"])
    [closing, _] = await stack.live(item["id"], "accounts")
    await stack.tell("transactions/created", item["id"], accountId=closing, transactionsCount=1)
    await stack.collect(item["id"], close=[closing])
    await stack.quiet()
    assert (await stack.requests())["GET /accounts"] > 1
    assert await stack.db.fetchval(mark, item["id"]) == before


async def test_an_investment_that_is_gone_when_its_movements_are_read_is_tombstoned(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    [closing, *staying] = await stack.live(item["id"], "investments")
    await stack.collect(item["id"], close=[closing])
    await stack.fault("GET /investments", kind="status", status=500)
    await stack.process_order("sync/verify", item["id"])
    await stack.after(timedelta(minutes=1))
    assert set(await stack.live(item["id"], "investments")) == set(staying)
    assert set(await stack.states(item["id"])) == {"applied"}
    assert {r["state"] for r in await freshness(stack, item["id"])} == {"fresh"}


async def test_a_walk_that_was_asked_of_an_account_just_tombstoned_ends(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=2)
    [closing, _] = await stack.live(item["id"], "accounts")
    await stack.process_all(await stack.collect(item["id"], close=[closing]))
    await stack.db.execute(
        "INSERT INTO pluggy_sync.account_walks (item_id, account_id, kind, lane)"
        " VALUES ($1, $2, 'walk', 2)",
        item["id"],
        closing,
    )
    await stack.order("sync/verify", item["id"])
    await stack.quiet(most=20)
    assert set(await stack.states(item["id"])) == {"applied"}
    assert await stack.db.fetch("SELECT FROM pluggy_sync.account_walks") == []


async def test_rows_of_an_account_without_consent_and_without_witness_are_not_even_flagged(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=2, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    ids = list(await stack.live(item["id"]))
    await stack.collect(item["id"], consent="revoked")
    for event in ("transactions/updated", "transactions/deleted"):
        await stack.tell(event, item["id"], accountId=account, transactionIds=ids)
    await stack.quiet()
    assert await flagged(stack, item["id"]) == []
    assert (await stack.states(item["id"]))[1:] == ["pending", "pending"]
    await stack.tell_all(await stack.collect(item["id"], consent="renewed"))
    for _ in range(3):
        await stack.after(timedelta(minutes=6))
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


@pytest.mark.parametrize(
    "answer", [{"kind": "reset"}, {"kind": "status", "status": 429, "retryAfter": 60}]
)
async def test_a_step_that_fails_after_its_account_was_tombstoned_leaves_no_stale_product(
    stack: Stack, answer: dict[str, Any]
) -> None:
    item = await stack.synced_item(transactions=40, accounts=2)
    accounts = await stack.live(item["id"], "accounts")
    # A card has bills, and their read would find it gone too.
    closed = next(i for i, row in accounts.items() if row["type"] == "BANK")
    rows = [
        i for i, row in (await stack.live(item["id"])).items() if str(row["account_id"]) == closed
    ]
    await stack.tell_all(await stack.collect(item["id"], close=[closed]))
    await stack.tell("transactions/updated", item["id"], accountId=closed, transactionIds=rows[:1])
    await stack.fault("GET /v2/transactions", query="ids=", **answer)
    await stack.quiet()
    shown = await stack.db.fetch(
        "SELECT scope_id FROM pluggy_ops.freshness WHERE item_id = $1", item["id"]
    )
    assert closed not in {str(record["scope_id"]) for record in shown}
    assert (await stack.states(item["id"]))[-1] == "ignored"
