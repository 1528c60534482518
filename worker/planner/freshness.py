"""Compare the marks of a step with an event: already answered, still owed, or collected since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from worker.planner.state import ItemState, PendingEvent, Step

OVERLAP: Final = timedelta(hours=1)
"""A delta starts so much before the watermark: rows may become visible after their createdAt."""
NARROW_TTL: Final = timedelta(minutes=10)
"""So long deltas may start later, once an overlap of more than a page has been read to its end."""
NARROW_OVERLAP: Final = timedelta(minutes=2)
"""Such a delta starts so much before the last one."""
AUDIT_BEYOND: Final = timedelta(days=7)
"""A createdAtFrom so much before the watermark asks for a walk in the audit lane, no delta."""


AHEAD: Final = timedelta(minutes=5)
"""Pluggy's clock may be so much before Postgres's; a time beyond that is none."""


CLOCKS_DIFFER: Final = timedelta(seconds=5)
"""So much between the clocks of Pluggy's own machines; its Date header is cut to the second."""
LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""No clock is beyond this: the calendar ends soon after it."""


def is_later(source: datetime | None, step: Step) -> bool:
    """Whether Pluggy's copy of a product was collected after the one that we have read.

    What a read was told to be collected after it began cannot have been: then all that has another
    time than that one counts from an overlap before the read.
    """
    read, started_at = step.source_updated_at, step.complete_read_at
    if source is None or read is None or source == read:
        return source is not None and source != read
    if started_at is not None and read > started_at:
        return source > started_at - OVERLAP
    return source > read


def latest_by(ours: datetime, pluggys: datetime) -> datetime:
    """No time that Pluggy tells can be later than this, by either clock."""
    return max(ours, min(pluggys, LAST)) + AHEAD


def latest_collection(pluggys: datetime | None, ours: datetime) -> datetime:
    """No collection has ended later than this if Pluggy's answer is of then by its own clock."""
    return latest_by(ours, ours) if pluggys is None else min(pluggys, LAST) + CLOCKS_DIFFER


def bounded(stated: datetime | None, started_at: datetime | None) -> datetime | None:
    """Pluggy's clock at the start of a read, or an overlap before ours if it is far ahead of it."""
    if stated is None or started_at is None or stated <= started_at + AHEAD:
        return stated
    return started_at - OVERLAP


def finds_drift(event: PendingEvent, step: Step, source_updated_at: datetime | None) -> bool:
    """Whether no collection that we have not read yet explains what a verify changes."""
    known = step.complete_read_at is not None and step.source_updated_at is not None
    is_collection_new = is_later(source_updated_at, step)
    return event.event == "sync/verify" and known and not is_collection_new


def owes_recent(step: Step) -> bool:
    """Whether rows were read since the last days were: without a collection nothing changes."""
    if step.complete_read_at is None or step.watermark is None:
        return False
    return step.recent_at is None or (step.read_seq or 0) > (step.recent_seq or 0)


def delta_from(step: Step, now: datetime) -> datetime:
    """Where a delta starts: an overlap before the watermark, after a walk too.

    Rows of one import share a createdAt and may show up one after the other. While a long overlap
    has just been read and its next read is ordered, it starts shortly before the last delta.
    """
    assert step.watermark is not None  # noqa: S101 - a delta starts at one
    wide_from = step.watermark - OVERLAP
    if step.read_up_to is None or not may_be_narrow(step, now):
        return wide_from
    return max(wide_from, step.read_up_to - NARROW_OVERLAP)


def may_be_narrow(step: Step, now: datetime) -> bool:
    """Whether the overlap was read lately; times further ahead are of a clock that was set back."""
    if step.narrow_until is None or step.wide_by is None:
        return False
    return now < step.narrow_until <= now + NARROW_TTL and now < step.wide_by <= now + OVERLAP


def is_narrow(read_since: datetime | None, watermark: datetime | None) -> bool:
    """Whether a read began after the overlap of a watermark, and so must not move it."""
    return read_since is not None and watermark is not None and read_since > watermark - OVERLAP


def is_wide_due(step: Step, now: datetime) -> bool:
    """Whether the time has come by which the whole overlap is read again."""
    return step.wide_by is not None and step.wide_by <= now


def is_answered(read_seq: int | None, event: PendingEvent) -> bool:
    """Whether a read began after the event became pending, and so has its answer.

    By order, not by clocks: Postgres's may be set back between the two.
    """
    return read_seq is not None and event.pending_seq <= read_seq


def asks_again(event: PendingEvent, item_state: ItemState) -> bool:
    """Whether the event's second question is due, which no read before it answers."""
    return event.ask_again_at is not None and event.ask_again_at <= item_state.now


def has_read_created(step: Step, event: PendingEvent) -> bool:
    """Whether a read that began after the event listed the rows from where it says they begin.

    A delta that was planned before the event came may have started later than that.
    """
    reached = (
        event.created_at_from is None
        or step.read_since is None
        or step.read_since <= event.created_at_from
    )
    return is_answered(step.read_seq, event) and (reached or is_answered(step.walked_seq, event))


def is_long_before(created_at_from: datetime | None, watermark: datetime) -> bool:
    """Whether so much lies in between that a walk has to read it, not a delta."""
    return created_at_from is not None and created_at_from < watermark - AUDIT_BEYOND
