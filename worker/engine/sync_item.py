"""The sync of a leased item: load its state, run the rounds, settle its events, walk, release."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from worker.engine.bulk_slots import BulkSlots
from worker.engine.due import due_walks, next_due
from worker.engine.failures import attempt
from worker.engine.parent_gone import unless_gone
from worker.engine.rounds import Rounds, load_item_state
from worker.infra.lanes import Lane
from worker.infra.metrics import EVENTS
from worker.infra.postgres import Pool
from worker.lease.halt import halt, resume
from worker.lease.lease import LEASE, Lease, LeaseLost, SyncSession
from worker.lease.runs import close_lost_runs
from worker.planner.outcomes import Outcome, SyncPlan
from worker.planner.state import ItemState
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import PluggyHalt
from worker.store.lease import release_item, settle_item
from worker.sync.account_walk import WALK_TIMEOUT_S, continue_walk

log = structlog.get_logger()

PLAN_TIMEOUT_S: Final = 45.0
"""A plan that takes longer releases the item between two steps."""
WALK_START_TIMEOUT_S: Final = 20.0
"""No arq job runs longer than 60 s: a walk follows only a short plan."""


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

    async def sync(self, lease: Lease) -> bool:
        """Do what is due for a leased item; returns whether it is due again at once.

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
                return await self._sync_or_halt(session, bulk=bulk)
            except asyncio.CancelledError:
                # A shutdown: the item stays due, and no one waits for the lease to lapse.
                await asyncio.shield(self.release(lease, session))
                raise

    async def _sync_or_halt(self, session: SyncSession, *, bulk: bool) -> bool:
        try:
            return await self._sync(session, bulk=bulk)
        except LeaseLost:
            log.warning("lease_lost")
        except PluggyHalt as error:
            await halt(self.db, error)
            await self.release(session.lease, session)
        return False

    async def _begin(self, lease: Lease) -> SyncSession:
        lost = await close_lost_runs(self.db, lease.item_id)
        if lost:
            log.info("lost_runs_closed", runs=lost)
        reader = PluggyReader(self.client, lease.lane, ledger=self.ledger, item_id=lease.item_id)
        now = await self.db.fetchval("SELECT clock_timestamp()")
        session = SyncSession(self.db, reader, lease, now, self.zone, self.products)
        reader.between_pages = session.renew
        return session

    async def _sync(self, session: SyncSession, *, bulk: bool) -> bool:
        clock = asyncio.get_running_loop().time
        started = clock()
        item_state = await load_item_state(session)
        generation = item_state.generation
        session.pluggy.of_unknown = item_state.item is None
        settled_plan, run_id = SyncPlan((), {}), None
        if item_state.events:
            run_id = (await session.open_run("sync", [e.id for e in item_state.events])).id
            rounds = Rounds(session, item_state, until=started + PLAN_TIMEOUT_S)
            settled_plan = await rounds.run()
            generation = rounds.item_state.generation
            await session.close_run(_run_outcome(settled_plan))
            await self._resume_if_answered(session)
        # Events that waited for a walk are open again if it has gone with its account or item.
        item_state = replace(await load_item_state(session), generation=generation)
        may_walk = bool(due_walks(item_state)) and clock() - started < WALK_START_TIMEOUT_S
        wanted = may_walk and not bulk
        with self.bulk.slot(lambda: session.pluggy.rate_limited, wanted=wanted) as extra:
            walk_now = may_walk and (bulk or extra)
            outcomes = settled_plan.outcomes
            due = await settle(
                session, item_state, outcomes, settling=outcomes, run_id=run_id, keep_lease=walk_now
            )
            if walk_now and due.generation == item_state.generation:
                due = await self._walk(session, item_state, outcomes)
            elif walk_now:
                await self.release(session.lease, session)
        return due.now

    async def _walk(
        self, session: SyncSession, item_state: ItemState, outcomes: Mapping[int, Outcome]
    ) -> Due:
        """Walk until time is up or a new event has arrived, then settle and release the item."""
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
        await session.close_run(outcome)
        await self._resume_if_answered(session)
        again = replace(await load_item_state(session), generation=item_state.generation)
        return await settle(session, again, outcomes, settling=())

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


@dataclass(frozen=True, slots=True)
class Due:
    """The item after a settlement: whether it is due at once, and its generation."""

    now: bool
    generation: int


async def settle(
    session: SyncSession,
    item_state: ItemState,
    outcomes: Mapping[int, Outcome],
    *,
    settling: Collection[int],
    run_id: int | None = None,
    keep_lease: bool = False,
) -> Due:
    """Settle events and schedule the item. Raises LeaseLost if the lease is lost.

    outcomes are those of this claim's plan; settling names the events among them to settle now.
    """
    next_at, lane = next_due(item_state, outcomes)
    settled = {event_id: outcomes[event_id] for event_id in settling}
    row = await settle_item(
        session.db,
        session.item_id,
        token=session.lease.token,
        generation=item_state.generation,
        due_at=next_at,
        lane=int(lane),
        keep_for=LEASE if keep_lease else None,
        event_ids=list(settled),
        states=[o.state for o in settled.values()],
        reasons=[o.reason for o in settled.values()],
        error_ids=[o.error_id for o in settled.values()],
        ask_again_ats=[o.ask_again_at for o in settled.values()],
        run_id=run_id,
        confirmings=[o.confirming for o in settled.values()],
        confirming_sinces=[o.confirming_since for o in settled.values()],
    )
    if row is None:
        raise LeaseLost
    for state in {o.state for o in settled.values()}:
        EVENTS.labels(state=state).inc(sum(o.state == state for o in settled.values()))
        ids = [i for i, o in settled.items() if o.state == state]
        _log_settled(state, event_row_ids=ids, run_id=run_id)
    return Due(row.due, row.generation)


def _log_settled(state: str, **facts: object) -> None:
    """Log by literal event names, so that they can be searched for; a dead event needs a person."""
    match state:
        case "applied":
            log.info("events_applied", **facts)
        case "dead":
            log.warning("events_dead", **facts)
        case "ignored":
            log.info("events_ignored", **facts)
        case "walking":
            log.info("events_walking", **facts)
        case _:
            log.info("events_pending", **facts)


def _run_outcome(plan: SyncPlan) -> str:
    states = {outcome.state for outcome in plan.outcomes.values()}
    if states <= {"applied", "ignored", "walking"}:
        return "done"
    return "failed" if states == {"dead"} else "partial"
