"""Freshness by what the item itself reports, and the small views beside it."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from tests.operating.test_findings import item_row, of_item, workers
from tests.support.stack import Stack, now

STATES = [
    ("WAITING_USER_INPUT", timedelta(minutes=59), None),
    ("WAITING_USER_INPUT", timedelta(minutes=61), ("waiting_user_input", "user")),
    ("WAITING_USER_ACTION", timedelta(days=2), ("waiting_user_action", "user")),
    ("UPDATING", timedelta(hours=23), None),
    ("UPDATING", timedelta(days=2), ("updating", "pluggy")),
    ("MERGING", timedelta(days=2), ("merging", "pluggy")),
]


@pytest.mark.parametrize(("status", "age", "stale"), STATES)
@pytest.mark.parametrize("clock", ["source_updated_at", "changed_at"])
async def test_an_item_that_waits_for_long_is_stale_with_its_age(
    stack: Stack, status: str, age: timedelta, stale: tuple[str, str] | None, clock: str
) -> None:
    """Whichever clock is the older: ours of the row, or Pluggy's of the item."""
    item = await stack.synced_item(transactions=10)
    since = now() - age
    await stack.db.execute(
        f"UPDATE pluggy.items SET status = $2, {clock} = $3 WHERE id = $1",  # noqa: S608 - constants
        item["id"],
        status,
        since,
    )
    shown = await stack.db.fetch("SELECT * FROM pluggy_ops.freshness")
    found = {(r["state"], r["reason"], r["blocked_on"], r["stale_since"]) for r in shown}
    assert found == ({("stale", *stale, since)} if stale else {("fresh", None, None, None)})


async def test_a_promised_collection_that_is_overdue_makes_the_item_stale(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    for hours, state in ((23, "fresh"), (25, "stale")):
        promised = now() - timedelta(hours=hours)
        await stack.db.execute("UPDATE pluggy.items SET next_auto_sync_at = $1", promised)
        shown = await stack.db.fetch("SELECT * FROM pluggy_ops.freshness")
        assert {r["state"] for r in shown} == {state}
    assert {(r["reason"], r["blocked_on"], r["stale_since"]) for r in shown} == {
        ("collection_overdue", "pluggy", promised)
    }
    assert (await of_item(stack, "collection_overdue", item["id"]))["since"] == promised


@pytest.mark.parametrize(("age", "state"), [(2, "fresh"), (4, "stale")])
async def test_items_of_meupluggy_have_no_promise_and_are_stale_after_three_days(
    stack: Stack, age: int, state: str
) -> None:
    item = await stack.synced_item(transactions=10)
    await item_row(
        stack,
        item["id"],
        "connector_id = 200, next_auto_sync_at = NULL,"
        f" last_updated_at = now() - interval '{age} days'",
    )
    shown = await stack.db.fetch("SELECT state FROM pluggy_ops.freshness")
    assert {r["state"] for r in shown} == {state}


async def test_scaling_shows_what_an_autoscaler_asks(stack: Stack) -> None:
    row = await stack.db.fetchrow("SELECT * FROM pluggy_ops.scaling")
    assert row is not None
    assert (row["items_due"], row["replicas"], row["max_replicas"]) == (0, 0, None)
    await workers(stack)
    # A slot asks once in 20 seconds; 360 requests a minute are then 120 slots, or six workers.
    await stack.db.execute(
        "INSERT INTO pluggy_sync.runs (kind, started_at, finished_at, api_requests)"
        " SELECT 'sync', now() - interval '20 seconds', now(), 1 FROM generate_series(1, 10)"
    )
    await stack.tell("item/updated", str(uuid.uuid4()))
    row = await stack.db.fetchrow("SELECT * FROM pluggy_ops.scaling")
    assert row is not None
    assert (row["items_due"], row["replicas"], row["slots"], row["max_replicas"]) == (1, 1, 20, 6)


async def test_two_connections_of_a_user_to_a_bank_are_listed_without_the_user(
    stack: Stack,
) -> None:
    twins = [await stack.synced_item(transactions=2, clientUserId="anna") for _ in range(2)]
    await stack.synced_item(transactions=2, clientUserId="bruno")
    await stack.synced_item(transactions=2)
    [row] = await stack.db.fetch("SELECT * FROM pluggy_ops.duplicate_connections")
    assert [str(i) for i in row["item_ids"]] == [item["id"] for item in twins]
    assert "anna" not in str(dict(row))
