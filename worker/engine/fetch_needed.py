"""Whether a claim fetches the item, or goes on with the one that is stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from worker.planner.freshness import asks_again, asks_nothing, is_answered, wants_accounts_alone
from worker.planner.item_status import Item, read_item
from worker.planner.state import ItemState
from worker.pluggy_api.errors import ITEM_NOT_FOUND
from worker.pluggy_api.payloads import decode_object

STORED_ITEM_MAX_AGE: Final = timedelta(minutes=10)
"""Longer than all rechecks of a contradicted answer: each of them is one request."""


def stored_item(item_state: ItemState, *, latest: datetime) -> Item | None:
    """The stored item, if fetched after the newest event while no collection was under way.

    Not for a recheck of an answer: that needs a new fetch. Of whatever age if the accounts
    alone are asked for: that is one request.
    """
    step = item_state.step("items")
    stored = item_state.stored_item
    if stored is None or item_state.item_deleted or step.complete_read_at is None:
        return None
    # The recheck of an empty list is one request: the list's.
    asking = [
        e
        for e in item_state.events
        if e.event != "sync/confirm" and not asks_nothing(item_state, e)
    ]
    alone = wants_accounts_alone(item_state)
    asked = (is_answered(step.read_seq, e) and not asks_again(e, item_state) for e in asking)
    if not alone and not all(asked):
        return None
    item = read_item(
        decode_object(stored.payload),
        is_open_finance=bool(stored.connector_is_open_finance),
        connector_id=stored.connector_id,
        latest=latest,
    )
    recent = abs(item_state.now - step.complete_read_at) < STORED_ITEM_MAX_AGE
    return item if alone or (recent and not item.in_progress) else None


def waits(item_state: ItemState) -> bool:
    """Whether the item may not be fetched now: backed off, or dead of all these events."""
    step = item_state.step("items")
    announced = any(event.event == "item/deleted" for event in item_state.events)
    if announced and step.failure_code == ITEM_NOT_FOUND:
        return False  # the answer that made others dead is what item/deleted expects
    if step.dead_at is not None:
        return all(is_answered(step.dead_seq, event) for event in item_state.events)
    return step.next_try_at is not None and step.next_try_at > item_state.now
