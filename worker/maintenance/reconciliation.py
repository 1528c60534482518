"""Periodic reconciliations that catch lost webhooks: each stores what is due as our own event."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from worker.inbox.accept import Accepted, UnstorableEvent, accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.infra.queries import QUERIES

log = structlog.get_logger()

RUN_INTERVAL: Final = timedelta(seconds=30)
BATCH: Final = 100
"""Items per reconciliation and run: after an outage of days thousands may be due at once."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """An event of our own, with the queries that load items due for it and end their due time."""

    event: str
    lane: Lane
    load: str
    end: str


RECONCILIATIONS: Final = (
    Reconciliation("sync/silence", Lane.RETRY, "load_due_silence_checks", "end_silence_checks"),
    Reconciliation("sync/recent", Lane.RETRY, "load_due_recent_reads", "end_recent_reads"),
    Reconciliation("sync/verify", Lane.AUDIT, "load_due_verifies", "end_verifies"),
    Reconciliation("sync/deletions", Lane.RETRY, "load_due_deletions", "end_deletions"),
)


async def run_reconciliations(db: Pool) -> bool:
    """Store what is due, if this worker gets the lease of the task; returns whether it did."""
    if not await db.fetchval(QUERIES["take_periodic_task_lease"], "reconciliation", RUN_INTERVAL):
        return False
    await order_due(db)
    for record in await db.fetch(QUERIES["judge_missed_webhooks"]):
        if record["announced_at"] is None:
            log.warning("webhook_missed", item_id=str(record["item_id"]))
    await db.execute(QUERIES["end_periodic_task"], "reconciliation", None)
    return True


async def order_due(db: Pool) -> int:
    """Store what is due of every reconciliation; returns how many events are new.

    Two workers at once store one event, because its id names the due time.
    """
    return sum(
        [await order_reconciliation(db, reconciliation) for reconciliation in RECONCILIATIONS]
    )


async def order_verify(
    db: Pool,
    item_ids: Sequence[uuid.UUID],
    *,
    order_id: str | None = None,
    timeout_s: float = 15.0,
) -> list[Accepted | UnstorableEvent]:
    """Order a verify of items, in the lowest lane; answers in the order given.

    An item that is not mirrored yet is registered by it. A repeated order_id orders nothing again.
    """
    now = datetime.now(UTC)
    events = [
        own_event(
            "sync/verify",
            item_id,
            lane=Lane.AUDIT,
            now=now,
            event_id=order_id and event_id_of(order_id, item_id),
        )
        for item_id in item_ids
    ]
    return await accept_events(db, events, timeout_s=timeout_s) if events else []


def event_id_of(order_id: str, item_id: uuid.UUID) -> str:
    """The id of the event with which an order verifies an item."""
    return f"{order_id}:{item_id}"


async def order_reconciliation(db: Pool, reconciliation: Reconciliation) -> int:
    """Store what is due of one reconciliation; returns how many events are new."""
    due = await db.fetch(QUERIES[reconciliation.load], BATCH)
    if not due:
        return 0
    name, now = reconciliation.event.removeprefix("sync/"), datetime.now(UTC)
    events = [
        own_event(
            reconciliation.event,
            record["item_id"],
            lane=reconciliation.lane,
            now=now,
            event_id=f"{name}:{record['item_id']}:{record['due_at'].isoformat()}",
        )
        for record in due
        if record["readable"]
    ]
    answers = await accept_events(db, events) if events else []
    # Last, so that a crash repeats an order instead of losing it.
    await db.execute(QUERIES[reconciliation.end], [record["item_id"] for record in due])
    ordered = sum(isinstance(answer, Accepted) and answer.is_new for answer in answers)
    log.info(
        "reconciliations_ordered", event_name=reconciliation.event, due=len(due), ordered=ordered
    )
    return ordered
