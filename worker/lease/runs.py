"""Runs: every write names one; its counts and plan are stored when it is closed."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

from worker.infra.postgres import Connection, Pool
from worker.planner.state import WHOLE_ITEM
from worker.store import reconciliation, runs

RUN_SEQ_LOCK: Final = 0x70_6C_75_67_01
"""Advisory lock under which runs get their place in the feed."""


NOT_STORED: Final = frozenset({"mapped_again", "balances_alone"})


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

    balances_alone: int = 0
    """Changed accounts of which only a balance differs, which Pluggy may change at any time."""

    @property
    def changes(self) -> tuple[int, int, int]:
        """Rows inserted, changed and deleted in a way that an event should have announced."""
        explained = self.mapped_again + self.balances_alone
        return self.inserted, max(0, self.changed - explained), self.deleted

    @property
    def written(self) -> int:
        """Rows written, whatever the cause."""
        return self.inserted + self.changed + self.deleted

    @property
    def stored(self) -> dict[str, int]:
        """The counts that the run's row has, by its columns."""
        return {name: rows for name, rows in asdict(self).items() if name not in NOT_STORED}


@dataclass(slots=True)
class Run:
    """An open run: the steps taken for it, the requests made and the effect on rows.

    odd_request_id: Pluggy's id of the first request with an odd answer: unreadable rows, unknown
    fields, drift. drift_of: product and scope that a verify reads now; a row that it changes
    proves a lost webhook. reading: product and scope of the step whose turn it is. visible: by
    these, when the last rows that a page changed were committed, or a moment later. settles: events
    that it settles, if it was not opened for them.
    """

    id: int
    counts: Counts = field(default_factory=Counts)
    plan: list[str] = field(default_factory=list)
    api_requests: int = 0
    odd_request_id: str | None = None
    drift_of: tuple[str, uuid.UUID] | None = None
    reading: tuple[str, uuid.UUID] = ("items", WHOLE_ITEM)
    visible: dict[tuple[str, uuid.UUID], datetime] = field(default_factory=dict)
    settles: Sequence[int] | None = None

    @classmethod
    async def open(
        cls, conn: Connection, kind: str, item_id: uuid.UUID | None, event_ids: Sequence[int]
    ) -> Run:
        """Open a run, in the caller's transaction."""
        return cls(await runs.open_run(conn, item_id, kind=kind, event_ids=list(event_ids)))

    async def close(self, db: Pool | Connection, outcome: str) -> None:
        """Store what was counted and close it: with the commit it has its place in the feed."""
        await runs.close_run(db, run=self.closed_as(outcome), lock=RUN_SEQ_LOCK)

    def closed_as(self, outcome: str) -> str:
        """What the statement that closes the run stores, by columns, as JSON."""
        return json.dumps(
            {
                "id": self.id,
                "event_ids": self.settles,
                "outcome": outcome,
                **self.counts.stored,
                "api_requests": self.api_requests,
                "plan": self.plan,
                "error_id": self.odd_request_id,
            }
        )

    def note_odd(self, request_id: str | None) -> None:
        """Keep the id of a request whose answer was odd, though it was taken."""
        self.odd_request_id = self.odd_request_id or request_id

    @asynccontextmanager
    async def noting_drift(
        self, conn: Connection, item_id: uuid.UUID, request_id: str | None
    ) -> AsyncIterator[None]:
        """Record the changes that the block makes as drift, if a verify makes them.

        request_id: of the answer that they come from.
        """
        before = self.counts.changes
        yield
        inserted, changed, deleted = (
            now - then for now, then in zip(self.counts.changes, before, strict=True)
        )
        if self.drift_of is not None and (inserted or changed or deleted):
            product, scope_id = self.drift_of
            self.note_odd(request_id)
            await reconciliation.note_drift(
                conn,
                run_id=self.id,
                product=product,
                scope_id=scope_id,
                item_id=item_id,
                inserted=inserted,
                changed=changed,
                deleted=deleted,
            )


@asynccontextmanager
async def run_of_its_own(
    conn: Connection, kind: str, *, item_id: uuid.UUID | None = None, event_ids: Sequence[int] = ()
) -> AsyncIterator[Run]:
    """Open a run in the caller's transaction and close it as its last statement.

    A process killed in between leaves nothing behind, so no such run is ever lost. The place in the
    feed is taken last: its lock lets one transaction commit at a time.
    """
    run = await Run.open(conn, kind, item_id, event_ids)
    yield run
    await run.close(conn, "done")


async def close_lost_runs(db: Pool, item_id: uuid.UUID, token: uuid.UUID) -> int:
    """Close runs that a dead or fenced worker left open, if the lease holds; returns how many."""
    return len(await runs.close_lost_runs(db, item_id, token=token, lock=RUN_SEQ_LOCK))
