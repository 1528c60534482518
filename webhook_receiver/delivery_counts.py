"""Count deliveries by minute, event and answer. A crash loses at most ten seconds of counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter as Metric

from worker.infra.postgres import Pool, connection_within
from worker.store.deliveries import add_delivery_counts

log = structlog.get_logger()

FLUSH_INTERVAL_S: Final = 10.0
FLUSH_TIMEOUT_S: Final = 3.0
DISTINCT_EVENTS: Final = 200
OTHER: Final = "other"

REFUSED: Final = ("unauthorized", "encoded", "too_large", "slow_body", "malformed", "unstorable")
"""Answers that refuse a delivery with a 4xx."""
LOG_INTERVAL_S: Final = 60.0

DELIVERIES = Metric("pluggy_sync_deliveries", "Webhook deliveries by answer", ["answer"])


class DeliveryCounts:
    """Counts answers; event names beyond DISTINCT_EVENTS are counted as `other`."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str, str]] = Counter()
        self._names: set[str] = set()
        self._metrics: dict[str, Metric] = {}
        self._refused: Counter[str] = Counter()
        self._logged_at = -LOG_INTERVAL_S

    def add(self, event: str, answer: str) -> None:
        """Count one answer: accepted, duplicate, kept, malformed, unauthorized, too_large …"""
        if event not in self._names:
            if len(self._names) >= DISTINCT_EVENTS:
                event = OTHER
            self._names.add(event)
        self._counts[int(time.time()) // 60, event, answer] += 1
        if answer not in self._metrics:
            self._metrics[answer] = DELIVERIES.labels(answer=answer)
        self._metrics[answer].inc()
        if answer in REFUSED:
            self._refused[answer] += 1

    async def run(self, db: Pool) -> None:
        """Flush periodically until cancelled, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(FLUSH_INTERVAL_S)
                self.log_refused()
                await self.flush(db)
        finally:
            self._logged_at = -LOG_INTERVAL_S
            self.log_refused()
            await self.flush(db)

    def log_refused(self) -> None:
        """Log the refused deliveries with the count of each kind, at most once a minute."""
        if not self._refused or time.monotonic() - self._logged_at < LOG_INTERVAL_S:
            return
        refused, self._refused = self._refused, Counter()
        self._logged_at = time.monotonic()
        log.warning("deliveries_refused", count=refused.total(), **refused)

    async def flush(self, db: Pool) -> None:
        """Add the counts to the table; kept for the next flush if Postgres is away."""
        counted, self._counts = self._counts, Counter()
        if not counted:
            return
        keys = sorted(counted)
        try:
            async with connection_within(db, FLUSH_TIMEOUT_S) as conn:
                await add_delivery_counts(
                    conn,
                    minutes=[datetime.fromtimestamp(minute * 60, UTC) for minute, _, _ in keys],
                    events=[event for _, event, _ in keys],
                    answers=[answer for _, _, answer in keys],
                    deliveries=[counted[key] for key in keys],
                )
        except Exception as error:
            log.warning("counts_kept", error=type(error).__name__)
            self._counts.update(counted)
