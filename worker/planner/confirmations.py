"""Detect answers that contradict their event, and schedule rechecks of them.

There is one schedule per item and product (or product of an account), shared by all events that
wait for it. It is stored on the events and starts with the first contradicting answer; any read of
the product counts as a recheck. So no step backs off, and any read that finds the changes ends it.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Final

from worker.planner.state import WHOLE_ITEM, ItemState, PendingEvent, Step

RECHECK_AFTER: Final = tuple(timedelta(seconds=s) for s in (5, 30, 120, 300))
"""Times of the rechecks, counted from the first contradicting answer."""
MAX_JOINED: Final = timedelta(minutes=2)
"""An event that becomes pending later than this in a schedule gets one of its own afterwards."""
READ_LATELY: Final = timedelta(hours=1)
"""An item read this recently need not have changed again: webhooks may be duplicated."""

Thing = tuple[str, uuid.UUID]
"""Product and scope, the key of a step in product_sync."""
ACCOUNTS: Final[Thing] = ("accounts", WHOLE_ITEM)
ITEM: Final[Thing] = ("items", WHOLE_ITEM)
READ_WITH_ITEM: Final = ("accounts", "investments", "loans", "identities")
ANNOUNCES_COLLECTION: Final = frozenset({"item/created", "item/updated"})
ANNOUNCES_ITEM: Final = ANNOUNCES_COLLECTION | {"sync/register", "sync/verify"}


def key_of(thing: Thing) -> str:
    """The text form of a step's key in webhook_events.confirming."""
    product, scope_id = thing
    return product if scope_id == WHOLE_ITEM else f"{product}/{scope_id}"


def next_recheck(since: datetime, read_at: datetime | None) -> datetime | None:
    """Time of the next recheck after a read at read_at; None: all rechecks have been made."""
    rechecks = (since + after for after in RECHECK_AFTER)
    return next((recheck for recheck in rechecks if read_at is None or recheck > read_at), None)


def schedule_of(item_state: ItemState, event: PendingEvent, thing: Thing) -> datetime:
    """Start of the recheck schedule for this event: the running one, or now."""
    key, read_at = key_of(thing), item_state.step(*thing).complete_read_at
    stored = [
        e.confirming_since for e in item_state.events if e.confirming == key and e.confirming_since
    ]
    under_way = [since for since in stored if next_recheck(since, read_at) is not None]
    if under_way:
        return min(under_way)
    own = event.confirming_since if event.confirming == key else None
    # After a step back of the clock the order is unknown: no schedule follows this one.
    joined_late = own is not None and own + MAX_JOINED < event.pending_since <= item_state.now
    if own is not None and not joined_late:
        return own
    return item_state.now


def brought_nothing(item_state: ItemState, event: PendingEvent) -> bool:
    """Whether no stored row of the account is as new as the rows that the event announces."""
    if event.account_id is None or event.expected_rows == 0:
        return False
    newest = item_state.newest_rows.get(event.account_id)
    if event.created_at_from is None:
        return event.announces_rows and newest is None
    return newest is None or newest < event.created_at_from


def has_not_moved(item_state: ItemState, event: PendingEvent) -> bool:
    """Whether an event announces a collection, but no read for it found one.

    Only valid when no product of the item is left to read.
    """
    of_unknown_account = event.event.startswith("transactions/") and event.account_id is None
    if event.event not in ANNOUNCES_COLLECTION and not of_unknown_account:
        return False
    steps = [item_state.step(product) for product in READ_WITH_ITEM]
    if event.confirming == key_of(ITEM):
        return not any(_follows_later_item(item_state, event, step) for step in steps)
    covered = map(_covered_until, steps)
    return not any(at > event.pending_since - READ_LATELY for at in covered if at is not None)


def _follows_later_item(item_state: ItemState, event: PendingEvent, step: Step) -> bool:
    """Whether a product was read because of an item fetched after the one that contradicts.

    A list that is read once more beside the item as stored proves nothing about the item.
    """
    since, fetched_at = event.confirming_since, item_state.step(*ITEM).complete_read_at
    read_at = step.complete_read_at
    if since is None or fetched_at is None or read_at is None:
        return False
    return since < fetched_at <= read_at


def _covered_until(step: Step) -> datetime | None:
    """Time of the last complete read, or of its collection if that is older.

    A read of yesterday's collection does not cover one announced a minute later.
    """
    known = [at for at in (step.complete_read_at, step.source_updated_at) if at is not None]
    return None if step.complete_read_at is None else min(known)


def has_no_account(item_state: ItemState, event: PendingEvent) -> bool:
    """Whether an event announces an item that has no stored account."""
    return event.event in ANNOUNCES_ITEM and not item_state.accounts


def item_recheck_due(item_state: ItemState) -> bool:
    """Whether the item itself must be fetched now, although it is stored."""
    read_at = item_state.step(*ITEM).complete_read_at
    schedules = [e.confirming_since for e in item_state.events if e.confirming == key_of(ITEM)]
    rechecks = [next_recheck(since, read_at) for since in schedules if since is not None]
    return any(recheck is not None and recheck <= item_state.now for recheck in rechecks)


def first_recheck_due(item_state: ItemState, step: Step) -> bool:
    """Whether a list that was empty at its first read is due for a recheck."""
    if not step.awaits_rows or step.first_read_at is None or step.dead_at is not None:
        return False
    recheck = next_recheck(step.first_read_at, step.complete_read_at)
    return recheck is not None and recheck <= item_state.now
