"""Schedules an item's missed-webhook check, and records collections that no webhook announced."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import structlog

from worker.inbox.events import TRANSACTION_EVENTS
from worker.lease.lease import SyncSession
from worker.planner.freshness import is_later
from worker.planner.item_status import MEU_PLUGGY, Item
from worker.planner.outcomes import SyncPlan
from worker.planner.state import WHOLE_ITEM, ItemState, Step
from worker.planner.steps import Gone, NotRead
from worker.store import reconciliation

log = structlog.get_logger()

ALARM_AFTER: Final = timedelta(minutes=15)
"""Pluggy collects after nextAutoSyncAt, never before, and a collection and its webhooks take time.
"""
MEU_PLUGGY_INTERVAL: Final = timedelta(hours=25)
"""MeuPluggy is collected daily; an hour is left for the collection and its webhook."""
FIRST_PAUSE: Final = timedelta(hours=1)
MAX_PAUSE: Final = timedelta(hours=24)
FARTHEST: Final = timedelta(days=2)
"""Farthest next check. Pluggy collects at least every 24 hours.

A later promise (the year 9999) so does not disable the check.
"""
NO_DIFFERENCE: Final = timedelta(minutes=1)
"""Pluggy's times are whole seconds: a smaller difference than this is not written."""
COLLECTED: Final = ("accounts", "transactions", "investments", "loans", "identities")
OPEN: Final = ("pending", "walking")


async def note_missed(
    session: SyncSession, item: Item | Gone | NotRead, item_state: ItemState
) -> None:
    """Record a collection that the check found before any webhook. Raises LeaseLost."""
    if not isinstance(item, Item) or item.last_updated_at is None:
        return
    alarmed = any(event.event == "sync/missed-webhook-check" for event in item_state.events)
    if not alarmed or not collected_unread(item, item_state, session.products):
        return
    # Never a time in the future: it may be beyond the calendar.
    age = max(timedelta(0), (session.pluggy.pluggy_now or session.now) - item.last_updated_at)
    async with session.page() as conn:
        await reconciliation.note_missed_webhook(
            conn,
            session.item_id,
            source_updated_at=item.last_updated_at,
            collected_at=session.now - age,
        )
    log.warning("collection_unannounced", collected_at=item.last_updated_at.isoformat())


async def expect_collection(
    session: SyncSession, item: Item | Gone | NotRead, item_state: ItemState, settled: SyncPlan
) -> None:
    """Have the settlement schedule the next missed-webhook check; of an item that is gone, none."""
    if isinstance(item, Gone) and item_state.item_deleted:
        token = session.lease.token
        await reconciliation.delete_reconciliations(session.db, session.item_id, token=token)
    before = item_state.webhook_check_at
    if not isinstance(item, Item) or (session.pluggy.pluggy_now is None and before is not None):
        return  # nothing was asked, so nothing new is known
    responsible = any(
        settled.outcomes[event.id].state in OPEN
        for event in item_state.events
        if event.event not in TRANSACTION_EVENTS
    )
    unannounced = not responsible and collected_unread(item, item_state, session.products)
    # Nothing is scheduled if the claim that has fetched the item was not settled.
    pluggy_now = session.pluggy.pluggy_now or session.now
    webhook_check_at = next_recheck(
        item, now=session.now, pluggy_now=pluggy_now, unannounced=unannounced
    )
    if webhook_check_at is None or before is None or abs(webhook_check_at - before) > NO_DIFFERENCE:
        session.sets_webhook_check, session.webhook_check_at = True, webhook_check_at


def expect_verify(session: SyncSession, item_state: ItemState) -> None:
    """Have the settlement see to it that an item that could not be fetched is verified weekly.

    The claim that stored it may not have been settled: then it has no schedule.
    """
    is_live = item_state.item is not None and not item_state.item_deleted
    if is_live and item_state.webhook_check_at is None:
        session.sets_webhook_check, session.webhook_check_at = True, None


def next_recheck(
    item: Item, *, now: datetime, pluggy_now: datetime, unannounced: bool
) -> datetime | None:
    """The next missed-webhook check by our clock, soon after the collection that Pluggy promises.

    None: it promises none. If that time has passed and nothing was collected: after a pause that
    doubles from an hour to a day. If something was collected and only transactions/* announced it,
    item/updated is expected soon.
    """
    if unannounced:
        return now + ALARM_AFTER
    promise = _promise(item)
    if promise is None:
        return None
    promised_at, margin = promise
    overdue = pluggy_now - margin - promised_at
    if overdue < timedelta(0):
        return now + min(-overdue, FARTHEST)
    return now + min(MAX_PAUSE, FIRST_PAUSE + overdue)


def _promise(item: Item) -> tuple[datetime, timedelta] | None:
    """A time of Pluggy's, and how long after it a collection is over; None: no collection comes.

    Items of MeuPluggy are collected daily, also those that show no time for the next collection.
    """
    if item.auto_sync_disabled:
        return None
    if item.next_auto_sync_at is not None:
        return item.next_auto_sync_at, ALARM_AFTER
    if item.connector_id == MEU_PLUGGY and item.last_updated_at is not None:
        return item.last_updated_at, MEU_PLUGGY_INTERVAL
    return None


def collected_unread(item: Item, item_state: ItemState, products: Collection[str]) -> bool:
    """Whether Pluggy has collected something since our last read; dead steps do not count."""
    return any(
        _is_ours(step, item_state, products)
        and is_later(item.source_updated_at(step.product), step)
        for step in item_state.steps.values()
    )


def _is_ours(step: Step, item_state: ItemState, products: Collection[str]) -> bool:
    known = step.complete_read_at is not None and step.dead_at is None
    live = step.scope_id == WHOLE_ITEM or step.scope_id in item_state.live_accounts
    wanted = step.product in products and step.product not in item_state.parked
    return known and live and wanted and step.product in COLLECTED
