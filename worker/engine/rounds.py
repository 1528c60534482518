"""The rounds of a sync: plan, take the steps, look again at what is held, until nothing is left."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import structlog

from worker.engine.failures import attempt, record_failure
from worker.engine.missed_webhooks import expect_collection, note_missed
from worker.engine.parent_gone import unless_gone
from worker.infra.lanes import Lane
from worker.infra.postgres import POSTGRES_AWAY, POSTGRES_NOT_MIGRATED
from worker.infra.queries import QUERIES
from worker.lease.lease import Claim, FencedOff
from worker.lease.parked_products import mark_parked
from worker.planner.confirmations import item_look_due
from worker.planner.freshness import asks_again, is_answered
from worker.planner.half_readable import asks_nothing
from worker.planner.outcomes import Answered, SyncPlan
from worker.planner.plan import plan
from worker.planner.state import NO_ACCOUNT, Held, held_from_row
from worker.planner.steps import (
    AskAgain,
    AskIds,
    AskWalk,
    BuryItem,
    Gone,
    NotRead,
    PlannedStep,
    ReadAccounts,
    ReadDelta,
    ReadInvestmentTransactions,
    ReadProduct,
    ReadRecent,
    is_drift,
    is_sweep,
    lists_after_accounts,
    step_key,
)
from worker.pluggy_api.errors import PluggyHalt, PluggyNotFound
from worker.pluggy_api.item_status import Item, read_item
from worker.pluggy_api.payloads import decode_object
from worker.sync.account_walk import ask_walk
from worker.sync.by_id import OpenIds, ask_again, sync_ids
from worker.sync.entities.accounts import ACCOUNTS
from worker.sync.entities.bills import BILLS
from worker.sync.entities.consents import CONSENTS
from worker.sync.entities.identities import IDENTITIES
from worker.sync.entities.investment_transactions import sync_investment_transactions
from worker.sync.entities.investments import INVESTMENTS
from worker.sync.entities.items import bury_item, settle_what_died, sync_item
from worker.sync.entities.loans import LOANS
from worker.sync.entities.transactions import sync_delta
from worker.sync.full_list import sync_listing
from worker.sync.recent_days import sync_recent

log = structlog.get_logger()

ITEM_NOT_FOUND: Final = "404:ITEM_NOT_FOUND"
HELD_ITEM_SERVES_FOR: Final = timedelta(minutes=10)
"""Longer than all looks at a contradicted answer: each of them is one request."""
LISTINGS: Final = {
    listing.entity.product: listing for listing in (BILLS, CONSENTS, IDENTITIES, INVESTMENTS, LOANS)
}
# The step under which a failure is recorded, where the read is named otherwise.
PRODUCT_OF: Final = {"ReadAccounts": "accounts"}
NO_PROGRESS_PAUSE: Final = timedelta(seconds=30)
SHORT_WAIT_S: Final = 0.1
LAST_BLOCK_FOR_S: Final = 8.0
"""So long before a plan ends no further block of ids is begun: its call may take 20 s, a job 60."""


async def load_held(claim: Claim) -> Held:
    """One statement: the generation, the events that it counts, and what is held of the item.

    The first of a claim also draws the place of all that the claim reads.
    """
    row = await claim.db.fetchrow(QUERIES["read_plan"], claim.item_id)
    if row is None:
        raise RuntimeError("a claimed item without its row in item_sync")
    claim.now = row["now"]
    claim.read_seq = claim.read_seq or row["read_seq"]
    return held_from_row(claim.item_id, row)


@dataclass(slots=True)
class Rounds:
    """A sync of the events that `held` counts; later ones make the item due again."""

    claim: Claim
    held: Held
    until: float
    answered: Answered = field(default_factory=Answered)
    taken: set[tuple[str, str, uuid.UUID]] = field(default_factory=set)
    failed: set[tuple[str, str, uuid.UUID]] = field(default_factory=set)
    unfinished: set[tuple[str, str, uuid.UUID]] = field(default_factory=set)

    async def run(self) -> SyncPlan:
        """Take all steps that time allows; returns the last plan, whose outcomes hold.

        Raises PluggyHalt, FencedOff, and the errors of a Postgres that is away or not migrated.
        """
        before, tried_at = self.held.step("items"), self.claim.now
        try:
            return await self._run()
        except (FencedOff, PluggyHalt, *POSTGRES_AWAY, *POSTGRES_NOT_MIGRATED):
            raise
        except Exception as error:
            # Of the item itself, or of no step: it backs off and is shown.
            await record_failure(self.claim, before, error, tried_at=tried_at)
            await self._look_again()
            return plan(NotRead(), self.held, self.answered, products=self.claim.products)

    async def _await_turn(self) -> None:
        """Wait for the item's request, and count what became pending meanwhile as well.

        At the limit one request so answers all that came while it waited.
        """
        if _waits(self.held) or self._held_item() is not None:
            return
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        await self.claim.pluggy.reserve_item()
        if clock() - asked_at > SHORT_WAIT_S:
            self.claim.read_seq = None
            self.held = await load_held(self.claim)

    async def _run(self) -> SyncPlan:
        await self._await_turn()
        item = await self._item()
        await note_missed(self.claim, item, self.held)
        settled = await self._take_steps(item)
        await mark_parked(self.claim, settled.parked)
        if isinstance(item, Gone):
            await settle_what_died(self.claim)
        await expect_collection(self.claim, item, self.held, settled)
        return settled

    async def _take_steps(self, item: Item | Gone | NotRead) -> SyncPlan:
        while True:
            current = plan(item, self.held, self.answered, products=self.claim.products)
            wanted = [step for step in current.steps if step_key(step) not in self.taken]
            todo = [s for s in lists_after_accounts(wanted) if not self._goes_on_later(s)]
            if self._late() or (wanted and not todo):
                return current
            if not todo:
                return self._stuck(current) if self._repeats(current) else current
            for step in todo:
                if self._late() or self._goes_on_later(step):
                    break
                await self._take(step)
            await self._look_again()

    async def _look_again(self) -> None:
        """Reload what is held; the generation and its events stay those that were read together."""
        fresh = await load_held(self.claim)
        self.held = replace(fresh, generation=self.held.generation, events=self.held.events)

    def _goes_on_later(self, step: PlannedStep) -> bool:
        """Whether the rest of a sweep is left to a later claim: there is news, or no call is left.

        One step is taken in any case, or events without end would keep a sweep from its end.
        """
        if not is_sweep(step) or not any(key[0] == step_key(step)[0] for key in self.taken):
            return False
        return self.claim.pluggy.in_vain or self.claim.generation > self.held.generation

    def _late(self) -> bool:
        return asyncio.get_running_loop().time() > self.until

    async def _item(self) -> Item | Gone | NotRead:
        if _waits(self.held):
            return NotRead()
        look_due = item_look_due(self.held)
        if not look_due and (known := self._held_item()) is not None:
            return known
        self.claim.steps.append("item")
        try:
            item = await sync_item(self.claim)
        except PluggyNotFound as error:
            told = any(event.event == "item/deleted" for event in self.held.events)
            if error.code == ITEM_NOT_FOUND and (told or self.held.item_deleted):
                return Gone()
            raise
        if self.held.item_deleted or look_due:
            await self._look_again()
        return item

    def _held_item(self) -> Item | None:
        """The item as held, if it was fetched after the newest event and nothing was under way.

        Not for a second question: that wants a look of its own.
        """
        held, step = self.held, self.held.step("items")
        if held.item is None or held.item_deleted or step.stamped_at is None:
            return None
        # A look at an empty list is one request: the list's.
        asking = [e for e in held.events if e.event != "sync/confirm" and not asks_nothing(held, e)]
        if not all(is_answered(step.read_seq, e) and not asks_again(e, held) for e in asking):
            return None
        item = read_item(
            decode_object(held.item),
            is_open_finance=held.is_open_finance,
            latest=self.claim.latest,
        )
        recent = abs(held.now - step.stamped_at) < HELD_ITEM_SERVES_FOR
        return item if recent and not item.in_progress else None

    async def _take(self, step: PlannedStep) -> None:
        name, product, account_id = key = step_key(step)
        self.taken.add(key)
        self.claim.steps.append(f"{name} {product} {account_id}")
        state = self.held.step(PRODUCT_OF.get(name, product), account_id)
        self.claim.drift_of = (state.product, account_id) if is_drift(step) else None
        lane = self.claim.lease.lane
        self.claim.pluggy.lane = max(lane, Lane.BACKFILL) if is_sweep(step) else lane
        if not await attempt(self.claim, state, self._work(step)):
            self.failed.add(key)

    def _work(self, step: PlannedStep) -> Awaitable[object]:
        claim = self.claim
        match step:
            case ReadAccounts(source_updated_at):
                return sync_listing(claim, ACCOUNTS, source_updated_at=source_updated_at)
            case ReadProduct(product, account_id, source_updated_at):
                work = sync_listing(
                    claim,
                    LISTINGS[product],
                    source_updated_at=source_updated_at,
                    account_id=account_id,
                )
                return work if account_id == NO_ACCOUNT else unless_gone(claim, account_id, work)
            case ReadInvestmentTransactions(investment_id):
                work = sync_investment_transactions(claim, step)
                return unless_gone(claim, investment_id, work)
            case ReadDelta(account_id):
                return unless_gone(claim, account_id, sync_delta(claim, step))
            case ReadRecent(account_id):
                return unless_gone(claim, account_id, sync_recent(claim, step))
            case AskIds(account_id):
                return unless_gone(claim, account_id, self._ask_ids(step))
            case AskAgain(account_id):
                return unless_gone(claim, account_id, self._ask_again(account_id))
            case AskWalk():
                return ask_walk(self.claim, step)
            case BuryItem():
                return bury_item(self.claim)

    async def _ask_ids(self, step: AskIds) -> None:
        # Of an id that several events name it counts most that it is deleted.
        event_ids = sorted(step.event_ids, key=lambda event_id: event_id not in step.deleting)
        ids = OpenIds(self.claim, deque(event_ids))
        try:
            await sync_ids(self.claim, step, ids, until=self.until - LAST_BLOCK_FOR_S)
        finally:
            self.answered = self.answered.with_(ids.answered)
        if not self.answered.events.issuperset(step.event_ids):
            self.unfinished.add(step_key(step))

    async def _ask_again(self, account_id: uuid.UUID) -> None:
        if await ask_again(self.claim, account_id):
            self.answered = self.answered.with_(Answered(again=frozenset({account_id})))

    def _repeats(self, current: SyncPlan) -> bool:
        """Whether a step is wanted again that went well.

        One that failed or was put off may be due again already, one with thousands of ids is, and
        so may be the next look at what contradicts an event.
        """
        if any(outcome.confirming for outcome in current.outcomes.values()):
            return False
        again = {step_key(step) for step in current.steps} - self.failed - self.unfinished
        return any((product, owner) not in self.claim.put_off for _, product, owner in again)

    def _stuck(self, current: SyncPlan) -> SyncPlan:
        """Steps that were taken and are still wanted: a fault of ours, which must not spin."""
        log.error("no_progress", steps=[type(step).__name__ for step in current.steps])
        later = self.held.now + NO_PROGRESS_PAUSE
        outcomes = {
            event_id: replace(o, due_at=later)
            if o.state == "pending" and o.due_at is not None and o.due_at < later
            else o
            for event_id, o in current.outcomes.items()
        }
        return SyncPlan((), outcomes)


def _waits(held: Held) -> bool:
    """Whether the item itself may not be fetched now: backed off, or dead of all these events."""
    step = held.step("items")
    told = any(event.event == "item/deleted" for event in held.events)
    if told and step.failure_code == ITEM_NOT_FOUND:
        return False  # what others died of is the answer that item/deleted asks for
    if step.dead_at is not None:
        return all(is_answered(step.dead_seq, event) for event in held.events)
    return step.next_try_at is not None and step.next_try_at > held.now
