"""Plan partly unreadable events: one account walk a day replaces the ids that cannot be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from worker.planner.state import ItemState, PendingEvent, Step

WALK_INTERVAL: Final = timedelta(days=1)
"""At most one walk per account and interval: forged events may be partly unreadable too."""
ID_EVENTS: Final = frozenset({"transactions/updated", "transactions/deleted"})


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
