"""Starts of deltas: any createdAt is read within an hour, in any sequence of reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.planning import (
    CHECKING,
    COLLECTED,
    HOUR,
    MINUTE,
    NOW,
    decided,
    event,
    item,
    item_state,
    step,
)
from worker.planner.freshness import NARROW_OVERLAP, NARROW_TTL, OVERLAP, is_wide_due
from worker.planner.state import Step
from worker.planner.steps import ReadDelta

READ = {"source_updated_at": COLLECTED, "watermark": NOW - 5 * MINUTE}
NARROW = READ | {
    "read_up_to": NOW - MINUTE,
    "narrow_until": NOW + 5 * MINUTE,
    "wide_by": NOW + 50 * MINUTE,
}


def started(fields: dict[str, datetime], **announced: Any) -> datetime:
    state = item_state(
        event("transactions/created", **announced),
        changed=[step("transactions", CHECKING, **fields)],
    )
    [found] = decided(state).steps
    assert isinstance(found, ReadDelta)
    return found.created_at_from


def test_a_delta_behind_a_long_overlap_starts_shortly_before_the_last_one() -> None:
    assert started(NARROW) == NOW - MINUTE - NARROW_OVERLAP


def test_a_narrow_delta_starts_no_later_than_its_event_says() -> None:
    assert started(NARROW, created_at_from=NOW - 30 * MINUTE) == NOW - 30 * MINUTE


@pytest.mark.parametrize(
    "without",
    [
        {"narrow_until": NOW},
        {"narrow_until": None},
        {"wide_by": NOW},
        {"wide_by": None},
        {"read_up_to": None},
        {"narrow_until": NOW + NARROW_TTL + MINUTE},
        {"wide_by": NOW + OVERLAP + MINUTE},
    ],
)
def test_all_of_the_overlap_is_read_unless_that_was_done_lately_and_is_ordered(
    without: dict[str, datetime],
) -> None:
    """Times too far ahead were set before Postgres's clock went back."""
    assert started(NARROW | without) == NOW - 5 * MINUTE - OVERLAP


@pytest.mark.parametrize("status", ["UPDATED", "UPDATING"])
@pytest.mark.parametrize(("wide_by", "reads"), [(NOW, True), (NOW + MINUTE, False)])
def test_the_ordered_read_is_of_the_overlaps_that_are_due(
    wide_by: datetime, reads: bool, status: str
) -> None:
    at = step("transactions", CHECKING, **(NARROW | {"wide_by": wide_by}))
    found = decided(item_state(event("sync/confirm"), changed=[at]), of=item(status))
    wide = ReadDelta(CHECKING, NOW - 5 * MINUTE - OVERLAP, False, COLLECTED)
    assert found.steps == ([wide] if reads else [])


@dataclass(frozen=True, slots=True)
class Act:
    """An event some time after the one before, with what it says of its rows, if anything."""

    after: timedelta
    tells: timedelta | None
    is_long: bool


acts = st.builds(
    Act,
    after=st.integers(1, 4000).map(lambda s: timedelta(seconds=s)),
    tells=st.none() | st.integers(0, 1200).map(lambda s: timedelta(seconds=s)),
    is_long=st.booleans(),
)


def is_narrow(since: datetime, watermark: datetime | None) -> bool:
    """Whether a read began after a part of the overlap."""
    return watermark is not None and since > watermark - OVERLAP


def read(at: Step, since: datetime, now: datetime, *, is_long: bool) -> Step:
    """The step after a delta; function complete_transactions does the same in the database."""
    if is_narrow(since, at.watermark):
        return msgspec.structs.replace(at, read_up_to=now, complete_read_at=now)
    ordered = at.wide_by if at.wide_by is not None and now < at.wide_by <= now + OVERLAP else None
    return msgspec.structs.replace(
        at,
        watermark=now,
        read_up_to=now,
        complete_read_at=now,
        narrow_until=now + NARROW_TTL if is_long else None,
        wide_by=ordered or (now + OVERLAP if is_long else None),
    )


@settings(max_examples=examples(120, thorough=300), derandomize=True, database=None, deadline=None)
@given(st.lists(acts, min_size=1, max_size=25))
def test_no_sequence_of_deltas_leaves_a_time_unread_for_more_than_the_hour(
    sequence: list[Act],
) -> None:
    """wide: from where to when the whole overlap was read; each begins an hour before the last."""
    now, at = NOW, step("transactions", CHECKING, **READ, read_up_to=NOW - 5 * MINUTE)
    wide = at.watermark
    for act in sequence:
        due, now = at.wide_by, now + act.after
        if due is not None and due <= now:
            at, wide = wide_read(at, due, wide, act), due
        announced: dict[str, Any] = (
            {} if act.tells is None else {"created_at_from": now - act.tells}
        )
        since = start_of(at, now, "transactions/created", **announced)
        assert since <= now - (act.tells or timedelta())
        assert at.read_up_to is not None
        assert since <= at.read_up_to, "what was created since the last delta is left out"
        assert wide is not None
        if is_narrow(since, at.watermark):
            assert at.watermark == wide, "a narrow delta has moved the watermark"
            assert at.wide_by is not None
            assert now < at.wide_by <= wide + HOUR, "nothing is ordered within the hour"
        else:
            assert since <= wide - HOUR
            wide = now
        at = read(at, since, now, is_long=act.is_long)


def wide_read(at: Step, due: datetime, wide: datetime | None, act: Act) -> Step:
    """The ordered read, at its time."""
    assert is_wide_due(at, due)
    since = start_of(at, due, "sync/confirm")
    assert wide is not None
    assert since <= wide - HOUR, "the ordered read does not reach back"
    return read(at, since, due, is_long=act.is_long)


def start_of(at: Step, now: datetime, name: str, **announced: Any) -> datetime:
    """The createdAt from which the plan reads for an event at that time."""
    state = item_state(event(name, pending_seq=2**60, **announced), changed=[at])
    [found] = [s for s in decided(replace(state, now=now)).steps if isinstance(s, ReadDelta)]
    return found.created_at_from
