"""The lease on an item, and the session that holds it: every page it writes begins at the fence."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

from worker.infra.lanes import Lane
from worker.infra.metrics import ROWS
from worker.infra.postgres import Connection, Pool
from worker.lease.runs import Run
from worker.planner.freshness import latest_by
from worker.pluggy_api.endpoints import PluggyReader
from worker.store.lease import fence
from worker.store.runs import open_run_of_lease

LEASE: Final = timedelta(seconds=30)


class LeaseLost(Exception):
    """The claim has ended, mostly for another worker: it may write nothing any more."""


class Renewal(Protocol):
    """The time and the item's generation, as of a statement that has renewed the lease."""

    @property
    def now(self) -> datetime: ...

    @property
    def generation(self) -> int: ...


AnyRenewal = TypeVar("AnyRenewal", bound=Renewal)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write an item. now: Postgres's clock at the claim.

    has_open_runs: the last holder has left runs open. probe: taken as a probe while everything is
    halted.
    """

    item_id: uuid.UUID
    token: uuid.UUID
    lane: Lane
    now: datetime
    has_open_runs: bool = True
    probe: bool = False


@dataclass(slots=True)
class SyncSession:
    """The context of a step. now is Postgres's clock, as of the last statement that returned it.

    read_seq is the position of this claim's reads in the order of events and reads, drawn with its
    first plan: they answer all events that became pending before. has_rejected and has_absent are
    as of the last plan or fence: rows of the item are set aside; a walk of it asks for rows by id.
    tombstoned: accounts and others found gone; what is known of their rows is older than that.
    sets_webhook_check: the settlement stores the time of the next missed-webhook check.
    savepoints: a row that Postgres refuses takes only itself out of its page; see store_rows.py.
    """

    db: Pool
    pluggy: PluggyReader
    lease: Lease
    now: datetime
    zone: ZoneInfo
    products: tuple[str, ...]
    generation: int = 0
    read_seq: int | None = None
    has_rejected: bool = True
    has_absent: bool = True
    deferred: set[tuple[str, uuid.UUID]] = field(default_factory=set)
    tombstoned: set[uuid.UUID] = field(default_factory=set)
    savepoints: bool = True
    sets_webhook_check: bool = False
    webhook_check_at: datetime | None = None
    _run: Run | None = None

    @property
    def item_id(self) -> uuid.UUID:
        return self.lease.item_id

    @property
    def latest(self) -> datetime:
        """The latest time that Pluggy can report now, by Postgres's clock and by Pluggy's own."""
        return latest_by(self.now, self.pluggy.pluggy_now or self.now)

    @asynccontextmanager
    async def page(
        self, *, fence: Callable[[Connection], Awaitable[None]] | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction that may write, opened by the fence. Raises LeaseLost.

        fence: another first statement that checks and renews the lease.
        """
        written = self._run.counts.written if self._run else 0
        async with self.db.acquire() as conn, conn.transaction():
            asked_at = monotonic()
            await (fence or self.fence)(conn)
            fenced_at = self.now
            request_id = self.pluggy.request_id
            async with (
                self._run.noting_drift(conn, self.item_id, request_id)
                if self._run
                else nullcontext()
            ):
                yield conn
        if self._run and self._run.counts.written > written:
            # Postgres's clock at the fence, and since the fence was sent: not before the commit.
            self._run.visible[self._run.reading] = fenced_at + timedelta(
                seconds=monotonic() - asked_at
            )

    async def fence(self, conn: Connection) -> None:
        """Check, lock and renew the lease in one statement. Raises LeaseLost."""
        fenced = await fence(conn, self.lease.item_id, token=self.lease.token, lease_for=LEASE)
        row = self.note_renewed(fenced)
        self.has_rejected, self.has_absent = row.has_rejected, row.has_absent

    def note_renewed(self, row: AnyRenewal | None) -> AnyRenewal:
        """Note what a statement returned that checks and renews the lease. Raises LeaseLost."""
        if row is None:
            raise LeaseLost
        self.now, self.generation = row.now, row.generation
        return row

    async def renew(self) -> None:
        """Renew the lease between two pages that are stored together. Raises LeaseLost."""
        async with self.page():
            pass  # the fence is all of it

    @property
    def run(self) -> Run:
        """The run that is open. Every write to schema pluggy names it."""
        if self._run is None:
            raise RuntimeError("a write without a run")
        return self._run

    async def open_run(self, kind: str, event_ids: Sequence[int] = ()) -> Run:
        """Open a run for the writes that follow; kind is `sync` or `walk`. Raises LeaseLost.

        Under the fence: the next claim has closed the lost runs once and would not see this one.
        """
        row = await open_run_of_lease(
            self.db,
            self.item_id,
            token=self.lease.token,
            lease_for=LEASE,
            kind=kind,
            event_ids=list(event_ids),
        )
        return self.resume_run(self.note_renewed(row).id)

    def resume_run(self, run_id: int) -> Run:
        """Go on with a run that a statement under the lease has just opened."""
        self.pluggy.requests, self._run = 0, Run(run_id)
        return self._run

    def run_to_close(self) -> Run | None:
        """The open run, its requests counted; None: no run is open."""
        if self._run is not None:
            self._run.api_requests = self.pluggy.requests
        return self._run

    def note_run_closed(self) -> None:
        """Count the rows of the run, which a statement has just closed."""
        if self._run is None:
            return
        for change, rows in self._run.counts.stored.items():
            if change != "seen":
                ROWS.labels(change=change).inc(rows)
        self._run = None

    async def close_run(self, outcome: str) -> None:
        """Close the run of a claim that ends without a settlement: settle() closes it otherwise.

        A run left open while its item rests would never be closed.
        """
        if (run := self.run_to_close()) is not None:
            await run.close(self.db, outcome)
            self.note_run_closed()
