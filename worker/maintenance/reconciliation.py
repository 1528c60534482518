"""Periodic reconciliations that catch lost webhooks: each stores what is due as our own event."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from worker.inbox.accept import Accepted, UnstorableEvent, accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.lazy_log import LazyLog
from worker.infra.postgres import Pool
from worker.store import product_sync, reconciliation
from worker.store.rows import DueReconciliation

log = LazyLog()

RUN_INTERVAL: Final = timedelta(seconds=30)
BATCH: Final = 100
"""Items per reconciliation and run: after an outage of days thousands may be due at once."""


class LoadDue(Protocol):
    """A statement that loads the items that an event is due for."""

    def __call__(self, conn: Pool, /, *, limit: int) -> Awaitable[list[DueReconciliation]]: ...


class EndDue(Protocol):
    """A statement that says that the event of these items is ordered; due_ats: as loaded."""

    def __call__(
        self, conn: Pool, /, *, item_ids: Collection[uuid.UUID], due_ats: Collection[datetime]
    ) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """An event of our own, with the statements that load the items due for it and end that."""

    event: str
    load: LoadDue
    end: EndDue
    lane: Lane = Lane.RETRY


RECONCILIATIONS: Final = (
    Reconciliation(
        "sync/missed-webhook-check",
        reconciliation.load_due_webhook_checks,
        reconciliation.end_webhook_checks,
    ),
    Reconciliation(
        "sync/recent", reconciliation.load_due_recent_reads, reconciliation.end_recent_reads
    ),
    Reconciliation(
        "sync/verify", reconciliation.load_due_verifies, reconciliation.end_verifies, Lane.AUDIT
    ),
    Reconciliation(
        "sync/deletions", reconciliation.load_due_deletions, reconciliation.end_deletions
    ),
)
CONFIRMATIONS: Final = (
    Reconciliation(
        "sync/confirm", product_sync.load_due_confirmations, product_sync.end_confirmations
    ),
    Reconciliation("sync/confirm", product_sync.load_due_overlaps, product_sync.end_overlaps),
)
"""Second reads, because rows may show up late: of lists that were empty at first, and of the hour
before a walk or a long delta."""


async def run_reconciliations(db: Pool) -> bool:
    """Store what is due, if this worker gets the lease of the task; returns whether it did."""
    if not await reconciliation.take_periodic_task_lease(
        db, name="reconciliation", pause=RUN_INTERVAL
    ):
        return False
    await order_due(db)
    for record in await reconciliation.judge_missed_webhooks(db):
        if record.announced_at is None:
            log.warning("webhook_missed", item_id=str(record.item_id))
    await reconciliation.end_periodic_task(db, name="reconciliation", failure_code=None)
    return True


async def order_confirmations(db: Pool) -> bool:
    """Store events for the confirmations that are due; returns whether there may be more."""
    return await order_due(db, CONFIRMATIONS) > 0


async def order_due(db: Pool, kinds: Sequence[Reconciliation] = RECONCILIATIONS) -> int:
    """Store what is due of each kind; returns how many events are new.

    Two workers at once store one event, because its id names the due time.
    """
    return sum([await _order(db, kind) for kind in kinds])


async def order_verify(
    db: Pool,
    item_ids: Sequence[uuid.UUID],
    *,
    order_id: str | None = None,
    event: str = "sync/verify",
    lane: Lane = Lane.AUDIT,
    timeout_s: float = 15.0,
) -> list[Accepted | UnstorableEvent]:
    """Order a verify of items, in the lowest lane, or another read; answers in the order given.

    An item that is not mirrored yet is registered by it. A repeated order_id orders nothing again.
    """
    now = datetime.now(UTC)
    events = [
        own_event(
            event,
            item_id,
            lane=lane,
            now=now,
            event_id=order_id and event_id_of(order_id, item_id),
        )
        for item_id in item_ids
    ]
    return await accept_events(db, events, timeout_s=timeout_s) if events else []


def event_id_of(order_id: str, item_id: uuid.UUID) -> str:
    """The id of the event with which an order verifies an item."""
    return f"{order_id}:{item_id}"


async def _order(db: Pool, kind: Reconciliation) -> int:
    due = await kind.load(db, limit=BATCH)
    if not due:
        return 0
    name, now = kind.event.removeprefix("sync/"), datetime.now(UTC)
    events = [
        own_event(
            kind.event,
            record.item_id,
            lane=kind.lane,
            now=now,
            event_id=f"{name}:{record.item_id}:{record.due_at.isoformat()}",
        )
        for record in due
        if record.readable
    ]
    answers = await accept_events(db, events) if events else []
    # Last, so that a crash repeats an order instead of losing it.
    await kind.end(
        db, item_ids=[record.item_id for record in due], due_ats=[record.due_at for record in due]
    )
    ordered = sum(isinstance(answer, Accepted) and answer.is_new for answer in answers)
    log.info("reconciliations_ordered", event_name=kind.event, due=len(due), ordered=ordered)
    return ordered
