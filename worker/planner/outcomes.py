"""Derive the outcome of an event from its remaining needs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from worker.inbox.events import TRANSACTION_EVENTS
from worker.infra.lanes import Lane
from worker.planner.state import ItemState, PendingEvent, Step
from worker.planner.steps import PlannedStep, ReadInvestmentTransactions

ASK_AGAIN_AFTER: Final = timedelta(minutes=5)
SUPERSEDED_AFTER: Final = timedelta(hours=24)
MIN_COLLECTION_PAUSE: Final = timedelta(seconds=30)
MAX_COLLECTION_PAUSE: Final = timedelta(hours=1)

PRODUCT_PARKED: Final = "product_parked"


@dataclass(frozen=True, slots=True)
class Outcome:
    """State of an event after this sync. due_at and lane: the next sync of a pending event."""

    state: str
    reason: str | None = None
    error_id: str | None = None
    ask_again_at: datetime | None = None
    due_at: datetime | None = None
    lane: Lane = Lane.RETRY
    confirming: str | None = None
    confirming_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Steps to take now, and the outcome of each event (row id) so far."""

    steps: Sequence[PlannedStep]
    outcomes: Mapping[int, Outcome]
    parked: frozenset[tuple[str, uuid.UUID]] = frozenset()
    """Steps left out because their product is parked."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Events whose ids were all read in this session, and those with a row that came back.

    again: accounts whose deletion candidates without a witness were read again.
    """

    events: frozenset[int] = frozenset()
    came_back: frozenset[int] = frozenset()
    again: frozenset[uuid.UUID] = frozenset()

    def with_(self, more: Answered) -> Answered:
        """The union of both."""
        return Answered(
            self.events | more.events,
            self.came_back | more.came_back,
            self.again | more.again,
        )


NONE_ANSWERED: Final = Answered()


@dataclass(slots=True)
class Needs:
    """Remaining needs of one event: steps to take, and reasons to wait."""

    steps: list[PlannedStep] = field(default_factory=list)
    waits: list[datetime] = field(default_factory=list)
    walking: bool = False
    dead: Step | None = None
    reason: str | None = None
    keeps_lane: bool = False
    """Whether the event waits only for a rate limit, and so stays in its lane."""
    lacks: bool = False
    """Whether a needed step belongs to a parked product."""
    parked: set[tuple[str, uuid.UUID]] = field(default_factory=set)
    confirming: tuple[str, datetime] | None = None

    @property
    def nothing(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return not (self.steps or self.waits or self.walking or self.dead or self.lacks)


def doubling_pause(age: timedelta) -> timedelta:
    """The age again, between 30 s and 1 h: doubles the wait without a stored counter."""
    return min(MAX_COLLECTION_PAUSE, max(MIN_COLLECTION_PAUSE, age))


def hold_back(item_state: ItemState, event: PendingEvent) -> Outcome:
    """Wait for the end of a collection; after a day a later webhook has replaced the event."""
    age = item_state.now - event.pending_since
    if age >= SUPERSEDED_AFTER:
        return Outcome("ignored", "superseded")
    return Outcome("pending", "collection_in_progress", due_at=item_state.now + doubling_pause(age))


def outcome_of(needs: Needs, event: PendingEvent, now: datetime) -> Outcome:
    """The outcome of an event with these needs; times are UTC."""
    found = _outcome_of(needs, event, now)
    if found.state not in ("pending", "walking"):
        return found
    # A contradiction stays recorded while other reads come first.
    confirming, since = needs.confirming or (event.confirming, event.confirming_since)
    return replace(found, confirming=confirming, confirming_since=since)


def _outcome_of(needs: Needs, event: PendingEvent, now: datetime) -> Outcome:
    if needs.steps:
        # The rest of a sweep continues after live work.
        sweeps = all(isinstance(s, ReadInvestmentTransactions) and s.sweeps for s in needs.steps)
        lane = max(Lane(event.lane), Lane.BACKFILL) if sweeps else Lane(event.lane)
        return Outcome("pending", due_at=now, lane=lane, ask_again_at=event.ask_again_at)
    if needs.waits:
        lane = Lane(event.lane) if needs.keeps_lane else Lane.RETRY
        due_at, again = min(needs.waits), event.ask_again_at
        return Outcome("pending", due_at=due_at, ask_again_at=again, lane=lane)
    if needs.walking:
        return Outcome("walking")
    if needs.dead is not None:
        return Outcome("dead", needs.dead.failure_code, error_id=needs.dead.error_id)
    if needs.lacks and event.event in TRANSACTION_EVENTS:
        return Outcome("ignored", PRODUCT_PARKED)  # until the product is unparked
    return Outcome("applied", ask_again_at=event.ask_again_at)
