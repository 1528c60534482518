"""Runs of a single transaction: opened, filled and closed in it, so none is ever left open."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from worker.infra.postgres import Connection
from worker.lease.lease import Counts, close_run_in_order
from worker.store import runs


@dataclass(slots=True)
class OwnRun:
    """The run that a transaction's writes name; its counts and plan are stored when it ends."""

    id: int
    counts: Counts = field(default_factory=Counts)
    api_requests: int = 0
    plan: list[str] = field(default_factory=list)


@asynccontextmanager
async def run_of_its_own(
    conn: Connection, kind: str, *, item_id: uuid.UUID | None = None, event_ids: Sequence[int] = ()
) -> AsyncIterator[OwnRun]:
    """Open a run in the caller's transaction and close it as its last statement.

    A process killed in between leaves nothing behind, so no such run is ever lost. The place in the
    feed is taken last: its lock lets one transaction commit at a time.
    """
    run = OwnRun(await runs.open_run(conn, item_id=item_id, kind=kind, event_ids=list(event_ids)))
    yield run
    await close_run_in_order(conn, run.id, "done", run.counts, run.api_requests, run.plan)
