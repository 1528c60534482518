"""The silence alarm's side of a sync: when to look at the item next, and what nobody told of."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import structlog

from worker.inbox.events import TRANSACTION_EVENTS
from worker.infra.queries import QUERIES
from worker.lease.lease import Claim
from worker.planner.freshness import is_later
from worker.planner.outcomes import SyncPlan
from worker.planner.state import NO_ACCOUNT, Held, Step
from worker.planner.steps import Gone, NotRead
from worker.pluggy_api.item_status import Item

log = structlog.get_logger()

ALARM_AFTER: Final = timedelta(minutes=15)
"""nextAutoSyncAt is a not-before time, and a collection and its webhooks take a while."""
FIRST_PAUSE: Final = timedelta(hours=1)
LONGEST_PAUSE: Final = timedelta(hours=24)
FARTHEST: Final = timedelta(days=2)
"""Pluggy collects every 24 hours at least: what it promises for later than this (the year 9999) is
looked at by then, so that one odd promise does not silence the alarm."""
NO_DIFFERENCE: Final = timedelta(minutes=1)
"""Pluggy tells its time in whole seconds: what differs by less than this is not written again."""
COLLECTED: Final = ("accounts", "transactions", "investments", "loans", "identities")
OPEN: Final = ("pending", "walking")


async def note_missed(claim: Claim, item: Item | Gone | NotRead, held: Held) -> None:
    """Remember a collection that the alarm finds before any webhook. Raises FencedOff."""
    if not isinstance(item, Item) or item.last_updated_at is None:
        return
    alarmed = any(event.event == "sync/silence" for event in held.events)
    if not alarmed or not collected_unread(item, held, claim.products):
        return
    # Never of the future: that may be beyond the calendar.
    age = max(timedelta(0), (claim.pluggy.pluggy_now or claim.now) - item.last_updated_at)
    async with claim.page() as conn:
        await conn.execute(
            QUERIES["note_missed_webhook"], claim.item_id, item.last_updated_at, claim.now - age
        )
    log.warning("collection_untold", collected_at=item.last_updated_at.isoformat())


async def expect_collection(
    claim: Claim, item: Item | Gone | NotRead, held: Held, settled: SyncPlan
) -> None:
    """After a sync: when the alarm looks next, if the lease is still held."""
    token = claim.lease.token
    if isinstance(item, Gone) and held.item_deleted:
        await claim.db.execute(QUERIES["forget_nets"], claim.item_id, token)
    if not isinstance(item, Item) or claim.pluggy.pluggy_now is None:
        return  # nothing was asked, so nothing is known that was not known before
    responsible = any(
        settled.outcomes[event.id].state in OPEN
        for event in held.events
        if event.event not in TRANSACTION_EVENTS
    )
    untold = not responsible and collected_unread(item, held, claim.products)
    look_at = next_look(item, now=claim.now, pluggy_now=claim.pluggy.pluggy_now, untold=untold)
    if look_at is None or held.look_at is None or abs(look_at - held.look_at) > NO_DIFFERENCE:
        await claim.db.execute(QUERIES["set_look"], claim.item_id, look_at, token)


def next_look(item: Item, *, now: datetime, pluggy_now: datetime, untold: bool) -> datetime | None:
    """By our clock: a while after the collection that Pluggy promises; None: it promises none.

    If that has passed and nothing has moved: after a pause that doubles from an hour to a day. If
    something has moved, but only transactions/* told of it: item/updated has to come soon.
    """
    if untold:
        return now + ALARM_AFTER
    if item.next_auto_sync_at is None:
        return None
    overdue = pluggy_now - ALARM_AFTER - item.next_auto_sync_at
    if overdue < timedelta(0):
        return now + min(-overdue, FARTHEST)
    return now + min(LONGEST_PAUSE, FIRST_PAUSE + overdue)


def collected_unread(item: Item, held: Held, products: Collection[str]) -> bool:
    """Whether Pluggy has collected something since we read it. What is dead waits for a person."""
    return any(
        _is_ours(step, held, products) and _is_behind(step, item) for step in held.steps.values()
    )


def _is_ours(step: Step, held: Held, products: Collection[str]) -> bool:
    known = step.stamped_at is not None and step.dead_at is None
    live = step.account_id == NO_ACCOUNT or step.account_id in held.live_accounts
    wanted = step.product in products and step.product not in held.parked
    return known and live and wanted and step.product in COLLECTED


def _is_behind(step: Step, item: Item) -> bool:
    return is_later(item.source_updated_at(step.product), step)
