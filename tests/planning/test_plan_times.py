"""Odd times and clock steps never hide a later collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.planning import NOW, decided, event, fresh_steps, item_state
from worker.planner.freshness import AHEAD, bounded, is_answered, is_later, latest_collection
from worker.planner.item_status import Item, read_item
from worker.planner.state import WHOLE_ITEM, ItemState, Step
from worker.planner.steps import ReadProduct

many = settings(
    max_examples=examples(150, thorough=400), derandomize=True, database=None, deadline=None
)
SECOND = timedelta(seconds=1)
BEHIND = timedelta(hours=3)


@dataclass(frozen=True)
class Act:
    """Some time passes, Pluggy may collect, and an event comes; odd: what the item then says.

    clock: how far Postgres's clock is ahead of Pluggy's at that time.
    """

    passes: timedelta
    collects: bool
    odd: str | timedelta | None
    clock: timedelta
    reads: bool = True


acts = st.builds(
    Act,
    passes=st.sampled_from([SECOND, timedelta(minutes=2), timedelta(hours=1), timedelta(days=2)]),
    collects=st.booleans(),
    odd=st.sampled_from(
        [
            *[None] * 4,
            "null",
            "2031-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "1970-01-01T00:00:00Z",
            *(AHEAD - timedelta(seconds=n) for n in (1, 60, 290)),
            -timedelta(minutes=3),
        ]
    ),
    clock=st.sampled_from([*[0.0] * 4, 4.0, -4.0, 30.0, -30.0, 7200.0, -BEHIND / SECOND]).map(
        lambda s: timedelta(seconds=s)
    ),
    reads=st.booleans(),
)


class Model:
    """One product of one item: what Pluggy has collected, and what we have read of it."""

    def __init__(self) -> None:
        self.now, self.place = NOW, 10**6
        self.collected_at, self.unread = NOW - timedelta(days=1), False
        self.step = next(s for s in fresh_steps() if s.product == "loans")
        self.step = Step(
            "loans", complete_read_at=NOW, source_updated_at=self.collected_at, read_seq=1
        )

    def item(self, act: Act, ours: datetime) -> Item:
        announced: str | None = self.collected_at.isoformat()
        if isinstance(act.odd, timedelta):
            # Never to the microsecond when something is collected later.
            announced = (self.now + act.odd + timedelta(microseconds=7)).isoformat()
        elif act.odd is not None:
            announced = None if act.odd == "null" else act.odd
        fields: dict[str, Any] = {"status": "UPDATED", "lastUpdatedAt": announced}
        latest = latest_collection(self.now.replace(microsecond=0), ours)
        return read_item(fields, is_open_finance=False, latest=latest)

    def state(self, ours: datetime) -> ItemState:
        self.place += 2
        announced = event("item/updated", pending_since=ours, pending_seq=self.place)
        others = [s for s in fresh_steps() if s.product != "loans"]
        return replace(item_state(announced, steps=[*others, self.step]), now=ours)

    def play(self, act: Act) -> bool:
        """Returns whether the product was read, or wanted where the read fails."""
        self.now += act.passes
        if act.collects:
            self.collected_at, self.unread = self.now, True
            self.now += SECOND
        ours = self.now + act.clock
        state = self.state(ours)
        found = decided(state, of=self.item(act, ours), products=("items", "accounts", "loans"))
        wanted = [s for s in found.steps if isinstance(s, ReadProduct)]
        if wanted and act.reads:
            self.step = Step(
                "loans",
                WHOLE_ITEM,
                complete_read_at=ours,
                source_updated_at=wanted[0].source_updated_at,
                read_seq=self.place + 1,
            )
            self.unread = False
        return bool(wanted)


@many
@given(st.lists(acts, max_size=6), st.sampled_from([SECOND, timedelta(hours=2)]))
def test_a_collection_after_any_odd_times_is_read_with_its_event(
    odd: Sequence[Act], passes: timedelta
) -> None:
    model = Model()
    for act in odd:
        model.play(act)
    assert model.play(Act(passes, collects=True, odd=None, clock=timedelta(0)))


@many
@given(st.lists(acts, max_size=4))
def test_what_was_not_read_is_read_with_the_next_sane_answer(odd: Sequence[Act]) -> None:
    model = Model()
    for act in odd:
        model.play(act)
    unread = model.unread
    read = model.play(Act(timedelta(minutes=1), collects=False, odd=None, clock=timedelta(0)))
    assert read or not unread


@many
@given(st.lists(acts.filter(lambda t: t.odd is None and not t.clock), max_size=6))
def test_times_that_are_not_odd_cost_one_read_a_collection(sane: Sequence[Act]) -> None:
    model = Model()
    for act in sane:
        due = act.collects or model.unread
        assert model.play(act) is due


@many
@given(st.timedeltas(timedelta(days=-15_000), timedelta(days=2_900_000)))
def test_no_watermark_is_far_ahead_of_our_clock(ahead: timedelta) -> None:
    found = bounded(NOW + ahead, NOW)
    assert found is not None
    assert found == NOW + ahead if ahead <= AHEAD else found < NOW


@pytest.mark.parametrize(("announced", "later"), [(1, True), (4, False), (6, True), (-59, True)])
def test_a_mark_after_the_start_of_its_read_counts_from_an_overlap_before_it(
    announced: int, later: bool
) -> None:
    """Minutes; the read of NOW returned a collection that ended 4 minutes later."""
    minute = timedelta(minutes=1)
    read = Step("loans", complete_read_at=NOW, source_updated_at=NOW + 4 * minute)
    assert is_later(NOW + announced * minute, read) is later


def test_an_event_is_answered_by_reads_of_a_later_place_only() -> None:
    announced = event("item/updated", pending_seq=7)
    assert [is_answered(place, announced) for place in (None, 6, 7, 8)] == [
        False,
        False,
        True,
        True,
    ]
