"""Deletion limits: how many rows of an account are tombstoned without a person, and witnesses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from tests.support.partial_view import hiding, one_account
from tests.support.stack import Stack
from tests.syncing.test_deletions import flagged, tombstones
from worker.maintenance.reconciliation import order_due
from worker.sync.deletions import MISSING, NAMED, within_limit

WEEK = timedelta(days=7, minutes=1)
DAY = timedelta(days=1, minutes=1)


async def verify(stack: Stack, item_id: str) -> None:
    await stack.shift(timedelta(seconds=1))
    await stack.process_order("sync/verify", item_id)


async def name_deleted(stack: Stack, item_id: str, ids: Iterable[str]) -> None:
    [account] = await stack.live(item_id, "accounts")
    await stack.process(
        "transactions/deleted", item_id, accountId=account, transactionIds=sorted(ids)
    )


async def order_and_sync(stack: Stack) -> None:
    await order_due(stack.db)
    await stack.quiet()


async def reasons(stack: Stack, item_id: str) -> dict[str, str]:
    return {str(row["transaction_id"]): row["reason"] for row in await flagged(stack, item_id)}


async def dead(stack: Stack, item_id: str) -> set[str]:
    found = await stack.db.fetch(
        "SELECT id FROM pluggy.transactions WHERE item_id = $1 AND deleted_at IS NOT NULL", item_id
    )
    return {str(record["id"]) for record in found}


@pytest.mark.parametrize(
    ("cause", "live", "before", "most"),
    [
        (NAMED, 1, 0, 1),
        (NAMED, 100, 0, 20),
        (NAMED, 101, 0, 20),
        (NAMED, 105, 0, 21),
        (NAMED, 60, 15, 5),
        (NAMED, 185, 15, 25),
        (MISSING, 1, 0, 0),
        (MISSING, 2, 0, 1),
        (MISSING, 4, 0, 2),
        (MISSING, 5, 0, 2),
        (MISSING, 6, 0, 3),
        (MISSING, 19, 0, 3),
        (MISSING, 20, 0, 4),
        (MISSING, 23, 0, 4),
        (MISSING, 25, 0, 5),
        (MISSING, 13, 2, 1),
        (MISSING, 3, 3, 0),
        (MISSING, 96, 4, 16),
    ],
)
def test_so_many_rows_may_be_tombstoned_and_no_more(
    cause: str, live: int, before: int, most: int
) -> None:
    allowed = [
        absent
        for absent in range(1, live + 1)
        if within_limit(cause, live=live, before=before, absent=absent)
    ]
    assert allowed == list(range(1, most + 1))


async def test_an_account_of_which_only_the_newest_three_rows_show_is_kept(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 23)
    async with hiding(stack, *ids[3:]):
        for _ in range(3):
            await verify(stack, item_id)
            await stack.shift(DAY)
            await order_and_sync(stack)
    assert await tombstones(stack, item_id) == 0
    assert await reasons(stack, item_id) == dict.fromkeys(ids[3:], "too_many_at_once")
    await verify(stack, item_id)
    assert await flagged(stack, item_id) == []
    await stack.assert_equal(item_id, but=["date"])  # set apart by the test


@pytest.mark.parametrize(("rows", "most"), [(5, 2), (6, 3), (15, 3), (25, 5)])
async def test_a_walk_tombstones_up_to_its_limit(stack: Stack, rows: int, most: int) -> None:
    item_id, ids = await one_account(stack, rows)
    async with hiding(stack, *ids[1 : 1 + most]):
        await verify(stack, item_id)
        assert await dead(stack, item_id) == set(ids[1 : 1 + most])
        assert await flagged(stack, item_id) == []


@pytest.mark.parametrize(("rows", "too_many"), [(5, 3), (7, 4), (15, 4), (25, 6)])
async def test_a_walk_flags_what_is_over_its_limit(stack: Stack, rows: int, too_many: int) -> None:
    item_id, ids = await one_account(stack, rows)
    async with hiding(stack, *ids[1 : 1 + too_many]):
        await verify(stack, item_id)
        assert await tombstones(stack, item_id) == 0
        assert set(await reasons(stack, item_id)) == set(ids[1 : 1 + too_many])
        written_by = "SELECT id, run_id FROM pluggy.transactions WHERE item_id = $1 ORDER BY id"
        before = await stack.db.fetch(written_by, item_id)
        await verify(stack, item_id)
        assert await stack.db.fetch(written_by, item_id) == before


async def test_portions_count_together_for_seven_days(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 15)
    async with hiding(stack, *ids[1:3]) as hidden:
        await verify(stack, item_id)
        assert await dead(stack, item_id) == set(ids[1:3])
        hidden.update(ids[4:6])
        await stack.shift(timedelta(days=6))
        await verify(stack, item_id)
        assert await dead(stack, item_id) == set(ids[1:3])
        assert await reasons(stack, item_id) == dict.fromkeys(ids[4:6], "too_many_at_once")
        await stack.shift(timedelta(days=1))
        await verify(stack, item_id)
        assert await dead(stack, item_id) == {*ids[1:3], *ids[4:6]}
        assert await flagged(stack, item_id) == []


async def test_named_ids_have_the_larger_limit_counted_over_seven_days(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 60)
    async with hiding(stack, *ids[1:16]) as hidden:
        await name_deleted(stack, item_id, ids[1:16])
        assert await dead(stack, item_id) == set(ids[1:16])
        hidden.update(ids[16:21])
        await name_deleted(stack, item_id, ids[16:21])
        assert await dead(stack, item_id) == set(ids[1:21])
        hidden.update(ids[21:23])
        await name_deleted(stack, item_id, ids[21:23])
        assert await dead(stack, item_id) == set(ids[1:21])
        assert await reasons(stack, item_id) == dict.fromkeys(ids[21:23], "too_many_at_once")


async def test_ids_of_an_update_that_are_gone_have_the_smaller_limit(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 15)
    [account] = await stack.live(item_id, "accounts")
    async with hiding(stack, *ids[1:5]):
        await stack.process(
            "transactions/updated", item_id, accountId=account, transactionIds=ids[1:5]
        )
    assert await tombstones(stack, item_id) == 0
    assert set(await reasons(stack, item_id)) == set(ids[1:5])


async def test_rows_older_than_all_others_are_asked_for_again_a_day_later(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 30)
    async with hiding(stack, ids[3], *ids[-2:]):
        await name_deleted(stack, item_id, [ids[3], *ids[-2:]])
        assert await dead(stack, item_id) == {ids[3]}
        assert await reasons(stack, item_id) == dict.fromkeys(ids[-2:], "no_witness")
        await name_deleted(stack, item_id, ids[-2:])
        await stack.shift(timedelta(hours=23))
        await order_and_sync(stack)
        await name_deleted(stack, item_id, ids[-2:])
        assert await dead(stack, item_id) == {ids[3]}
        await stack.shift(timedelta(hours=1, minutes=1))
        await order_and_sync(stack)
        assert await dead(stack, item_id) == {ids[3], *ids[-2:]}
        assert await flagged(stack, item_id) == []


async def test_a_row_that_came_back_in_between_waits_a_day_again(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 30)
    async with hiding(stack, ids[-1]) as hidden:
        await name_deleted(stack, item_id, ids[-1:])
        await stack.shift(DAY)
        hidden.clear()
        await order_and_sync(stack)
        assert await flagged(stack, item_id) == []
        hidden.add(ids[-1])
        await name_deleted(stack, item_id, ids[-1:])
        assert await reasons(stack, item_id) == {ids[-1]: "no_witness"}
        assert await tombstones(stack, item_id) == 0


async def test_all_witnesses_must_come_back(stack: Stack) -> None:
    """Pluggy shows only the newest rows: the witness older than those named is not among them."""
    item_id, ids = await one_account(stack, 30)
    async with hiding(stack, *ids[10:]) as hidden:
        await name_deleted(stack, item_id, ids[12:14])
        assert await tombstones(stack, item_id) == 0
        assert await reasons(stack, item_id) == dict.fromkeys(ids[12:14], "no_witness")
        hidden.difference_update(ids[14:] + ids[10:12])
        await stack.shift(DAY)
        await order_and_sync(stack)
        assert await dead(stack, item_id) == set(ids[12:14])


@pytest.mark.parametrize("by_walk", [False, True])
async def test_an_account_without_witness_is_asked_again_when_it_has_one(
    stack: Stack, by_walk: bool
) -> None:
    item_id, ids = await one_account(stack, 5)
    async with hiding(stack, *ids):
        await name_deleted(stack, item_id, ids)
        assert await reasons(stack, item_id) == dict.fromkeys(ids, "no_witness")
        await stack.db.execute("UPDATE pluggy_sync.item_reconciliations SET deletions_at = now()")
        assert await order_due(stack.db) == 0
        collected = await stack.collect(item_id, created=2)
        if by_walk:
            await stack.process_order("sync/verify", item_id)
        else:
            await stack.process_all(collected)
        await order_and_sync(stack)
        assert (await stack.events(item_id))[-1]["event"] == "sync/deletions"
        assert await tombstones(stack, item_id) == 0
        await stack.shift(DAY)
        await order_and_sync(stack)
        assert await dead(stack, item_id) == set(ids)


async def test_a_flag_that_waits_costs_one_question_a_day(stack: Stack) -> None:
    item_id, ids = await one_account(stack, 30)
    async with hiding(stack, *ids[10:]):
        await name_deleted(stack, item_id, ids[12:14])
        await stack.reset_requests()
        for _ in range(3):
            await stack.shift(timedelta(hours=8, minutes=1))
            await order_and_sync(stack)
        assert (await stack.requests())["GET /v2/transactions"] == 1
        assert await reasons(stack, item_id) == dict.fromkeys(ids[12:14], "no_witness")
