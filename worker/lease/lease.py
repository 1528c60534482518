"""The lease on an item, the fence that every write checks, and the run that every write names."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from worker.infra.lanes import Lane
from worker.infra.metrics import ROWS
from worker.infra.postgres import Connection, Pool
from worker.planner.freshness import latest_by
from worker.pluggy_api.endpoints import PluggyReader
from worker.store import reconciliation, runs
from worker.store.lease import fence

LEASE: Final = timedelta(seconds=30)
RUN_SEQ_LOCK: Final = 0x70_6C_75_67_01
"""Advisory lock under which runs get their place in the feed."""


class LeaseLost(Exception):
    """The lease is another worker's: this claim may write nothing any more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write an item; probe: taken as a probe while everything is halted."""

    item_id: uuid.UUID
    token: uuid.UUID
    lane: Lane
    probe: bool = False


@dataclass(slots=True)
class Counts:
    """Counts of a run's effect on rows of schema pluggy."""

    seen: int = 0
    inserted: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    older_skipped: int = 0
    rejected: int = 0
    mapped_again: int = 0
    """Changed rows that Pluggy has not changed: written by a newer mapper, or for a mark of ours.
    """

    @property
    def changes(self) -> tuple[int, int, int]:
        """Rows inserted, changed and deleted because Pluggy's differ."""
        return self.inserted, max(0, self.changed - self.mapped_again), self.deleted


@dataclass(slots=True)
class SyncSession:
    """The context of a step. now is Postgres's clock, as of the last statement that returned it.

    read_seq is the position of this claim's reads in the order of events and reads, drawn with its
    first plan: they answer all events that became pending before.
    """

    db: Pool
    pluggy: PluggyReader
    lease: Lease
    now: datetime
    zone: ZoneInfo
    products: tuple[str, ...]
    generation: int = 0
    read_seq: int | None = None
    run_id: int | None = None
    counts: Counts = field(default_factory=Counts)
    steps: list[str] = field(default_factory=list)
    deferred: set[tuple[str, uuid.UUID]] = field(default_factory=set)
    drift_of: tuple[str, uuid.UUID] | None = None
    """Product and account that a verify reads now: a row that it changes proves a lost webhook."""

    @property
    def item_id(self) -> uuid.UUID:
        return self.lease.item_id

    @property
    def latest(self) -> datetime:
        """The latest time that Pluggy can report now, by Postgres's clock and by Pluggy's own."""
        return latest_by(self.now, self.pluggy.pluggy_now or self.now)

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Connection]:
        """A transaction that may write, opened by the fence. Raises LeaseLost."""
        async with self.db.acquire() as conn, conn.transaction():
            await self.fence(conn)
            before = self.counts.changes
            yield conn
            await self._note_drift(conn, before)

    async def _note_drift(self, conn: Connection, before: tuple[int, int, int]) -> None:
        found = [now - then for now, then in zip(self.counts.changes, before, strict=True)]
        if self.drift_of is not None and any(found):
            product, scope_id = self.drift_of
            inserted, changed, deleted = found
            await reconciliation.note_drift(
                conn,
                run_id=self.run,
                product=product,
                scope_id=scope_id,
                item_id=self.item_id,
                inserted=inserted,
                changed=changed,
                deleted=deleted,
            )

    async def fence(self, conn: Connection) -> None:
        """Check, lock and renew the lease in one statement. Raises LeaseLost."""
        row = await fence(conn, item_id=self.lease.item_id, token=self.lease.token, lease_for=LEASE)
        if row is None:
            raise LeaseLost
        self.now = row.now
        self.generation = row.generation

    async def renew(self) -> None:
        """Renew the lease between two pages that are stored together. Raises LeaseLost."""
        async with self.page():
            pass  # the fence is all of it

    @property
    def run(self) -> int:
        """The run that is open. Every write to schema pluggy names it."""
        if self.run_id is None:
            raise RuntimeError("a write without a run")
        return self.run_id

    async def open_run(self, kind: str, event_ids: Sequence[int] = ()) -> None:
        """Open a run for the writes that follow; kind is `sync` or `walk`. Raises LeaseLost.

        Under the fence: the next claim has closed the lost runs once and would not see this one.
        """
        self.counts = Counts()
        self.pluggy.requests = 0
        self.steps = []
        self.drift_of = None
        async with self.page() as conn:
            self.run_id = await runs.open_run(
                conn, item_id=self.item_id, kind=kind, event_ids=list(event_ids)
            )

    async def close_run(self, outcome: str) -> None:
        """Close the run, which gives it its place in the feed.

        Before the item is settled: a run left open while its item rests would never be closed.
        """
        if self.run_id is None:
            return
        counts, requests = self.counts, self.pluggy.requests
        await close_run_in_order(self.db, self.run_id, outcome, counts, requests, self.steps)
        for change in ("inserted", "changed", "deleted", "unchanged", "older_skipped", "rejected"):
            ROWS.labels(change=change).inc(getattr(counts, change))
        self.run_id = None


async def close_run_in_order(
    db: Pool | Connection,
    run_id: int,
    outcome: str,
    c: Counts,
    api_requests: int,
    plan: Sequence[str],
) -> None:
    """Store a run's counts and close it: with the commit it has its place in the feed."""
    await runs.close_run(
        db,
        run_id=run_id,
        outcome=outcome,
        seen=c.seen,
        inserted=c.inserted,
        changed=c.changed,
        deleted=c.deleted,
        unchanged=c.unchanged,
        older_skipped=c.older_skipped,
        rejected=c.rejected,
        api_requests=api_requests,
        plan=json.dumps(plan),
        lock=RUN_SEQ_LOCK,
    )


async def close_lost_runs(db: Pool, item_id: uuid.UUID) -> int:
    """Close runs that a dead or fenced worker left open; returns how many."""
    if not await runs.has_open_runs(db, item_id=item_id):
        return 0
    return len(await runs.close_lost_runs(db, item_id=item_id, lock=RUN_SEQ_LOCK))
