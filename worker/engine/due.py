"""When an item has work again: the earliest of its waiting events and its walks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from worker.infra.lanes import Lane
from worker.planner.outcomes import Outcome
from worker.planner.state import Held, PendingEvent, Walk


def next_due(held: Held, outcomes: Mapping[int, Outcome]) -> tuple[datetime | None, Lane]:
    """When there is work again and in which lane: the earliest of events and walks; None: none."""
    found = [_event_due(held, event, outcomes.get(event.id)) for event in held.events]
    found += [_walk_due(held, walk) for walk in held.walks.values()]
    return min((due for due in found if due is not None), default=(None, Lane.AUDIT))


def _event_due(
    held: Held, event: PendingEvent, outcome: Outcome | None
) -> tuple[datetime, Lane] | None:
    if outcome is None or (outcome.state == "walking" and event.state == "walking"):
        return held.now, Lane(event.lane)  # news, or its walks have ended: look again
    if outcome.state == "pending":
        return outcome.due_at or held.now, outcome.lane
    return None


def _walk_due(held: Held, walk: Walk) -> tuple[datetime, Lane] | None:
    step = held.step("transactions", walk.account_id)
    if step.dead_at is not None or step.product in held.parked:
        return None
    return max(step.next_try_at or held.now, held.now), Lane(walk.lane)


def due_walks(held: Held) -> list[Walk]:
    """Walks that may go on now, best lane first."""
    due = [w for w in held.walks.values() if (when := _walk_due(held, w)) and when[0] <= held.now]
    return sorted(due, key=lambda walk: (walk.lane, walk.asked_at))
