"""A small model of the service for protocol tests: one version per item, and its invariants.

Pluggy holds one version per item; an event announces that it changed; a sync reads it and writes
it under the fence. Receivers and workers are actors; all their statements are the real code's.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from tests.support.interleaving import Actor, PlainConnection
from tests.support.stack import now
from tests.support.waiting import HANGS_AFTER_S
from worker.engine.item_state import begin_sync, load_item_state
from worker.engine.job import Worker
from worker.engine.settlement import settle, settle_early
from worker.inbox.accept import Accepted, accept_events
from worker.inbox.events import WebhookEvent
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.lease.lease import LeaseLost, SyncSession
from worker.maintenance.sweep import SWEEP_LOCK
from worker.planner.freshness import is_answered
from worker.planner.outcomes import Outcome, SyncPlan
from worker.planner.state import ItemState
from worker.store import sweep
from worker.store.lease import release_item

ITEMS = [uuid.UUID(int=n, version=4) for n in (1, 2)]
WORKERS, RECEIVERS = 3, 2

MODEL = """
CREATE SCHEMA model;
CREATE TABLE model.rows (item_id uuid PRIMARY KEY, version integer NOT NULL);
CREATE TABLE model.writes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id uuid NOT NULL, version integer NOT NULL, token uuid NOT NULL);

CREATE FUNCTION model.one_live_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.token IS DISTINCT FROM new.token AND new.token IS NOT NULL AND old.until > now() THEN
        RAISE EXCEPTION 'a live lease was taken away';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER one_live_lease BEFORE UPDATE ON pluggy_sync.item_leases
    FOR EACH ROW EXECUTE FUNCTION model.one_live_lease();
"""
EMPTY_TABLES = """
DELETE FROM model.rows; DELETE FROM model.writes; DELETE FROM pluggy_sync.runs;
DELETE FROM pluggy_sync.webhook_events; DELETE FROM pluggy_sync.item_sync;
DELETE FROM pluggy_sync.item_leases; DELETE FROM pluggy_sync.product_sync;
"""
WRITE_ROW = """
INSERT INTO model.rows (item_id, version) VALUES ($1, $2)
ON CONFLICT (item_id) DO UPDATE SET version = excluded.version
"""
STAMP = """
INSERT INTO pluggy_sync.product_sync AS stored (item_id, product, read_seq) VALUES ($1, 'model', $2)
ON CONFLICT (item_id, product, scope_id)
DO UPDATE SET read_seq = greatest(stored.read_seq, excluded.read_seq)
"""
# A worker that stands still inside its transaction keeps its lock: its lease cannot be looked at.
LAPSE = """
UPDATE pluggy_sync.item_leases l SET until = l.until - interval '1 hour'
FROM (SELECT item_id FROM pluggy_sync.item_leases FOR UPDATE SKIP LOCKED) AS free
WHERE l.item_id = free.item_id
"""
# What was put off is due, in the order it had.
COME_DUE = "UPDATE pluggy_sync.item_sync SET run_at = run_at - interval '1 hour'"


APPLIED_TOO_EARLY = """
SELECT EXISTS (
    SELECT FROM pluggy_sync.webhook_events e LEFT JOIN model.rows r USING (item_id)
    WHERE e.state = 'applied' AND split_part(e.event_id, ':', 2)::integer > coalesce(r.version, 0))
"""


@dataclass(frozen=True)
class Tell:
    """Items change, and a receiver gets their events in one group; twice: each one duplicated.

    crashes: number of statements after which the receiver dies without an answer.
    """

    receiver: int
    items: tuple[int, ...]
    twice: bool = False
    crashes: int | None = None


@dataclass(frozen=True)
class TellAtOnce:
    """All receivers get the events at the same time, in different orders."""

    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Redeliver:
    """An earlier delivery is repeated."""

    receiver: int
    delivery: int


@dataclass(frozen=True)
class Work:
    """A worker runs some statements; an idle one begins a sync that ends with the verdict."""

    worker: int
    statements: int
    verdict: str = "applied"


@dataclass(frozen=True)
class Kill:
    """SIGKILL a worker at any statement."""

    worker: int


@dataclass(frozen=True)
class Deploy:
    """SIGTERM a worker at any statement: it releases its item."""

    worker: int


@dataclass(frozen=True)
class Lapse:
    """Move the time past any lease or pause."""


@dataclass(frozen=True)
class Sweep:
    """Due items are woken for."""


@dataclass(frozen=True)
class FlushRedis:
    """All wake-ups are lost."""


Action = Tell | TellAtOnce | Redeliver | Work | Kill | Deploy | Lapse | Sweep | FlushRedis


@dataclass
class World:
    """Pluggy, Redis and the processes, with the invariants of Postgres."""

    control: PlainConnection
    workers: list[Actor]
    receivers: list[Actor]
    pools: dict[str, Pool]
    tasks: list[Worker]
    truth: Counter[uuid.UUID] = field(default_factory=Counter)
    """What Pluggy holds: a version per item."""
    announced: dict[str, tuple[uuid.UUID, int]] = field(default_factory=dict)
    """What each event says: its item was changed to this version."""
    deliveries: list[WebhookEvent] = field(default_factory=list)
    unanswered: list[WebhookEvent] = field(default_factory=list)
    generation: Counter[uuid.UUID] = field(default_factory=Counter)
    """How many events of an item were acknowledged as new."""
    settled: Counter[uuid.UUID] = field(default_factory=Counter)
    """Of these, how many the sync that settled last had seen."""
    deferred: set[uuid.UUID] = field(default_factory=set)
    wakes: deque[uuid.UUID] = field(default_factory=deque)
    lease_lost: int = 0
    settled_early: int = 0
    syncs: int = 0

    @property
    def actors(self) -> list[Actor]:
        return self.workers + self.receivers

    # Deliveries

    def change(self, item_number: int) -> WebhookEvent:
        """Change an item at Pluggy; returns the event that announces it."""
        item_id = ITEMS[item_number]
        self.truth[item_id] += 1
        event_id = f"{item_id}:{self.truth[item_id]}"
        self.announced[event_id] = (item_id, self.truth[item_id])
        event = WebhookEvent(event_id, "item/updated", event_id.encode(), now(), item_id=item_id)
        self.deliveries.append(event)
        return event

    async def receive(self, receiver: Actor, group: Sequence[WebhookEvent]) -> None:
        self.unanswered += group
        pool = self.pools[receiver.name]
        answers = await accept_events(pool, group, timeout_s=HANGS_AFTER_S)
        for event, answer in zip(group, answers, strict=True):
            assert isinstance(answer, Accepted)
            self.unanswered.remove(event)
            assert event.item_id is not None
            self.generation[event.item_id] += answer.is_new
            if answer.made_due:
                self.wakes.append(event.item_id)

    # A sync

    async def sync(self, number: int, verdict: str) -> None:
        """A sync like the engine's, with one step instead of Pluggy's products."""
        worker = self.tasks[number]
        woken = self.wakes.popleft() if self.wakes else None
        lease = await worker.claim(woken)
        if lease is None:
            return
        session = await worker.engine._begin(lease)
        try:
            await self._sync(session, verdict)
        except LeaseLost:
            self.lease_lost += 1
        except asyncio.CancelledError:
            await asyncio.shield(self._release(session))
            raise

    async def _sync(self, session: SyncSession, verdict: str) -> None:
        item_state = await begin_sync(session)
        seen = self.generation[session.item_id]
        if item_state.events:
            self.syncs += 1
            if verdict == "applied":
                await self._read(session, item_state)
                item_state = await self._settle_early(session, item_state)
        again = replace(await load_item_state(session), generation=item_state.generation)
        outcomes = {event.id: _outcome(verdict, item_state) for event in item_state.events}
        await settle(session, again, outcomes, settling=outcomes)
        self._check_worth(session.item_id, item_state, seen)
        self.settled[session.item_id] = seen
        self.deferred.discard(session.item_id)
        if verdict == "deferred":
            self.deferred.add(session.item_id)

    async def _read(self, session: SyncSession, item_state: ItemState) -> None:
        """Fetch and store, unless a committed fetch began after the newest event."""
        if all(
            is_answered(item_state.step("model").read_seq, event) for event in item_state.events
        ):
            return
        version = self.truth[session.item_id]
        async with session.page() as conn:
            await conn.execute(f"-- write_row\n{WRITE_ROW}", session.item_id, version)
            await conn.execute(
                "INSERT INTO model.writes (item_id, version, token) VALUES ($1, $2, $3)",
                session.item_id,
                version,
                session.lease.token,
            )
            await conn.execute(f"-- stamp\n{STAMP}", session.item_id, session.read_seq)

    async def _settle_early(self, session: SyncSession, item_state: ItemState) -> ItemState:
        """Settle all events but the last, as if the claim went on with other steps for it."""
        outcomes = {event.id: Outcome("applied") for event in item_state.events}
        outcomes[item_state.events[-1].id] = Outcome("pending")
        done = await settle_early(session, item_state, SyncPlan((), outcomes))
        self.settled_early += len(done)
        return replace(item_state, events=[e for e in item_state.events if e not in done])

    def _check_worth(self, item_id: uuid.UUID, item_state: ItemState, seen: int) -> None:
        """Each settled sync was caused by an event since the previous one."""
        assert item_state.events, "an item was due and nothing was pending"
        changes = seen > self.settled[item_id]
        assert changes or item_id in self.deferred, "two syncs of the same events"

    async def _release(self, session: SyncSession) -> None:
        await session.close_run("released")
        await release_item(session.db, item_id=session.item_id, token=session.lease.token)

    # What happens

    async def act(self, action: Action) -> None:  # noqa: C901 - a table of what can happen
        match action:
            case Tell(receiver, numbers, twice, crashes):
                events = [self.change(number) for number in numbers] * (1 + twice)
                await self._deliver(self.receivers[receiver], events, crashes)
            case TellAtOnce(announced_groups):
                await self._deliver_at_once(announced_groups)
            case Redeliver(receiver, delivery):
                if self.deliveries:
                    event = self.deliveries[delivery % len(self.deliveries)]
                    await self._deliver(self.receivers[receiver], [event])
            case Work(worker, statements, verdict):
                await self._work(worker, statements, verdict)
            case Kill(worker):
                await self.workers[worker].kill()
            case Deploy(worker):
                await self.workers[worker].interrupt(self.actors)
            case Lapse():
                await self.control.execute(LAPSE)
                await self.control.execute(COME_DUE)
            case Sweep():
                await self.sweep()
            case FlushRedis():
                self.wakes.clear()

    async def _deliver(
        self, receiver: Actor, events: Sequence[WebhookEvent], crashes: int | None = None
    ) -> None:
        await receiver.begin(self.receive(receiver, events))
        taken = 0
        while not receiver.idle and taken != crashes:
            assert await receiver.advance(self.actors), "a delivery waits for a stalled worker"
            taken += 1
        await receiver.kill()

    async def _deliver_at_once(self, announced_groups: Sequence[tuple[int, ...]]) -> None:
        busy = list(zip(self.receivers, announced_groups, strict=False))
        for receiver, numbers in busy:
            events = [self.change(number) for number in numbers]
            await receiver.begin(self.receive(receiver, events))
        for receiver, _ in busy:
            receiver.go()
        for receiver, _ in busy:
            while not receiver.idle:
                assert await receiver.arrive(self.workers), "a delivery waits for a stalled worker"
                receiver.go()

    async def _work(self, number: int, statements: int, verdict: str) -> None:
        actor = self.workers[number]
        if actor.idle:
            await actor.begin(self.sync(number, verdict))
        for _ in range(statements):
            if actor.idle or not await actor.advance(self.actors):
                return

    async def sweep(self) -> list[uuid.UUID]:
        found = await sweep.sweep_due_items(
            self.control, lock=SWEEP_LOCK, limit=10, lowest_lane=int(Lane.AUDIT)
        )
        self.wakes.extend(found)
        return found

    # What must hold

    async def check(self) -> None:
        """After every action: counts are right, and pending events are due."""
        for record in await self.control.fetch(
            """
            SELECT s.*, (SELECT count(*) FROM pluggy_sync.webhook_events e
                         WHERE e.item_id = s.item_id AND e.state = 'pending') AS pending,
                   (SELECT count(*) FROM pluggy_sync.runs r
                    WHERE r.item_id = s.item_id AND r.finished_at IS NULL) AS open_runs
            FROM pluggy_sync.item_sync s
            """
        ):
            item_id = record["item_id"]
            assert record["generation"] == self.generation[item_id], "a bump for each new event"
            assert record["done_generation"] == self.settled[item_id], "done is what was seen"
            if record["run_at"] is None:
                assert not record["pending"], "an event that nothing will ever look at"
                assert not record["open_runs"], "a run that nothing will ever close"
        assert not await self.control.fetchval(APPLIED_TOO_EARLY), "applied before it was stored"

    async def come_to_rest(self, resume: Sequence[bool]) -> None:
        """Kill or continue stopped actors, repeat all deliveries, and sync all due items."""
        for actor, goes_on in zip(self.workers, resume, strict=True):
            if not goes_on:
                await actor.kill()
        while any([not actor.idle and await actor.advance(self.actors) for actor in self.workers]):
            await self.check()
        for event in [*self.unanswered, *self.deliveries]:
            await self._deliver(self.receivers[0], [event])
        self.unanswered.clear()
        self.wakes.clear()
        for _ in range(10 * len(ITEMS)):
            await self.act(Lapse())
            if not await self.sweep():
                break
            await self._work(0, 100, "applied")
            await self.check()
        await self.check_rest()

    async def check_rest(self) -> None:
        events = await self.control.fetch(
            "SELECT event_id, state FROM pluggy_sync.webhook_events WHERE state <> 'applied'"
        )
        assert not events, "an acknowledged event was not applied"
        stored = await self.control.fetchval("SELECT count(*) FROM pluggy_sync.webhook_events")
        assert stored == len(self.announced), "an event was lost or stored twice"
        for record in await self.control.fetch(
            "SELECT * FROM pluggy_sync.item_sync JOIN pluggy_sync.item_leases USING (item_id)"
        ):
            assert record["run_at"] is None
            assert record["done_generation"] == record["generation"]
            assert record["token"] is None, "a lease that nobody holds"
        rows = await self.control.fetch("SELECT item_id, version FROM model.rows")
        assert {r["item_id"]: r["version"] for r in rows} == dict(self.truth), "stale at rest"
        await self._check_writes()
        await self._check_runs()

    async def _check_writes(self) -> None:
        """No older version replaced a newer one, and no session wrote after the next one had."""
        writes = await self.control.fetch("SELECT * FROM model.writes ORDER BY item_id, id")
        for before, after in itertools.pairwise(writes):
            if before["item_id"] == after["item_id"]:
                assert before["version"] <= after["version"], "older over newer"
        for item_id in ITEMS:
            tokens = [w["token"] for w in writes if w["item_id"] == item_id]
            turns = [t for n, t in enumerate(tokens) if n == 0 or tokens[n - 1] != t]
            assert len(turns) == len(set(turns)), "a fenced-off worker wrote"

    async def _check_runs(self) -> None:
        runs = await self.control.fetch("SELECT seq, finished_at FROM pluggy_sync.runs")
        assert all(run["seq"] and run["finished_at"] for run in runs), "a run was left open"


def _outcome(verdict: str, item_state: ItemState) -> Outcome:
    if verdict == "deferred":
        return Outcome("pending", due_at=item_state.now + timedelta(seconds=30))
    return Outcome(verdict, reason=None if verdict == "applied" else "unreadable")
