"""Retention: deletes settled events, runs and other records of the past after RETENTION_DAYS."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import structlog

from worker.infra.postgres import Pool, rows_written
from worker.infra.queries import QUERIES

log = structlog.get_logger()

RUN_INTERVAL: Final = timedelta(minutes=5)
PORTION: Final = 2000
"""Rows per statement: its locks and writes stay small, however many rows are old."""
WORK_TIMEOUT_S: Final = 5.0

TABLES: Final = (
    "webhook_events",
    "delivery_counts",
    "rejected_rows",
    "contract_drift",
    "missed_webhooks",
    "drift",
    "walk_pages",
)


async def delete_expired(db: Pool, keep: timedelta) -> bool:
    """Delete expired rows for a bounded time; returns whether this worker had the lease to do so.

    Errors: those of a Postgres that is away; nothing is lost by stopping anywhere.
    """
    if not await db.fetchval(QUERIES["take_periodic_task_lease"], "retention", RUN_INTERVAL):
        return False
    ends = time.monotonic() + WORK_TIMEOUT_S
    for table in TABLES:
        await _delete_expired(db, table, keep, ends)
    while time.monotonic() < ends and await db.fetchval(
        QUERIES["delete_expired_runs"], keep, PORTION
    ):
        pass
    await db.execute(QUERIES["end_periodic_task"], "retention", None)
    return True


async def _delete_expired(db: Pool, table: str, keep: timedelta, ends: float) -> None:
    """Delete a table's expired rows, until none is left or time is up."""
    rows = PORTION
    while rows == PORTION and time.monotonic() < ends:
        rows = rows_written(await db.execute(QUERIES[f"delete_expired_{table}"], keep, PORTION))
        if rows:
            log.info("expired_rows_deleted", table=table, rows=rows)
