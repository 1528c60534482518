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

OF_THEIR_OWN: Final = {
    "webhook_events": retention.delete_expired_webhook_events,
    "walk_pages": retention.delete_expired_walk_pages,
}
TIME_OF: Final = {
    "delivery_counts": "minute",
    # A row that is still rejected gets a new time by the verify of each week.
    "rejected_rows": "rejected_at",
    "contract_drift": "last_seen_at",
    # Null until it is judged.
    "missed_webhooks": "judged_at",
    "drift": "found_at",
}
"""Tables whose rows expire by one time."""
TABLES: Final = (*OF_THEIR_OWN, *TIME_OF)


async def delete_expired(db: Pool, keep: timedelta) -> bool:
    """Delete expired rows for a bounded time; returns whether this worker had the lease to do so.

    Errors: those of a Postgres that is away; nothing is lost by stopping anywhere.
    """
    if not await reconciliation.take_periodic_task_lease(db, name="retention", pause=RUN_INTERVAL):
        return False
    ends = time.monotonic() + WORK_TIMEOUT_S
    for table in TABLES:
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
        rows = await _delete_batch(db, table, keep)
        if rows:
            log.info("expired_rows_deleted", table=table, rows=rows)


async def _delete_batch(db: Pool, table: str, keep: timedelta) -> int:
    if table in OF_THEIR_OWN:
        return await OF_THEIR_OWN[table](db, retention=keep, limit=PORTION)
    return await retention.delete_expired_rows(
        db, table=f"pluggy_sync.{table}", time_column=TIME_OF[table], retention=keep, limit=PORTION
    )
