"""Flagged rows: a person tombstones or keeps them, safely beside a running sync."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest

from tests.support.stack import Stack
from tests.syncing.test_deletions import flagged, tombstones
from worker.lease.lease import LEASE
from worker.maintenance.deletion_review import accept_deletions, refuse_deletions
from worker.store.deletions import PendingDeletion, list_deletions
from worker.store.lease import fence

MANY = 30


async def with_flags(stack: Stack) -> tuple[str, list[uuid.UUID]]:
    """An item of 60 rows of which Pluggy no longer has 30: too many to tombstone at once."""
    item = await stack.synced_item(transactions=60, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    done = await stack.collect(item["id"], deleted=MANY)
    gone = done["changes"]["accounts"][account]["deleted"]
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=gone)
    ids = [r["transaction_id"] for r in await flagged(stack, item["id"])]
    assert sorted(map(str, ids)) == sorted(gone)
    return item["id"], ids


async def verify(stack: Stack, item_id: str) -> None:
    await stack.shift(timedelta(seconds=1))
    await stack.process_order("sync/verify", item_id)


async def rows_of_run(stack: Stack, run_id: int) -> set[uuid.UUID]:
    found = await stack.db.fetch("SELECT id FROM pluggy.transactions WHERE run_id = $1", run_id)
    return {record["id"] for record in found}


async def run_of(stack: Stack, run_id: int) -> asyncpg.Record:
    found = await stack.db.fetchrow("SELECT * FROM pluggy_sync.runs WHERE id = $1", run_id)
    assert found is not None
    return found


def ids_of(rows: Sequence[PendingDeletion]) -> set[uuid.UUID]:
    return {row.transaction_id for row in rows}


async def test_accepted_flags_become_tombstones_and_the_mirror_equals_pluggy(stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    assert ids_of(await list_deletions(stack.db, item_id=uuid.UUID(item_id))) == set(ids)
    [decided] = await accept_deletions(stack.db, item_id=uuid.UUID(item_id))
    assert set(decided.transaction_ids) == set(ids)
    assert await list_deletions(stack.db, item_id=uuid.UUID(item_id)) == []
    assert await tombstones(stack, item_id) == MANY
    await stack.assert_equal(item_id, ["transactions"])


async def test_a_decision_is_a_run_of_its_own(stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    [accepted] = await accept_deletions(stack.db, transaction_ids=ids[:10])
    [refused] = await refuse_deletions(stack.db, transaction_ids=ids[10:])
    for decided, deleted, changed in ((accepted, 10, 0), (refused, 0, MANY - 10)):
        run = await run_of(stack, decided.run_id)
        assert (run["kind"], str(run["item_id"]), run["outcome"]) == (
            "deletion_review",
            item_id,
            "done",
        )
        assert (run["deleted"], run["changed"], run["seq"] is None) == (deleted, changed, False)
        assert await rows_of_run(stack, decided.run_id) == set(decided.transaction_ids)


async def test_only_the_flags_named_are_decided(stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    await accept_deletions(stack.db, transaction_ids=[ids[0], uuid.uuid4()])
    assert await tombstones(stack, item_id) == 1
    assert {row["transaction_id"] for row in await flagged(stack, item_id)} == set(ids[1:])
    other = await stack.synced_item(transactions=5)
    assert await accept_deletions(stack.db, item_id=uuid.UUID(other["id"])) == []
    with pytest.raises(ValueError, match="name an item"):
        await accept_deletions(stack.db)
    assert await tombstones(stack, item_id) == 1


async def test_a_decision_about_nothing_opens_no_run(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    before = await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.runs")
    live = [uuid.UUID(i) for i in await stack.live(item["id"])]
    assert await accept_deletions(stack.db, transaction_ids=live) == []
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.runs") == before
    assert await tombstones(stack, item["id"]) == 0


async def test_a_refused_row_is_neither_flagged_nor_tombstoned_again(stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    await refuse_deletions(stack.db, transaction_ids=ids)
    await verify(stack, item_id)
    [account] = await stack.live(item_id, "accounts")
    await stack.process(
        "transactions/deleted", item_id, accountId=account, transactionIds=[str(ids[0])]
    )
    assert await flagged(stack, item_id) == []
    assert await tombstones(stack, item_id) == 0
    assert set(map(str, ids)) <= set(await stack.live(item_id))


async def test_a_refused_row_that_was_seen_again_is_judged_again(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    flags = "SET deletion_flagged_at = now(), deletion_flag = 'no_witness' WHERE item_id = $1"
    await stack.db.execute(f"UPDATE pluggy.transactions {flags}", item["id"])
    await refuse_deletions(stack.db, item_id=uuid.UUID(item["id"]))
    refused = "SELECT count(*) FROM pluggy.transactions WHERE deletion_refused_at IS NOT NULL"
    assert await stack.db.fetchval(refused) >= 60
    await verify(stack, item["id"])
    assert await stack.db.fetchval(refused) == 0
    done = await stack.collect(item["id"], deleted=1)
    gone = done["changes"]["accounts"][account]["deleted"]
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=gone)
    assert await tombstones(stack, item["id"]) == 1


async def test_an_accepted_row_that_pluggy_shows_again_is_live_again(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30, accounts=1)
    row_id = next(iter(await stack.live(item["id"])))
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deletion_flagged_at = now(), deletion_flag = 'no_witness'"
        " WHERE item_id = $1 AND id = $2",
        item["id"],
        row_id,
    )
    await accept_deletions(stack.db, item_id=uuid.UUID(item["id"]))
    assert row_id not in await stack.live(item["id"])
    await verify(stack, item["id"])
    await stack.assert_equal(item["id"])


async def test_a_decision_waits_for_the_page_that_a_sync_is_storing(stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    await stack.order("sync/verify", item_id)
    lease = await stack.claim()
    async with stack.db.acquire() as conn, conn.transaction():
        assert await fence(conn, item_id=lease.item_id, token=lease.token, lease_for=LEASE)
        deciding = asyncio.create_task(accept_deletions(stack.db, item_id=uuid.UUID(item_id)))
        await waits_for_a_lock(stack)
        # What the page shows of Pluggy: half of the rows are there after all.
        await conn.execute(
            "UPDATE pluggy.transactions SET deletion_flagged_at = NULL, deletion_flag = NULL"
            " WHERE item_id = $1 AND id = ANY ($2)",
            lease.item_id,
            ids[:15],
        )
    [decided] = await deciding
    assert set(decided.transaction_ids) == set(ids[15:])
    assert await tombstones(stack, item_id) == MANY - 15


async def test_a_running_sync_goes_on_after_a_decision(stack: Stack) -> None:
    item_id, _ = await with_flags(stack)
    await stack.order("sync/verify", item_id)
    lease = await stack.claim()
    await accept_deletions(stack.db, item_id=uuid.UUID(item_id))
    await stack.worker.engine.sync(lease)
    await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def waits_for_a_lock(stack: Stack) -> None:
    deadline = time.monotonic() + 20
    while not await stack.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline, "nobody waits"
        await asyncio.sleep(0.01)
