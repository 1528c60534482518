"""When an item is due next, and in which lane: the earliest of its waiting events and its walks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from worker.infra.lanes import Lane
from worker.planner.outcomes import Outcome
from worker.planner.state import ItemState, PendingEvent, Walk


def next_due(
    item_state: ItemState, outcomes: Mapping[int, Outcome]
) -> tuple[datetime | None, Lane]:
    """Time and lane of the item's next work: the earliest of events and walks. None: no work."""
    found = [_event_due(item_state, event, outcomes.get(event.id)) for event in item_state.events]
    found += [_walk_due(item_state, walk) for walk in item_state.walks.values()]
    return min((due for due in found if due is not None), default=(None, Lane.AUDIT))


def _event_due(
    item_state: ItemState, event: PendingEvent, outcome: Outcome | None
) -> tuple[datetime, Lane] | None:
    if outcome is None or (outcome.state == "walking" and event.state == "walking"):
        return item_state.now, Lane(event.lane)  # new, or its walks have ended: plan again
    if outcome.state == "pending":
        return outcome.due_at or item_state.now, outcome.lane
    return None


def _walk_due(item_state: ItemState, walk: Walk) -> tuple[datetime, Lane] | None:
    step = item_state.step("transactions", walk.account_id)
    if step.dead_at is not None or step.product in item_state.parked:
        return None
    return max(step.next_try_at or item_state.now, item_state.now), Lane(walk.lane)


def due_walks(item_state: ItemState) -> list[Walk]:
    """Walks that may go on now, best lane first."""
    due = [
        w
        for w in item_state.walks.values()
        if (when := _walk_due(item_state, w)) and when[0] <= item_state.now
    ]
    return sorted(due, key=lambda walk: (walk.lane, walk.asked_at))
