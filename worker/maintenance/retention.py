"""Retention: what tells only how things came about is kept for RETENTION_DAYS, then it goes."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import structlog

from worker.infra.postgres import Pool, rows_written
from worker.infra.queries import QUERIES

log = structlog.get_logger()

TURN_EVERY: Final = timedelta(minutes=5)
PORTION: Final = 2000
"""Rows a statement: what it locks and writes stays small, however much is old."""
WORK_FOR_S: Final = 5.0

TABLES: Final = (
    "webhook_events",
    "delivery_counts",
    "rejected_rows",
    "contract_drift",
    "missed_webhooks",
    "drift",
    "walk_pages",
)


async def forget_old(db: Pool, keep: timedelta) -> bool:
    """Forget a bounded time long, if it is this worker's turn; returns whether it was.

    Errors: those of a Postgres that is away; nothing is lost by stopping anywhere.
    """
    if not await db.fetchval(QUERIES["take_turn"], "retention", TURN_EVERY):
        return False
    ends = time.monotonic() + WORK_FOR_S
    for table in TABLES:
        await _forget(db, table, keep, ends)
    while time.monotonic() < ends and await db.fetchval(QUERIES["forget_runs"], keep, PORTION):
        pass
    await db.execute(QUERIES["end_turn"], "retention", None)
    return True


async def _forget(db: Pool, table: str, keep: timedelta, ends: float) -> None:
    """A table's share: until nothing is left that is old, or the time is up."""
    rows = PORTION
    while rows == PORTION and time.monotonic() < ends:
        rows = rows_written(await db.execute(QUERIES[f"forget_{table}"], keep, PORTION))
        if rows:
            log.info("forgotten", table=table, rows=rows)
