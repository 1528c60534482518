"""The rounds of a sync: plan, take the steps, reload the item's state, until no step is left."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import structlog

from worker.engine.at_once import AT_ONCE, AtOnce, Begun
from worker.engine.failures import attempt, record_failure, unless_gone
from worker.engine.fetch_needed import stored_item, waits
from worker.engine.item_state import load_item_state
from worker.engine.missed_webhooks import expect_collection, expect_verify, note_missed
from worker.engine.settlement import settle_early
from worker.entities.accounts import ENTITY as ACCOUNTS
from worker.entities.investments import ENTITY as INVESTMENTS
from worker.entities.registry import LISTINGS
from worker.infra.lanes import Lane
from worker.infra.postgres import POSTGRES_AWAY, POSTGRES_NOT_MIGRATED
from worker.infra.tasks import end
from worker.lease.lease import LeaseLost, SyncSession
from worker.planner.confirmations import item_recheck_due
from worker.planner.freshness import wants_accounts_alone
from worker.planner.item_events import expects_gone
from worker.planner.item_status import Item
from worker.planner.outcomes import Answered, SyncPlan
from worker.planner.plan import plan
from worker.planner.state import WHOLE_ITEM, ItemState
from worker.planner.steps import (
    AskAgain,
    AskIds,
    AskWalk,
    Gone,
    NotRead,
    PlannedStep,
    ReadAccounts,
    ReadDelta,
    ReadInvestmentTransactions,
    ReadProduct,
    ReadRecent,
    TombstoneItem,
    in_order,
    is_drift,
    is_sweep,
    step_key,
)
from worker.pluggy_api.errors import ITEM_NOT_FOUND, PluggyHalt, PluggyNotFound
from worker.sync.account_walk import ask_walk
from worker.sync.by_id import OpenIds, ask_again, sync_ids
from worker.sync.full_list import sync_listing
from worker.sync.investment_transactions import sync_investment_transactions
from worker.sync.items import fetch_item, settle_what_died, tombstone_item
from worker.sync.recent_days import sync_recent
from worker.sync.transactions import sync_delta

log = structlog.get_logger()

# The product under which a step's failure is recorded, where its name differs.
PRODUCT_OF: Final = {"ReadAccounts": "accounts"}
ACCOUNTS_STEP: Final = ("accounts", WHOLE_ITEM)
NO_PROGRESS_PAUSE: Final = timedelta(seconds=30)
SHORT_WAIT_S: Final = 0.1
LAST_BLOCK_TIMEOUT_S: Final = 8.0
"""No further block of ids is begun so long before a plan ends: its call may take 20 s, a job 60."""


@dataclass(slots=True)
class Rounds:
    """The sync of the events in item_state; later events make the item due again."""

    session: SyncSession
    item_state: ItemState
    until: float
    answered: Answered = field(default_factory=Answered)
    taken: dict[tuple[str, str, uuid.UUID], PlannedStep] = field(default_factory=dict)
    failed: set[tuple[str, str, uuid.UUID]] = field(default_factory=set)
    unfinished: set[tuple[str, str, uuid.UUID]] = field(default_factory=set)
    settled_early: bool = False

    async def run(self) -> SyncPlan:
        """Take all steps that time allows; returns the last plan, whose outcomes are settled.

        Raises PluggyHalt, LeaseLost, and the errors of a Postgres that is away or not migrated.
        """
        before, tried_at = self.item_state.step("items"), self.session.now
        try:
            return await self._run()
        except (LeaseLost, PluggyHalt, *POSTGRES_AWAY, *POSTGRES_NOT_MIGRATED):
            raise
        except Exception as error:
            # A failure of the item itself or outside of all steps: it backs off and is shown.
            await record_failure(self.session, before, error, tried_at=tried_at)
            await self._reload()
            expect_verify(self.session, self.item_state)
            return plan(NotRead(), self.item_state, self.answered, products=self.session.products)

    async def _await_rate_limit(self) -> None:
        """Wait for the item's rate limit, and include events that became pending meanwhile.

        At the limit one request so answers all events that came while it waited.
        """
        if (
            waits(self.item_state)
            or stored_item(self.item_state, latest=self.session.latest) is not None
        ):
            return
        if await self.session.pluggy.reserve_item() > SHORT_WAIT_S:
            self.session.read_seq = None
            self.item_state = await load_item_state(self.session)

    async def _run(self) -> SyncPlan:
        await self._await_rate_limit()
        item = await self._item()
        await note_missed(self.session, item, self.item_state)
        fetched = not wants_accounts_alone(self.item_state)
        settled = await self._take_steps(item)
        if isinstance(item, Gone):
            await settle_what_died(self.session)
        if fetched:
            await expect_collection(self.session, item, self.item_state, settled)
        return settled

    async def _take_steps(self, item: Item | Gone | NotRead) -> SyncPlan:
        # A probe has one request at a time: Pluggy may be down.
        async with AtOnce(1 if self.session.lease.probe else AT_ONCE) as steps:
            while True:
                current = plan(item, self.item_state, self.answered, products=self.session.products)
                wanted = [step for step in current.steps if not self._is_taken(step)]
                todo = [s for s in in_order(wanted) if not self._goes_on_later(s)]
                if self._late() or (wanted and not todo and not steps.begun):
                    return current
                if not todo and not steps.begun:
                    return self._stuck(current) if self._repeats(current) else current
                await self._take_some(todo, steps, current)
                await self._reload()

    def _is_taken(self, step: PlannedStep) -> bool:
        """Whether this claim has begun the step; not with an investment as it was before."""
        before = self.taken.get(step_key(step))
        if isinstance(before, ReadInvestmentTransactions):
            # Their list is read again in between if one of them is found gone.
            return before.fingerprint == getattr(step, "fingerprint", None)
        return before is not None

    async def _take_some(self, todo: list[PlannedStep], steps: AtOnce, current: SyncPlan) -> None:
        """Take steps as they are answered, until none is left or the plan has to be made again.

        It is made again after one that others follow from, and to settle events early.
        """
        taken: list[PlannedStep] = []
        while not self._late():
            self._begin_some(todo, steps)
            if not steps.begun:
                return
            if steps.leaves_time and len(self.item_state.events) > 1:
                if self._may_settle(taken, [*todo, *steps.steps]):
                    return
                await self._settle_early(current)
            step = await self._take(await steps.next(), current)
            taken.append(step)
            if isinstance(step, ReadAccounts) or step_key(step)[1] == INVESTMENTS.product:
                return

    async def _settle_early(self, current: SyncPlan) -> None:
        settled = await settle_early(self.session, self.item_state, current)
        self.settled_early |= bool(settled)
        events = [event for event in self.item_state.events if event not in settled]
        self.item_state = replace(self.item_state, events=events)

    def _may_settle(self, taken: list[PlannedStep], left: list[PlannedStep]) -> bool:
        """Whether events may be done by now: the account that they are about has been read."""
        read = {key[1:] for step in taken if (key := step_key(step)) not in self.failed}
        read -= {step_key(step)[1:] for step in left}
        return any(("transactions", e.account_id) in read for e in self.item_state.events)

    def _begin_some(self, todo: list[PlannedStep], steps: AtOnce) -> None:
        for step in list(todo):
            if steps.is_full:
                return
            if self._goes_on_later(step):
                todo.clear()
                return
            if steps.has_room_for(step):
                todo.remove(step)
                self._begin(step, steps)

    def _begin(self, step: PlannedStep, steps: AtOnce) -> None:
        """Begin a step: from now on it is taken, unless the claim ends."""
        name, product, scope_id = key = step_key(step)
        self.taken[key] = step
        if scope_id in self.session.tombstoned:
            self.failed.add(key)
            return
        self.session.run.plan.append(f"{name} {product} {scope_id}")
        lane = self.session.lease.lane
        lane = max(lane, Lane.BACKFILL) if is_sweep(step) else lane
        steps.begin(step, lane, self._work)

    async def _reload(self) -> None:
        """Reload the item's state, but keep the generation and the events that it counts."""
        fresh = await load_item_state(self.session)
        self.item_state = replace(
            fresh, generation=self.item_state.generation, events=self.item_state.events
        )

    def _goes_on_later(self, step: PlannedStep) -> bool:
        """Whether a later claim does the rest of a sweep: new events came, or no calls are left.

        One step is taken in any case, or endless events would keep a sweep from its end.
        """
        if not is_sweep(step) or not any(key[0] == step_key(step)[0] for key in self.taken):
            return False
        has_new_events = self.session.generation > self.item_state.generation
        return self.session.pluggy.rate_limited or has_new_events

    def _late(self) -> bool:
        return asyncio.get_running_loop().time() > self.until

    async def _item(self) -> Item | Gone | NotRead:
        if waits(self.item_state):
            return NotRead()
        recheck_due = item_recheck_due(self.item_state)
        if (
            not recheck_due
            and (known := stored_item(self.item_state, latest=self.session.latest)) is not None
        ):
            return known
        self.session.run.plan.append("item")
        try:
            item = await fetch_item(self.session, self.item_state.stored_item)
        except PluggyNotFound as error:
            if error.code == ITEM_NOT_FOUND and expects_gone(self.item_state):
                return Gone()
            raise
        if self.item_state.item_deleted or recheck_due:
            await self._reload()
        return item

    async def _take(self, begun: Begun, current: SyncPlan) -> PlannedStep:
        """Give a step its turn. The answer is dropped if what it is about has been found gone.

        And if the accounts have come to prove nothing and the step is planned no more: of a revoked
        consent all lists are empty.
        """
        step, session = begun.step, self.session
        name, product, scope_id = key = step_key(step)
        unproven = ACCOUNTS_STEP in session.deferred and not _has_step(current, key)
        if scope_id in session.tombstoned or unproven:
            self.failed.add(key)
            await end(begun.task)
            return step
        state = self.item_state.step(PRODUCT_OF.get(name, product), scope_id)
        session.run.reading = product, scope_id
        session.run.drift_of = (state.product, scope_id) if is_drift(step) else None
        session.pluggy.lane = begun.ticket.lane
        begun.ticket.come()
        if not await attempt(session, state, begun.task):
            self.failed.add(key)
        return step

    def _work(self, step: PlannedStep) -> Awaitable[object]:
        session = self.session
        match step:
            case ReadAccounts(source_updated_at):
                return sync_listing(session, ACCOUNTS, source_updated_at=source_updated_at)
            case ReadProduct(product, scope_id, source_updated_at):
                work = sync_listing(
                    session,
                    LISTINGS[product],
                    source_updated_at=source_updated_at,
                    scope_id=scope_id,
                )
                return work if scope_id == WHOLE_ITEM else unless_gone(session, scope_id, work)
            case ReadInvestmentTransactions(investment_id):
                work = sync_investment_transactions(session, step)
                return unless_gone(session, investment_id, work)
            case ReadDelta(account_id):
                return unless_gone(session, account_id, sync_delta(session, step))
            case ReadRecent(account_id):
                return unless_gone(session, account_id, sync_recent(session, step))
            case AskIds(account_id):
                return unless_gone(session, account_id, self._ask_ids(step))
            case AskAgain(account_id):
                return unless_gone(session, account_id, self._ask_again(account_id))
            case AskWalk():
                return ask_walk(self.session, step)
            case TombstoneItem():
                return tombstone_item(self.session)

    async def _ask_ids(self, step: AskIds) -> None:
        # An id named by several events is asked for as a deleted one if any says so.
        event_ids = sorted(step.event_ids, key=lambda event_id: event_id not in step.deleting)
        ids = OpenIds(self.session, deque(event_ids))
        try:
            await sync_ids(self.session, step, ids, until=self.until - LAST_BLOCK_TIMEOUT_S)
        finally:
            self.answered = self.answered.with_(ids.answered)
        if not self.answered.events.issuperset(step.event_ids):
            self.unfinished.add(step_key(step))

    async def _ask_again(self, account_id: uuid.UUID) -> None:
        if await ask_again(self.session, account_id):
            self.answered = self.answered.with_(Answered(again=frozenset({account_id})))

    def _repeats(self, current: SyncPlan) -> bool:
        """Whether the plan still contains a step that succeeded.

        Steps that failed or were deferred may be due again already, and so may those with thousands
        of ids, and the next recheck of what contradicts an event.
        """
        if any(outcome.confirming for outcome in current.outcomes.values()):
            return False
        again = {step_key(step) for step in current.steps} - self.failed - self.unfinished
        return any((product, owner) not in self.session.deferred for _, product, owner in again)

    def _stuck(self, current: SyncPlan) -> SyncPlan:
        """Delay steps that succeeded and are still planned: a bug of ours, which must not loop."""
        log.error("no_progress", steps=[type(step).__name__ for step in current.steps])
        later = self.item_state.now + NO_PROGRESS_PAUSE
        outcomes = {
            event_id: replace(o, due_at=later)
            if o.state == "pending" and o.due_at is not None and o.due_at < later
            else o
            for event_id, o in current.outcomes.items()
        }
        return SyncPlan((), outcomes, current.parked)


def _has_step(current: SyncPlan, key: tuple[str, str, uuid.UUID]) -> bool:
    return any(step_key(step) == key for step in current.steps)
