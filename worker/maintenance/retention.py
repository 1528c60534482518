"""Retention: deletes settled events, runs and other records of the past after RETENTION_DAYS."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import structlog

from worker.infra.postgres import Pool
from worker.store import reconciliation, retention

log = structlog.get_logger()

RUN_INTERVAL: Final = timedelta(minutes=5)
PORTION: Final = 2000
"""Rows per statement: its locks and writes stay small, however many rows are old."""
WORK_TIMEOUT_S: Final = 5.0

DELETE_EXPIRED: Final = {
    "webhook_events": retention.delete_expired_webhook_events,
    "delivery_counts": retention.delete_expired_delivery_counts,
    "rejected_rows": retention.delete_expired_rejected_rows,
    "contract_drift": retention.delete_expired_contract_drift,
    "missed_webhooks": retention.delete_expired_missed_webhooks,
    "drift": retention.delete_expired_drift,
    "walk_pages": retention.delete_expired_walk_pages,
}


async def delete_expired(db: Pool, keep: timedelta) -> bool:
    """Delete expired rows for a bounded time; returns whether this worker had the lease to do so.

    Errors: those of a Postgres that is away; nothing is lost by stopping anywhere.
    """
    if not await reconciliation.take_periodic_task_lease(db, name="retention", pause=RUN_INTERVAL):
        return False
    ends = time.monotonic() + WORK_TIMEOUT_S
    for table in DELETE_EXPIRED:
        await _delete_expired(db, table, keep, ends)
    while time.monotonic() < ends and await retention.delete_expired_runs(
        db, retention=keep, limit=PORTION
    ):
        pass
    await reconciliation.end_periodic_task(db, name="retention", failure_code=None)
    return True


async def _delete_expired(db: Pool, table: str, keep: timedelta, ends: float) -> None:
    """Delete a table's expired rows, until none is left or time is up."""
    rows = PORTION
    while rows == PORTION and time.monotonic() < ends:
        rows = await DELETE_EXPIRED[table](db, retention=keep, limit=PORTION)
        if rows:
            log.info("expired_rows_deleted", table=table, rows=rows)
