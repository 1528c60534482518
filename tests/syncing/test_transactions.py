"""Deltas, ids and watermarks: what webhooks announce of transactions is mirrored, and no more."""

from __future__ import annotations

import uuid
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from tests.support.altered_pluggy import altered
from tests.support.stack import TABLES, Stack, now
from worker.planner.freshness import NARROW_OVERLAP

AFTER_THE_IMPORT = NARROW_OVERLAP + timedelta(seconds=20)


def changed(answer: dict[str, Any], kind: str) -> dict[str, list[str]]:
    """Ids of one kind of change by account, from the answer of a collection."""
    accounts = answer["changes"]["accounts"]
    return {account: ids[kind] for account, ids in accounts.items() if ids.get(kind)}


async def watermarks(stack: Stack, item_id: str) -> dict[str, Any]:
    found = await stack.db.fetch(
        "SELECT scope_id, watermark FROM pluggy_sync.product_sync"
        " WHERE item_id = $1 AND product = 'transactions'",
        item_id,
    )
    return {str(record["scope_id"]): record["watermark"] for record in found}


async def test_created_updated_and_deleted_rows_are_mirrored(stack: Stack) -> None:
    item = await stack.synced_item(transactions=400)
    answer = await stack.collect(item["id"], created=12, updated=7, deleted=3, restated=2)
    await stack.process_all(answer)
    await stack.assert_equal(item["id"])
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_a_deleted_row_becomes_a_tombstone(stack: Stack) -> None:
    item = await stack.synced_item(transactions=100)
    answer = await stack.collect(item["id"], deleted=2)
    await stack.process_all(answer)
    gone = [i for ids in changed(answer, "deleted").values() for i in ids]
    tombstones = await stack.db.fetch(
        "SELECT id FROM pluggy.transactions WHERE item_id = $1 AND deleted_at IS NOT NULL",
        item["id"],
    )
    assert gone
    assert {str(record["id"]) for record in tombstones} == set(gone)


async def test_a_redelivery_writes_no_row_and_asks_nothing(stack: Stack) -> None:
    item = await stack.item(transactions=50)
    event_id = str(uuid.uuid4())
    await stack.process("item/created", item["id"], eventId=event_id)
    await stack.reset_requests()
    before = await written(stack)
    again = await stack.tell("item/created", item["id"], eventId=event_id)
    assert not again.is_new
    assert await stack.quiet() == 0
    assert await written(stack) == before
    assert await stack.requests() == {}


async def written(stack: Stack) -> dict[str, list[tuple[str, str, str]]]:
    """Every row of schema pluggy by its place and the transactions that wrote and locked it."""
    versions = "SELECT ctid::text, xmin::text, xmax::text FROM pluggy.{} ORDER BY ctid"
    return {
        table: [tuple(row) for row in await stack.db.fetch(versions.format(table))]
        for table in ("items", *TABLES)
    }


async def run_writes(stack: Stack) -> tuple[int, int, int]:
    """Rows inserted, changed and deleted by all runs so far."""
    found = await stack.db.fetchrow(
        "SELECT sum(inserted) AS i, sum(changed) AS c, sum(deleted) AS d FROM pluggy_sync.runs"
    )
    assert found is not None
    return found["i"], found["c"], found["d"]


async def test_a_resync_without_changes_writes_no_transaction_row(stack: Stack) -> None:
    item = await stack.synced_item(transactions=700)
    xmins = await row_versions(stack, item["id"])
    await stack.process_order("sync/verify", item["id"])
    assert await row_versions(stack, item["id"]) == xmins
    assert set(await stack.states(item["id"])) == {"applied"}


async def row_versions(stack: Stack, item_id: str) -> dict[str, Any]:
    """(ctid, xmin) of each row: equal before and after means that nobody wrote or locked it."""
    found = await stack.db.fetch(
        "SELECT id, ctid::text, xmin::text, xmax::text FROM pluggy.transactions WHERE item_id = $1",
        item_id,
    )
    return {str(r["id"]): (r["ctid"], r["xmin"], r["xmax"]) for r in found}


async def test_an_ids_read_moves_no_watermark(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60)
    before = await watermarks(stack, item["id"])
    answer = await stack.collect(item["id"], updated=4)
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    for account, ids in changed(answer, "updated").items():
        await stack.tell("transactions/updated", item["id"], accountId=account, transactionIds=ids)
    await stack.quiet()
    assert await watermarks(stack, item["id"]) == before
    await stack.assert_equal(item["id"], ["transactions"])


async def test_a_delta_moves_the_watermark_to_pluggys_clock_at_its_start(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60)
    answer = await stack.collect(item["id"], created=3)
    pluggys = (now() - timedelta(hours=3)).replace(microsecond=0)
    async with altered(stack, date=lambda _path, _date: format_datetime(pluggys, usegmt=True)):
        await stack.process_all(answer)
    after = await watermarks(stack, item["id"])
    assert {after[account] for account in changed(answer, "created")} == {pluggys}


async def test_an_event_that_was_lost_is_healed_by_the_next_delta(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60)
    await stack.update(item["id"], created=5)
    await stack.assert_equal(item["id"])


async def test_a_failed_last_page_leaves_the_watermark_where_it_was(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    before = await watermarks(stack, item["id"])
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    answer = await stack.collect(item["id"], created=1200)
    [account] = changed(answer, "created")
    await stack.fault("GET /v2/transactions", kind="status", status=500, skip=1, times=50)
    await stack.process(
        "transactions/created", item["id"], accountId=account, transactionsCount=1200
    )
    assert await watermarks(stack, item["id"]) == before
    assert len(await stack.live(item["id"])) > 20, "the first page was stored"
    await stack.clear_faults()
    await stack.after(timedelta(hours=2))
    await stack.assert_equal(item["id"], ["transactions"])


async def test_a_row_that_returns_is_live_again_though_its_hash_is_equal(stack: Stack) -> None:
    item = await stack.synced_item(transactions=80)
    [victim, *_] = await stack.live(item["id"])
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deleted_at = now() WHERE item_id = $1 AND id = $2",
        item["id"],
        uuid.UUID(victim),
    )
    await stack.process_order("sync/verify", item["id"])
    await stack.assert_equal(item["id"])


async def test_an_older_row_does_not_overwrite_a_newer_one(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    [row_id, *_] = await stack.live(item["id"])
    await make_newer(stack, item["id"], row_id)
    await stack.process_order("sync/verify", item["id"])
    assert (await stack.live(item["id"]))[row_id]["description"] == "newer"


async def test_pluggys_word_counts_after_ten_minutes_though_it_is_older(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    [row_id, *_] = await stack.live(item["id"])
    await make_newer(stack, item["id"], row_id)
    await stack.shift(timedelta(minutes=11))
    await stack.process_order("sync/verify", item["id"])
    await stack.assert_equal(item["id"])
    assert (await stack.live(item["id"]))[row_id]["description"] != "newer"


async def make_newer(stack: Stack, item_id: str, row_id: str) -> None:
    """A version that Pluggy's lagging replica does not know yet."""
    await stack.db.execute(
        "UPDATE pluggy.transactions SET description = 'newer', row_hash = 'x',"
        " source_updated_at = source_updated_at + interval '1 minute', changed_at = now()"
        " WHERE item_id = $1 AND id = $2",
        item_id,
        uuid.UUID(row_id),
    )


async def test_an_account_that_is_not_of_the_item_is_dead_after_the_last_confirmation(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20)
    other = await stack.synced_item(transactions=20)
    [foreign, *_] = await stack.live(other["id"], "accounts")
    await stack.reset_requests()
    await stack.process("transactions/created", item["id"], accountId=foreign, transactionsCount=1)
    assert (await stack.states(item["id"]))[-1] == "pending"
    await stack.after(timedelta(minutes=5))
    events = await stack.events(item["id"])
    assert (events[-1]["state"], events[-1]["reason"]) == ("dead", "account_not_of_item")
    assert (await stack.requests()).get("GET /v2/transactions", 0) == 0


async def test_a_quiet_item_updated_and_its_twin_cost_the_fewest_requests(
    late_stack: Stack,
) -> None:
    stack = late_stack
    item = await stack.synced_item(transactions=5000, accounts=3)
    await let_pass(stack, AFTER_THE_IMPORT)
    # Rows of the import may have shown up after their page was read: it is listed once more.
    await stack.update(item["id"])
    await let_pass(stack, AFTER_THE_IMPORT)
    await stack.collect(item["id"])
    await stack.reset_requests()
    await stack.process("item/updated", item["id"])
    requests = await stack.requests()
    cards = sum(a["type"] == "CREDIT" for a in (await stack.live(item["id"], "accounts")).values())
    movements = len(await stack.live(item["id"], "investments"))
    assert requests.pop("GET /investments/{id}/transactions", 0) == movements
    assert requests == {
        "GET /items/{id}": 1,
        "GET /accounts": 1,
        "GET /v2/transactions": 3,
        "GET /bills": cards,
        "GET /investments": 1,
        "GET /loans": 1,
        "GET /identity": 1,
    }
    await stack.reset_requests()
    await stack.process("item/updated", item["id"])
    assert await stack.requests() == {"GET /items/{id}": 1}


async def test_one_new_row_costs_at_most_three_requests(stack: Stack) -> None:
    item = await stack.synced_item(transactions=100)
    answer = await stack.collect(item["id"], created=1)
    [account] = changed(answer, "created")
    await stack.reset_requests()
    await stack.process("transactions/created", item["id"], accountId=account, transactionsCount=1)
    assert sum((await stack.requests()).values()) <= 3


async def test_one_delta_after_a_first_import_lists_the_import_again(
    late_stack: Stack,
) -> None:
    """The first one, for rows of the import may have shown up after their page was read."""
    stack = late_stack
    item = await stack.synced_item(transactions=2000, accounts=1)
    for pages in (5, 1):
        await let_pass(stack, AFTER_THE_IMPORT)
        answer = await stack.collect(item["id"], created=1)
        await stack.reset_requests()
        await stack.process_all(answer)
        assert (await stack.requests())["GET /v2/transactions"] == pages
    await stack.assert_equal(item["id"], ["transactions"])


async def let_pass(stack: Stack, by: timedelta) -> None:
    """For Pluggy as for us."""
    await stack.shift(by)
    await stack.simulator.apost("/_simulator/clock", {"advance": by.total_seconds()})


async def test_a_dead_step_is_read_by_the_next_walk_that_is_asked_for(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10, accounts=1)
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET dead_at = now(), dead_seq = read_seq,"
        " verified_at = NULL WHERE product = 'transactions'"
    )
    await stack.process_order("sync/verify", item["id"])
    [step] = await stack.db.fetch(
        "SELECT dead_at, verified_at FROM pluggy_sync.product_sync WHERE product = 'transactions'"
    )
    assert step["dead_at"] is None
    assert step["verified_at"] is not None
