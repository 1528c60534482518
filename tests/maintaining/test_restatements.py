"""Restatements: deleted and created rows are linked one to one where nothing is ambiguous."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stack import Stack
from tests.syncing.test_transactions import changed
from worker.lease.runs import run_of_its_own
from worker.maintenance.restatements import (
    CONFIDENCE,
    RESTATEMENTS_LOCK,
    Link,
    Version,
    agreement,
    link_restatements,
    pair,
)
from worker.store import restatements

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
REST = timedelta(minutes=2, seconds=1)


def version(number: int, **changes: Any) -> Version:
    """A row first seen and created at noon; deleted ones are deleted at noon, too."""
    row = Version(
        id=uuid.UUID(int=number),
        amount=Decimal("10.00"),
        currency_code="BRL",
        posted_on=date(2026, 5, 1),
        description="Padaria",
        first_seen_at=NOON,
        source_created_at=NOON,
    )
    return replace(row, **changes)


def gone(number: int, **changes: Any) -> Version:
    month_ago = NOON - timedelta(days=30)
    born = {"first_seen_at": month_ago, "source_created_at": month_ago, "deleted_at": NOON}
    return version(number, **(born | changes))


def links(found: Sequence[Link]) -> list[tuple[int, int]]:
    return [(link.id.int, link.superseded_by.int) for link in found]


@pytest.mark.parametrize(
    ("changes", "agreed"),
    [
        ({}, "amount+date+description"),
        ({"description": "Padaria *"}, "amount+date"),
        ({"description": " PADARIA "}, "amount+date+description"),
        ({"posted_on": date(2026, 5, 4)}, "amount+date+description"),
        ({"posted_on": date(2026, 5, 5)}, "amount+description"),
        ({"amount": Decimal("10.01")}, "date+description"),
        ({"currency_code": "USD"}, "date+description"),
        ({"amount": Decimal("10.01"), "description": "Padaria *"}, None),
        ({"amount": Decimal("10.01"), "posted_on": date(2026, 5, 5)}, None),
        ({"description": "x", "posted_on": date(2026, 5, 5)}, None),
        ({"first_seen_at": NOON + timedelta(hours=24)}, "amount+date+description"),
        ({"first_seen_at": NOON + timedelta(hours=24, seconds=1)}, None),
        ({"first_seen_at": NOON - timedelta(hours=24, seconds=1)}, None),
        ({"source_created_at": NOON - timedelta(days=30)}, None),
        ({"source_created_at": None}, "amount+date+description"),
    ],
)
def test_two_of_three_have_to_agree_within_a_day(
    changes: dict[str, Any], agreed: str | None
) -> None:
    assert agreement(gone(1), version(2, **changes)) == agreed


def test_nothing_is_no_description_to_agree_on() -> None:
    old = gone(1, description=None, posted_on=date(2026, 1, 1))
    assert agreement(old, version(2, description=None)) is None


def test_identical_twins_are_ambiguous() -> None:
    assert pair([gone(1), gone(2)], [version(3), version(4)]) == []
    assert pair([gone(1), gone(2)], [version(3)]) == []
    assert pair([gone(1)], [version(3), version(4)]) == []


def test_a_better_match_goes_first_and_may_leave_others_unambiguous() -> None:
    restated = version(3)
    announced_again = version(4, description="Padaria *")
    found = pair([gone(1), gone(2, amount=Decimal("11"))], [restated, announced_again])
    # 1 agrees with 3 in all; 2 with 3 in date and text alone, and 3 is taken.
    assert links(found) == [(1, 3)]
    found = pair([gone(1), gone(2, description="Padaria *")], [restated, announced_again])
    assert links(found) == [(1, 3), (2, 4)]


ROWS = st.builds(
    lambda number, amount, day, words, hour: (number, amount, day, words, hour),
    st.integers(1, 40),
    st.sampled_from(["10.00", "10.01", "11.00"]),
    st.integers(1, 12),
    st.sampled_from(["Padaria", "Mercado", "Uber", "", None]),
    st.integers(0, 30),
)


def build(
    drawn: Sequence[tuple[int, str, int, str | None, int]], *, deleted: bool
) -> list[Version]:
    make, rows = (gone if deleted else version), {}
    for number, amount, day, words, hour in drawn:
        changes: dict[str, Any] = {
            "amount": Decimal(amount), "posted_on": date(2026, 5, day), "description": words,
        }  # fmt: skip
        at = NOON + timedelta(hours=hour)
        changes |= {"deleted_at": at} if deleted else {"first_seen_at": at}
        rows[number] = make(number + (0 if deleted else 1000), **changes)
    return list(rows.values())


@settings(deadline=None)
@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12), st.randoms(use_true_random=False))
def test_pairing_is_one_to_one_sound_and_does_not_depend_on_the_order(
    drawn_deleted: Any, drawn_created: Any, shuffler: random.Random
) -> None:
    deleted, created = build(drawn_deleted, deleted=True), build(drawn_created, deleted=False)
    found = pair(deleted, created)
    assert len({link.id for link in found}) == len({link.superseded_by for link in found})
    assert len({link.id for link in found}) == len(found)
    rows = {row.id: row for row in (*deleted, *created)}
    for link in found:
        assert agreement(rows[link.id], rows[link.superseded_by]) == link.reason
    shuffler.shuffle(deleted)
    shuffler.shuffle(created)
    assert pair(deleted, created) == found
    left = {link.id for link in found}, {link.superseded_by for link in found}
    again = pair(
        [row for row in deleted if row.id not in left[0]],
        [row for row in created if row.id not in left[1]],
    )
    assert again == []  # nothing that is unambiguous was left out


@settings(deadline=None)
@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12))
def test_no_link_has_a_rival_that_agrees_as_well(drawn_deleted: Any, drawn_created: Any) -> None:
    deleted, created = build(drawn_deleted, deleted=True), build(drawn_created, deleted=False)
    found = pair(deleted, created)
    partner = {link.id: link for link in found} | {link.superseded_by: link for link in found}
    rows = {row.id: row for row in (*deleted, *created)}
    for link in found:
        for other in created:
            reason = agreement(rows[link.id], other)
            if reason and CONFIDENCE[reason] >= link.confidence and other.id != link.superseded_by:
                # Only one that is itself better placed.
                assert partner[other.id].confidence >= CONFIDENCE[reason]


async def rest(stack: Stack) -> None:
    """Two minutes pass after the last run."""
    await stack.db.execute(
        "UPDATE pluggy_sync.runs SET finished_at = finished_at - $1::interval", REST
    )


async def link(stack: Stack) -> None:
    await rest(stack)
    while await link_restatements(stack.db):
        pass


async def lineage(stack: Stack, item_id: str) -> dict[str, asyncpg.Record]:
    found = await stack.db.fetch(
        "SELECT * FROM pluggy_live.transaction_lineage WHERE item_id = $1", item_id
    )
    return {str(record["id"]): record for record in found}


async def stored_links(stack: Stack, item_id: str) -> dict[str, str]:
    rows = await lineage(stack, item_id)
    return {i: str(row["superseded_by"]) for i, row in rows.items() if row["superseded_by"]}


async def restate(stack: Stack, item_id: str, **more: int) -> tuple[str, str]:
    """One restated row, mirrored; returns the old id and the new one."""
    before = await stack.live(item_id)
    answer = await stack.collect(item_id, restated=1, **more)
    await stack.process_all(answer)
    [old] = [i for ids in changed(answer, "deleted").values() for i in ids]
    [new] = set(await stack.live(item_id)) - set(before)
    return old, new


async def test_a_restated_row_is_linked_to_the_one_that_stands_for_it(stack: Stack) -> None:
    item = await stack.synced_item(transactions=80)
    truth = {}
    for _ in range(8):
        old, new = await restate(stack, item["id"])
        truth[old] = new
        await link(stack)  # each time: one of these may be restated again, and be ambiguous then
    shown = await lineage(stack, item["id"])
    found = await stored_links(stack, item["id"])
    assert found == truth
    for old, new in truth.items():
        # The view shows both, from both sides.
        assert not shown[old]["is_live"]
        assert shown[old]["deleted_at"] is not None
        assert shown[old]["confidence"] == CONFIDENCE[shown[old]["reason"]]
        assert str(shown[new]["supersedes"]) == old
    assert {r["reason"] for r in shown.values() if r["reason"]} <= set(CONFIDENCE)
    live = await stack.live(item["id"])
    assert {i for i, row in shown.items() if row["is_live"]} == set(live)
    assert {i: row["signed_amount"] for i, row in shown.items() if row["is_live"]} == {
        i: row["signed_amount"] for i, row in live.items()
    }


async def test_rows_are_linked_but_never_changed(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    await restate(stack, item["id"])
    versions = "SELECT id, xmin::text FROM pluggy.transactions ORDER BY id"
    before = await stack.db.fetch(versions)
    await link(stack)
    assert len(await stored_links(stack, item["id"])) == 1
    assert await stack.db.fetch(versions) == before


async def test_links_are_a_run_and_the_feed_finds_them_by_it(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    old, _ = await restate(stack, item["id"])
    await link(stack)
    [run] = await stack.db.fetch("SELECT * FROM pluggy_sync.runs WHERE kind = 'restatement'")
    assert (str(run["item_id"]), run["outcome"], run["changed"]) == (item["id"], "done", 1)
    found = await stack.db.fetchval(
        "SELECT id FROM pluggy_live.transaction_lineage WHERE link_run_id = $1", run["id"]
    )
    assert str(found) == old
    await link(stack)
    kinds = "SELECT count(*) FROM pluggy_sync.runs WHERE kind = 'restatement'"
    assert await stack.db.fetchval(kinds) == 1


async def test_nothing_is_checked_before_it_has_rested(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    await rest(stack)
    await restate(stack, item["id"])
    assert not await link_restatements(stack.db)
    assert await stored_links(stack, item["id"]) == {}
    await link(stack)
    assert len(await stored_links(stack, item["id"])) == 1


async def test_a_first_import_links_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=200)
    answer = await stack.collect(item["id"], deleted=5)
    await stack.process_all(answer)
    await link(stack)
    assert await stored_links(stack, item["id"]) == {}


async def test_a_row_deleted_a_day_before_is_not_linked(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40, accounts=1)
    old, new = await restate(stack, item["id"])
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deleted_at = deleted_at - interval '24 hours 1 minute'"
        " WHERE id = $1",
        old,
    )
    await link(stack)
    assert await stored_links(stack, item["id"]) == {}
    assert new in await stack.live(item["id"])


async def test_a_link_is_void_when_pluggy_shows_the_old_row_again(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    old, _ = await restate(stack, item["id"])
    await link(stack)
    assert len(await stored_links(stack, item["id"])) == 1
    await stack.db.execute("UPDATE pluggy.transactions SET deleted_at = NULL WHERE id = $1", old)
    assert await stored_links(stack, item["id"]) == {}
    answer = await stack.collect(item["id"], created=1)
    await stack.process_all(answer)
    await link(stack)
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.restatements") == 0


async def test_a_chain_of_restatements_is_linked_step_by_step(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40, accounts=1)
    first, second = await restate(stack, item["id"])
    await link(stack)
    third = uuid.uuid4()
    await restate_again(stack, second, third)
    await link(stack)
    assert await stored_links(stack, item["id"]) == {first: second, second: str(third)}


async def restate_again(stack: Stack, old: str, new: uuid.UUID) -> None:
    """The same row goes and comes once more, an hour later, in a run that the job has not seen."""
    async with stack.db.acquire() as conn, conn.transaction():
        row = await conn.fetchrow("SELECT item_id FROM pluggy.transactions WHERE id = $1", old)
        assert row is not None
        async with run_of_its_own(conn, "sync", item_id=row["item_id"]) as run:
            await conn.execute(
                "INSERT INTO pluggy.transactions SELECT (jsonb_populate_record(t,"
                " jsonb_build_object('id', $2::uuid, 'run_id', $3::bigint, 'source_created_at',"
                " t.source_created_at + interval '1 hour'))).*"
                " FROM pluggy.transactions t WHERE id = $1",
                old,
                new,
                run.id,
            )
            await conn.execute(
                "UPDATE pluggy.transactions SET deleted_at = now(), run_id = $2 WHERE id = $1",
                old,
                run.id,
            )
            run.counts.inserted = run.counts.deleted = 1


async def test_a_closed_account_links_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=2)
    [closing, _] = await stack.live(item["id"], "accounts")
    await stack.update(item["id"], close=[closing])
    await link(stack)
    assert await stored_links(stack, item["id"]) == {}


async def test_one_worker_at_a_time_checks(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    await restate(stack, item["id"])
    await rest(stack)
    async with stack.db.acquire() as conn, conn.transaction():
        assert await restatements.lock_restatements(conn, lock=RESTATEMENTS_LOCK)
        assert not await link_restatements(stack.db)
        assert await stored_links(stack, item["id"]) == {}
    await link(stack)
    assert len(await stored_links(stack, item["id"])) == 1


async def test_portions_are_small_and_all_are_checked(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.maintenance.restatements.MAX_ITEMS", 1)
    monkeypatch.setattr("worker.maintenance.restatements.MAX_RUNS", 3)
    items = [await stack.synced_item(transactions=20) for _ in range(4)]
    for item in items:
        await restate(stack, item["id"])
    await link(stack)
    assert [len(await stored_links(stack, item["id"])) for item in items] == [1] * 4
