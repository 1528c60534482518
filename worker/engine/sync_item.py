"""The sync of a leased item: load its state, run the rounds, settle its events, walk, release."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from worker.engine.failures import attempt, unless_gone
from worker.engine.item_state import begin_sync, load_item_state
from worker.engine.rounds import Rounds
from worker.engine.settlement import Due, due_walks, run_outcome, settle
from worker.engine.walked_events import applied_by_walks
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.lease.halt import halt, resume
from worker.lease.lease import Lease, LeaseLost, SyncSession
from worker.lease.parked_products import mark_parked
from worker.lease.runs import close_lost_runs
from worker.planner.outcomes import Outcome, SyncPlan
from worker.planner.state import ItemState
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import PluggyHalt
from worker.store.lease import release_item
from worker.sync.account_walk import WALK_TIMEOUT_S, continue_walk

log = structlog.get_logger()

PLAN_TIMEOUT_S: Final = 45.0
"""A plan that takes longer releases the item between two steps."""
WALK_START_TIMEOUT_S: Final = 20.0
"""No arq job runs longer than 60 s: a walk follows only a short plan."""


@dataclass(slots=True)
class BulkSlots:
    """AIMD limit on the concurrent bulk syncs of a process; the other slots are kept for live work.

    The limit is halved after a rate-limited sync, and raised by one after a sync that was not: a
    rate-limited sync wastes a claim and a settlement, and delays live work.
    """

    max_slots: int
    limit: int = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        self.limit = self.max_slots

    @property
    def free(self) -> int:
        """Slots that may be taken now."""
        return max(0, self.limit - self.taken)

    @contextmanager
    def slot(
        self, rate_limited: Callable[[], bool | None] = lambda: None, *, wanted: bool = True
    ) -> Iterator[bool]:
        """Hold a slot, if one is wanted and free; yields whether it is held.

        rate_limited is called at the end to adapt the limit; None: no call to Pluggy was made.
        """
        if not wanted or self.free <= 0:
            yield False
            return
        self.taken += 1
        try:
            yield True
        finally:
            self.taken -= 1
            self._adapt(rate_limited())

    def _adapt(self, rate_limited: bool | None) -> None:
        if rate_limited is not None:
            slots = self.limit // 2 if rate_limited else self.limit + 1
            self.limit = min(self.max_slots, max(1, slots))


@dataclass(frozen=True, slots=True)
class Next:
    """The item to wake a worker for after a sync; None: nothing else is due."""

    item_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Engine:
    """Syncs leased items. Never raises for failures of Pluggy; see failures.py."""

    db: Pool
    client: PluggyClient
    ledger: CallLedger
    zone: ZoneInfo
    products: tuple[str, ...]
    bulk: BulkSlots

    @contextmanager
    def lowest_lane(self) -> Iterator[Lane]:
        """The lowest lane that this process may claim from now.

        It holds a bulk slot: many jobs claim at once, and each would see the same free one.
        """
        with self.bulk.slot() as is_free:
            yield Lane.AUDIT if is_free else Lane.RETRY

    async def sync(self, lease: Lease) -> Next | None:
        """Do what is due for a leased item; returns the next item, if the settlement has found it.

        Errors: those of a Postgres that is away; the lease then lapses and no attempt is counted.
        """
        session: SyncSession | None = None

        def rate_limited() -> bool:
            return session is not None and session.pluggy.rate_limited

        wanted = lease.lane >= Lane.BACKFILL
        with (
            structlog.contextvars.bound_contextvars(item_id=str(lease.item_id)),
            self.bulk.slot(rate_limited, wanted=wanted) as bulk,
        ):
            try:
                session = await self._begin(lease)
                return await self._sync(session, bulk=bulk)
            except LeaseLost:
                log.warning("lease_lost")
            except PluggyHalt as error:
                await halt(self.db, error)
                await self.release(lease, session)
            except asyncio.CancelledError:
                # A shutdown: the item stays due, and no one waits for the lease to lapse.
                await asyncio.shield(self.release(lease, session))
                raise
        return None

    async def _begin(self, lease: Lease) -> SyncSession:
        if lease.has_open_runs and (
            lost := await close_lost_runs(self.db, lease.item_id, lease.token)
        ):
            log.info("lost_runs_closed", runs=lost)
        reader = PluggyReader(self.client, lease.lane, ledger=self.ledger, item_id=lease.item_id)
        session = SyncSession(self.db, reader, lease, lease.now, self.zone, self.products)
        reader.between_pages = session.renew
        return session

    async def _sync(self, session: SyncSession, *, bulk: bool) -> Next:
        clock = asyncio.get_running_loop().time
        started = clock()
        item_state = await begin_sync(session)
        session.pluggy.of_unknown = item_state.item is None
        settled_plan, outcome = SyncPlan((), {}), "done"
        if item_state.events:
            rounds = Rounds(session, item_state, until=started + PLAN_TIMEOUT_S)
            settled_plan = await rounds.run()
            outcome = run_outcome(settled_plan, settled_early=rounds.settled_early)
            await self._resume_if_answered(session)
            had_walks, item_state = bool(item_state.walks), rounds.item_state
            if had_walks:
                # Events that waited for a walk are open again if it has gone with its account or
                # item; the rounds have not seen them.
                fresh = await load_item_state(session)
                item_state = replace(fresh, generation=item_state.generation)
        if parked := settled_plan.parked | item_state.parked_walks:
            await mark_parked(session, parked)
        may_walk = bool(due_walks(item_state)) and clock() - started < WALK_START_TIMEOUT_S
        wanted = may_walk and not bulk
        with self.bulk.slot(lambda: session.pluggy.rate_limited, wanted=wanted) as extra:
            walk_now = may_walk and (bulk or extra)
            outcomes = settled_plan.outcomes
            due = await settle(
                session,
                item_state,
                outcomes,
                settling=outcomes,
                outcome=outcome,
                keep_lease=walk_now,
                lowest_lane=self._lowest_next(bulk=bulk or extra),
            )
            if walk_now and due.generation == item_state.generation:
                due = await self._walk(session, item_state, outcomes)
            elif walk_now:
                await self.release(session.lease, session)
        return Next(session.item_id if due.now else due.next_item)

    def _lowest_next(self, *, bulk: bool) -> Lane:
        """The lowest lane that may be claimed after a sync; bulk: whether it frees a bulk slot."""
        return Lane.AUDIT if bulk or self.bulk.free else Lane.RETRY

    async def _walk(
        self, session: SyncSession, item_state: ItemState, outcomes: Mapping[int, Outcome]
    ) -> Due:
        """Walk until time is up or a new event has arrived, then settle and release the item.

        Events that nothing is left of by now are settled too, unless new ones have come.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + WALK_TIMEOUT_S
        run = await session.open_run("walk")
        outcome = "done"
        for walk in due_walks(item_state):
            session.pluggy.lane = Lane(walk.lane)
            run.plan.append(f"{walk.kind} {walk.account_id}")
            walking = continue_walk(
                session, walk, settled_generation=item_state.generation, timeout_s=until - clock()
            )
            work = unless_gone(session, walk.account_id, walking)
            if not await attempt(session, item_state.step("transactions", walk.account_id), work):
                outcome = "partial"
            if session.generation > item_state.generation or clock() > until:
                break
        await self._resume_if_answered(session)
        fresh = await load_item_state(session)
        again = replace(fresh, generation=item_state.generation)
        if again.parked_walks:
            await mark_parked(session, again.parked_walks)
        has_new_events = fresh.generation > item_state.generation
        applied = {} if has_new_events else applied_by_walks(session, again)
        run.settles = sorted(applied) or None
        # A walk holds a bulk slot, which is free afterwards.
        return await settle(
            session, again, {**outcomes, **applied}, settling=applied, outcome=outcome
        )

    async def _resume_if_answered(self, session: SyncSession) -> None:
        """Resume all work if this probe was answered and not halted itself."""
        if session.lease.probe and session.pluggy.requests:
            await self.ledger.reset()
            await resume(self.db)

    async def release(self, lease: Lease, session: SyncSession | None = None) -> None:
        """Release an item unfinished: it stays due, and no attempt is counted."""
        if session is not None:
            await session.close_run("released")
        await release_item(self.db, lease.item_id, token=lease.token)
