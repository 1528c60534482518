"""The read barrier: one poll for all waits together, on one connection to Postgres."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import asyncpg
import msgspec
from prometheus_client import Counter, Gauge

from worker.infra.outage_log import ServerOutage
from worker.infra.postgres import POSTGRES_AWAY, Connection, Pool, connection_within
from worker.store import waits
from worker.store.waits import ItemFreshness, WaitState

POLL_INTERVAL_S: Final = 0.02
"""At least; and not less than half of what the last poll took, so that slow polls leave Postgres
some time."""
RETRY_INTERVAL_S: Final = 0.25
POLL_TIMEOUT_S: Final = 2.0
GRACE_S: Final = 3 * POLL_TIMEOUT_S
"""After its time-out a wait ends with the next poll, or without one after this."""
MAX_MISSING: Final = 50
OTHER_CONNECTIONS: Final = 100
"""Of clients that do not wait: waits never keep probes, metrics and pages out."""
WAITING: Final = Gauge("pluggy_sync_waits", "Waits for items (read barrier) under way")
POLLS: Final = Counter("pluggy_sync_wait_polls", "Polls for all waits together")
ENDED: Final = Counter("pluggy_sync_waits_ended", "Waits that ended, by outcome", ["outcome"])


class Outcome(StrEnum):
    """How a wait ends."""

    READY = "ready"
    INCOMPLETE = "incomplete"
    DELETED = "deleted"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Result:
    """freshness: of an item that is ready; missing: what an incomplete one still waits for."""

    outcome: Outcome
    freshness: Sequence[ItemFreshness] = ()
    missing: Sequence[dict[str, Any]] = ()


@dataclass(eq=False, slots=True)
class Wait:
    """One wait: for all that is known of an item as it begins, for the event of an id, or for
    complete reads that started after `since`."""

    item_id: uuid.UUID
    deadline: float
    event_id: str | None = None
    since: datetime | None = None
    open_events: Sequence[int] | None = None
    """Ids of its events that were open as it began; None: it has not begun."""
    result: asyncio.Future[Result] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, outcome: Outcome, **found: Any) -> None:
        """Give the result; the first one counts."""
        if not self.result.done():
            self.result.set_result(Result(outcome, **found))


class Barrier:
    """All waits of this process. run() polls as long as there are any.

    db: a pool of its own, of one connection. transactions: whether they are mirrored (PRODUCTS).
    connections: how many clients the server takes.
    """

    def __init__(self, db: Pool, *, connections: int, transactions: bool = True) -> None:
        self._db = db
        self._max_waits = max(1, connections - OTHER_CONNECTIONS)
        self._transactions = transactions
        self._waits: set[Wait] = set()
        self._wanted = asyncio.Event()
        self._outage = ServerOutage("postgres")
        self._closed = False

    async def wait(
        self,
        item_id: uuid.UUID,
        *,
        timeout_s: float,
        event_id: str | None = None,
        since: datetime | None = None,
    ) -> Result:
        """Wait until the item is ready, or until the time-out. A cancelled call leaves nothing."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        wait = Wait(item_id, deadline, event_id, since)
        if self._closed:
            wait.end(Outcome.STOPPING)
        elif len(self._waits) >= self._max_waits:
            wait.end(Outcome.TOO_MANY)
        self._waits.add(wait)
        self._wanted.set()
        try:
            with WAITING.track_inprogress():
                async with asyncio.timeout_at(deadline + GRACE_S):
                    result = await wait.result
        except TimeoutError:
            result = Result(Outcome.UNAVAILABLE)
        finally:
            self._waits.discard(wait)
        ENDED.labels(outcome=result.outcome).inc()
        return result

    def close(self) -> None:
        """End every wait, also later ones: the process stops."""
        self._closed = True
        for wait in self._waits:
            wait.end(Outcome.STOPPING)

    async def run(self) -> None:
        """Poll until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._wanted.wait()
            began = clock()
            try:
                await self._poll()
            except (*POSTGRES_AWAY, asyncpg.PostgresError) as error:
                self._outage.failed(error)
                self._end_overdue(clock())
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            self._outage.answered()
            if not self._waits:
                self._wanted.clear()
            await asyncio.sleep(max(POLL_INTERVAL_S, (clock() - began) / 2))

    async def _poll(self) -> None:
        async with connection_within(self._db, POLL_TIMEOUT_S) as conn:
            POLLS.inc()
            await self._begin(conn, [wait for wait in self._waits if wait.open_events is None])
            polled = [wait for wait in self._waits if wait.open_events is not None]
            if not polled:
                return
            now = asyncio.get_running_loop().time()
            states = await self._states(conn, polled)
            ready = [wait for wait, state in states if _judge(wait, state, now)]
            if ready:
                await _release(conn, ready)

    async def _begin(self, conn: Connection, begun: Sequence[Wait]) -> None:
        """Note what is open of the items as their waits begin; end waits for unknown items."""
        if not begun:
            return
        found = await waits.begin_waits(conn, item_ids={wait.item_id for wait in begun})
        of_item = {row.item_id: row for row in found}
        for wait in begun:
            row = of_item[wait.item_id]
            wait.open_events = row.open_events
            if not row.is_known:
                wait.end(Outcome.UNKNOWN)

    async def _states(
        self, conn: Connection, polled: Sequence[Wait]
    ) -> list[tuple[Wait, WaitState]]:
        """The state of each, by one statement."""
        known = [
            (number, event)
            for number, wait in enumerate(polled)
            if wait.event_id is None and wait.since is None
            for event in wait.open_events or ()
        ]
        rows = await waits.poll_waits(
            conn,
            numbers=list(range(len(polled))),
            item_ids=[wait.item_id for wait in polled],
            event_ids=[wait.event_id for wait in polled],
            sinces=[wait.since for wait in polled],
            known_numbers=[number for number, _ in known],
            known_events=[event for _, event in known],
            transactions=self._transactions,
            max_missing=MAX_MISSING,
        )
        return [(polled[row.number], row) for row in rows]

    def _end_overdue(self, now: float) -> None:
        """While Postgres is away nobody can say what is missing."""
        for wait in self._waits:
            if now >= wait.deadline:
                wait.end(Outcome.UNAVAILABLE)


def _judge(wait: Wait, state: WaitState, now: float) -> bool:
    """Whether the item is ready; ends the wait if it cannot become so, or is overdue.

    now: before the state was read, so that what is missing at the time-out was read after it.
    """
    if state.known_state == "deleted":
        wait.end(Outcome.DELETED)
    elif state.known_state == "unknown":
        wait.end(Outcome.UNKNOWN)
    elif state.known_state == "stored" and state.missing == "[]":
        return True
    elif now >= wait.deadline:
        wait.end(Outcome.INCOMPLETE, missing=msgspec.json.decode(state.missing))
    return False


async def _release(conn: Connection, ready: Sequence[Wait]) -> None:
    """End waits with the freshness of their items, read after they were found ready."""
    found = defaultdict(list)
    for row in await waits.freshness_of_items(conn, item_ids={wait.item_id for wait in ready}):
        found[row.item_id].append(row)
    for wait in ready:
        wait.end(Outcome.READY, freshness=found[wait.item_id])
