"""Compare the marks of a step with an event: already answered, still owed, or collected since.

Ids of an event that cannot be read are replaced by a walk of their account, one a day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from worker.inbox.events import READ_ACCOUNTS
from worker.planner.state import ItemState, PendingEvent, Step

OVERLAP: Final = timedelta(hours=1)
"""A delta starts this much before the watermark: rows may become visible after their createdAt."""
NARROW_TTL: Final = timedelta(minutes=10)
"""Period of narrow deltas, after an overlap of more than a page has been read completely."""
NARROW_OVERLAP: Final = timedelta(minutes=2)
"""A narrow delta starts this much before the end of the last one."""
AUDIT_BEYOND: Final = timedelta(days=7)
"""A createdAtFrom this much before the watermark needs a walk in the audit lane, not a delta."""


AHEAD: Final = timedelta(minutes=5)
"""Maximum lead of Pluggy's clock over Postgres's; later times are invalid."""


CLOCKS_DIFFER: Final = timedelta(seconds=5)
"""Maximum difference between Pluggy's own clocks; its Date header has whole seconds."""
LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Maximum of any clock, near the end of Python's calendar."""
WALK_INTERVAL: Final = timedelta(days=1)
"""At most one walk per account and interval: forged events may be partly unreadable too."""
ID_EVENTS: Final = frozenset({"transactions/updated", "transactions/deleted"})


def is_later(source: datetime | None, step: Step) -> bool:
    """Whether a product was collected after the copy that we have read.

    A collection time after the start of its own read is wrong. Then any other time counts as later,
    from an overlap before that read.
    """
    read, started_at = step.source_updated_at, step.complete_read_at
    if source is None or read is None or source == read:
        return source is not None and source != read
    if started_at is not None and read > started_at:
        return source > started_at - OVERLAP
    return source > read


def latest_by(ours: datetime, pluggys: datetime) -> datetime:
    """Upper bound for times stated by Pluggy, by either clock."""
    return max(ours, min(pluggys, LAST)) + AHEAD


def latest_collection(pluggys: datetime | None, ours: datetime) -> datetime:
    """Upper bound for collection times of an answer sent at pluggys (Pluggy's clock)."""
    return latest_by(ours, ours) if pluggys is None else min(pluggys, LAST) + CLOCKS_DIFFER


def bounded(stated: datetime | None, started_at: datetime | None) -> datetime | None:
    """A stated start time, or an overlap before ours if it is too far ahead of our clock."""
    if stated is None or started_at is None or stated <= started_at + AHEAD:
        return stated
    return started_at - OVERLAP


def owes_recent(step: Step) -> bool:
    """Whether the account was read since its recent days were; otherwise they cannot differ."""
    if step.complete_read_at is None or step.watermark is None:
        return False
    return step.recent_at is None or (step.read_seq or 0) > (step.recent_seq or 0)


def delta_from(step: Step, now: datetime) -> datetime:
    """Start of a delta: an overlap before the watermark, after a walk too.

    Rows of one import share a createdAt and may become visible one after the other. If a long
    overlap was read recently and its next read is scheduled, the delta is narrow.
    """
    assert step.watermark is not None  # noqa: S101 - a delta starts at one
    wide_from = step.watermark - OVERLAP
    if step.read_up_to is None or not may_be_narrow(step, now):
        return wide_from
    return max(wide_from, step.read_up_to - NARROW_OVERLAP)


def may_be_narrow(step: Step, now: datetime) -> bool:
    """Whether the overlap was read recently; times too far ahead come from a clock set back."""
    if step.narrow_until is None or step.wide_by is None:
        return False
    return now < step.narrow_until <= now + NARROW_TTL and now < step.wide_by <= now + OVERLAP


def is_wide_due(step: Step, now: datetime) -> bool:
    """Whether the whole overlap is due to be read again."""
    return step.wide_by is not None and step.wide_by <= now


def is_answered(read_seq: int | None, event: PendingEvent) -> bool:
    """Whether a read began after the event became pending, and so answers it.

    Decided by sequence numbers, not by clocks, which may be set back.
    """
    return read_seq is not None and event.pending_seq <= read_seq


def asks_again(event: PendingEvent, item_state: ItemState) -> bool:
    """Whether the event's second read is due, which no earlier read answers."""
    return event.ask_again_at is not None and event.ask_again_at <= item_state.now


def has_read_created(step: Step, event: PendingEvent) -> bool:
    """Whether a read after the event covered all rows that it announces.

    A delta planned before the event may start later than the announced rows.
    """
    reached = (
        event.created_at_from is None
        or step.read_since is None
        or step.read_since <= event.created_at_from
    )
    return is_answered(step.read_seq, event) and (reached or is_answered(step.walked_seq, event))


def is_long_before(created_at_from: datetime | None, watermark: datetime) -> bool:
    """Whether a start is too far before the watermark for a delta: a walk reads it."""
    return created_at_from is not None and created_at_from < watermark - AUDIT_BEYOND


def has_unreadable_ids(event: PendingEvent) -> bool:
    """Whether the event has transaction ids that could not be read."""
    return event.event in ID_EVENTS and event.account_id is not None and event.ids_unreadable


def next_walk_at(item_state: ItemState, step: Step) -> datetime | None:
    """When the next walk for unreadable ids is allowed; None: now."""
    if step.unreadable_walk_at is None or step.unreadable_walk_at + WALK_INTERVAL <= item_state.now:
        return None
    return step.unreadable_walk_at + WALK_INTERVAL


def is_newest_unreadable(item_state: ItemState, event: PendingEvent) -> bool:
    """Whether no later open event waits for the same walk; one waiting event is enough."""
    return not any(
        other.account_id == event.account_id and other.id > event.id and has_unreadable_ids(other)
        for other in item_state.events
    )


def waits_for_newer(item_state: ItemState, event: PendingEvent) -> bool:
    """Whether an event waits for tomorrow's walk and a newer one replaces it."""
    if event.account_id is None or not has_unreadable_ids(event):
        return False
    walk_at = next_walk_at(item_state, item_state.step("transactions", event.account_id))
    return event.ask_again_at == walk_at and not is_newest_unreadable(item_state, event)


def asks_nothing(item_state: ItemState, event: PendingEvent) -> bool:
    """Whether an event only waits for tomorrow's walk and so needs no request at all.

    Its account is stored and was walked for unreadable ids within the day; no id is readable.
    """
    account = item_state.accounts.get(event.account_id) if event.account_id else None
    if account is None or not account.live or event.ids_open or not has_unreadable_ids(event):
        return False
    return next_walk_at(item_state, item_state.step("transactions", account.id)) is not None


def wants_accounts_alone(item_state: ItemState) -> bool:
    """Whether all events ask for the accounts of a stored item, which needs no fetch itself."""
    known = item_state.step("accounts").complete_read_at is not None
    stored = item_state.item is not None and not item_state.item_deleted
    return known and stored and {e.event for e in item_state.events} == {READ_ACCOUNTS}
