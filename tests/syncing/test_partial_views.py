"""Partial answers: the deletion limits hold whatever part of an account is hidden, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random

import pytest

from tests.support.partial_view import hiding, one_account
from tests.support.stack import Stack
from tests.syncing.test_deletion_limits import dead, name_deleted, order_and_sync, verify
from tests.syncing.test_deletions import flagged

VIEWS = 5
PAUSES = (timedelta(minutes=10), timedelta(hours=25), timedelta(days=2))


def hidden_by_a_view(random: Random, ids: Sequence[str]) -> set[str]:
    """What the newest n rows, the oldest n, or any n of them leave out; ids are newest first."""
    shown = random.randint(0, len(ids))
    kind = random.choice(("newest", "oldest", "some"))
    if kind == "newest":
        return set(ids[shown:])
    return set(ids[: len(ids) - shown] if kind == "oldest" else random.sample(ids, shown))


def most_missing(rows: int) -> int:
    """So many rows may be tombstoned within a week because a walk misses them."""
    return min(max(3, rows // 5), rows // 2)


async def dead_by_cause(stack: Stack, item_id: str) -> dict[str, int]:
    """Tombstones by what made them; in between the daily and weekly reads of their own go on."""
    found = await stack.db.fetch(
        "SELECT deletion_cause, count(*) AS rows FROM pluggy.transactions"
        " WHERE item_id = $1 AND deleted_at IS NOT NULL GROUP BY deletion_cause",
        item_id,
    )
    return {record["deletion_cause"]: record["rows"] for record in found}


@pytest.mark.parametrize("seed", range(6))
async def test_partial_views_tombstone_no_more_than_the_limit(stack: Stack, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a seed of a test
    rows = random.choice((1, 2, 3, 5, 8, 23, 40))
    item_id, ids = await one_account(stack, rows)
    passed, ever = timedelta(), set[str]()
    async with hiding(stack) as hidden:
        for _ in range(VIEWS):
            hidden.clear()
            hidden.update(hidden_by_a_view(random, ids))
            await verify(stack, item_id)
            await order_and_sync(stack)
            now_dead = await dead(stack, item_id)
            ever |= now_dead
            assert len(now_dead) <= most_missing(rows), (seed, rows, sorted(hidden))
            pause = random.choice(PAUSES)
            passed += pause
            if passed >= timedelta(days=7):
                break
            await stack.shift(pause)
    assert ever.issubset(ids)
    await verify(stack, item_id)
    assert await dead(stack, item_id) == set()
    assert await flagged(stack, item_id) == []
    await stack.assert_equal(item_id, ["transactions"], but=["date"])  # set apart by the test


@pytest.mark.parametrize("seed", range(8, 12))
async def test_partial_views_do_not_widen_the_limit_of_named_ids(stack: Stack, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a seed of a test
    item_id, ids = await one_account(stack, 60)
    async with hiding(stack) as hidden:
        for _ in range(VIEWS):
            hidden.clear()
            hidden.update(hidden_by_a_view(random, ids))
            named = random.sample(sorted(hidden), random.randint(0, len(hidden)))
            await name_deleted(stack, item_id, named or ids[:1])
            await order_and_sync(stack)
            by_cause = await dead_by_cause(stack, item_id)
            assert by_cause.get("named", 0) <= 20
            assert by_cause.get("missing", 0) <= most_missing(60)
            await stack.shift(timedelta(hours=25))


@pytest.mark.parametrize("seed", range(14, 17))
async def test_rows_that_are_really_gone_and_named_converge(stack: Stack, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a seed of a test
    rows = random.choice((8, 23, 60))
    item_id, ids = await one_account(stack, rows)
    gone = set(random.sample(ids, random.randint(1, min(20, rows - 2))))
    async with hiding(stack, *gone):
        await name_deleted(stack, item_id, gone)
        for _ in range(2):
            await stack.shift(timedelta(hours=25))
            await order_and_sync(stack)
        assert await dead(stack, item_id) == gone
        assert await flagged(stack, item_id) == []
