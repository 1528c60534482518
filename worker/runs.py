"""Runs that are one transaction: opened, filled and closed before anyone can see any of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from worker.claim import RUN_SEQ_LOCK, Counts
from worker.database import Connection
from worker.queries import QUERIES


@dataclass(slots=True)
class OwnRun:
    """The run that the writes of a transaction name; counts and plan are stored when it ends."""

    id: int
    counts: Counts = field(default_factory=Counts)
    api_requests: int = 0
    plan: list[str] = field(default_factory=list)


@asynccontextmanager
async def run_of_its_own(
    conn: Connection, kind: str, *, item_id: uuid.UUID | None = None, event_ids: Sequence[int] = ()
) -> AsyncIterator[OwnRun]:
    """Open a run in the caller's transaction and close it as its last act.

    Whoever is killed in between leaves nothing behind, so no such run is ever lost. The place in
    the feed is taken last: its lock lets one transaction commit at a time.
    """
    run = OwnRun(await conn.fetchval(QUERIES["open_run"], item_id, kind, list(event_ids)))
    yield run
    c = run.counts
    await conn.execute(
        QUERIES["close_run"],
        run.id,
        "done",
        c.seen,
        c.inserted,
        c.changed,
        c.deleted,
        c.unchanged,
        c.older_skipped,
        c.rejected,
        run.api_requests,
        json.dumps(run.plan),
        RUN_SEQ_LOCK,
    )
