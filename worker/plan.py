"""What to do about an item: a pure function from item, events and what we hold to a SyncPlan.

It is asked again after every round of steps: a step that has committed shows in what we hold, so
the plan shrinks until only outcomes are left.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from worker.events import TRANSACTION_EVENTS, Lane
from worker.held import NO_ACCOUNT, Held, PendingEvent, Step
from worker.plan_confirmations import (
    ACCOUNTS,
    ITEM,
    Thing,
    brought_nothing,
    first_look_due,
    has_no_account,
    has_not_moved,
    key_of,
    next_look,
    schedule_of,
)
from worker.plan_half_readable import (
    has_unreadable_ids,
    is_newest_unreadable,
    next_walk_at,
    waits_for_newer,
)
from worker.plan_stamps import (
    delta_from,
    finds_drift,
    has_read_created,
    is_answered,
    is_later,
    is_long_before,
    is_wide_due,
    owes_recent,
)
from worker.plan_steps import (
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
    merge_steps,
)
from worker.pluggy_item import Item

ASK_AGAIN_AFTER: Final = timedelta(minutes=5)
SUPERSEDED_AFTER: Final = timedelta(hours=24)
SHORTEST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=1)
RECENT: Final = timedelta(days=14)
RECENT_EVERY: Final = timedelta(hours=20)
"""Once a day beside an item/updated: the next one comes a day later, but never on the dot."""

PRODUCT_PARKED: Final = "product_parked"
LISTED_BY_ITEM: Final = ("investments", "loans", "identities", "consents")
QUIET_EVENTS: Final = frozenset(
    {"item/login_succeeded", "item/waiting_user_input", "item/waiting_user_action"}
)
SAY_NOTHING: Final = QUIET_EVENTS | {"item/error", "sync/recent"}
"""Of these none says by itself that something was collected."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event is after this sync. due_at and lane: when a pending one is looked at again."""

    state: str
    reason: str | None = None
    error_id: str | None = None
    ask_again_at: datetime | None = None
    due_at: datetime | None = None
    lane: Lane = Lane.RETRY
    confirming: str | None = None
    confirming_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Steps to take now, and each event's outcome as things stand."""

    steps: Sequence[PlannedStep]
    outcomes: Mapping[int, Outcome]
    parked: frozenset[tuple[str, uuid.UUID]] = frozenset()
    """Steps that are wanted, but left out because their product is parked."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Events whose ids were all asked for in this claim, and those of which some came back.

    again: accounts of which rows that are flagged for want of a witness were asked for.
    """

    events: frozenset[int] = frozenset()
    came_back: frozenset[int] = frozenset()
    again: frozenset[uuid.UUID] = frozenset()

    def with_(self, more: Answered) -> Answered:
        """Both together."""
        return Answered(
            self.events | more.events,
            self.came_back | more.came_back,
            self.again | more.again,
        )


@dataclass(slots=True)
class _Needs:
    """What one event still needs: steps to take, or reasons to wait, or nothing."""

    steps: list[PlannedStep] = field(default_factory=list)
    waits: list[datetime] = field(default_factory=list)
    walking: bool = False
    dead: Step | None = None
    reason: str | None = None
    keeps_lane: bool = False
    """It waits for a limit, which says nothing about it: it goes on where it stood."""
    lacks: bool = False
    """Something that the event asks for is of a parked product."""
    parked: set[tuple[str, uuid.UUID]] = field(default_factory=set)
    confirming: tuple[str, datetime] | None = None

    @property
    def nothing(self) -> bool:
        """Whether all that was wanted is done."""
        return not (self.steps or self.waits or self.walking or self.dead or self.lacks)


def plan(
    item: Item | Gone | NotRead,
    held: Held,
    answered: Answered = Answered(),
    *,
    products: Iterable[str] = ("items", "accounts", "transactions"),
) -> SyncPlan:
    """Decide. The same arguments always give the same plan."""
    planner = _Planner(held, answered, frozenset(products))
    steps: list[PlannedStep] = []
    outcomes: dict[int, Outcome] = {}
    parked: set[tuple[str, uuid.UUID]] = set()
    for event in held.events:
        found = planner.decide(event, item)
        if isinstance(found, _Needs):
            steps += found.steps
            parked |= found.parked
            found = _outcome(found, event, held.now)
        outcomes[event.id] = found
    return SyncPlan(merge_steps(steps), outcomes, frozenset(parked))


def doubling_pause(age: timedelta) -> timedelta:
    """As long again as it already took, between 30 s and 1 h: doubles without a stored counter."""
    return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, age))


@dataclass(frozen=True, slots=True)
class _Planner:
    held: Held
    answered: Answered
    products: frozenset[str]

    def decide(self, event: PendingEvent, item: Item | Gone | NotRead) -> Outcome | _Needs:
        if isinstance(item, NotRead):
            return self._decide_not_read(event)
        if isinstance(item, Gone):
            return self._decide_gone(event)
        if event.ask_again_at is not None and event.ask_again_at > self.held.now:
            return self._decide_waiting(event, event.ask_again_at)
        if event.event == "item/deleted":
            return self._decide_deletion_denied(event)
        if event.event in TRANSACTION_EVENTS and event.account_id is not None:
            return self._decide_transactions(event, item)
        if event.event == "sync/deletions" and self._accounts_known():
            return self._decide_deletions(event)
        if event.event == "sync/recent" and self._accounts_known():
            return self._decide_recent(event, item)
        if event.event == "sync/confirm" and self._accounts_known():
            return self._decide_first_looks(event, item)
        return self._decide_item_event(event, item)

    def _decide_gone(self, event: PendingEvent) -> Outcome | _Needs:
        told = any(e.event == "item/deleted" for e in self.held.events)
        if self.held.item is None and told:
            return Outcome("ignored", "item_unknown")
        if self.held.item_deleted:
            is_deletion = event.event == "item/deleted"
            return Outcome("applied") if is_deletion else Outcome("ignored", "item_deleted")
        if told:
            return _Needs(steps=[BuryItem()])
        # Without item/deleted a 404 is a failure of the item step: the engine has recorded it.
        return self._decide_not_read(event)

    def _decide_not_read(self, event: PendingEvent) -> Outcome | _Needs:
        """Wait for the item, or die with it; a pause that is over by now is due at once."""
        needs = _Needs()
        if not self._blocked(needs, self.held.step("items"), event):
            needs.waits.append(self.held.now)
        return needs

    def _decide_waiting(self, event: PendingEvent, until: datetime) -> Outcome:
        if waits_for_newer(self.held, event):
            return Outcome("ignored", "superseded")
        return Outcome("pending", ask_again_at=until, due_at=until)

    def _decide_deletion_denied(self, event: PendingEvent) -> Outcome:
        if event.ask_again_at is None:
            again = self.held.now + ASK_AGAIN_AFTER
            return Outcome("pending", ask_again_at=again, due_at=again)
        return Outcome("ignored", "item_still_exists", ask_again_at=event.ask_again_at)

    def _decide_item_event(self, event: PendingEvent, item: Item) -> Outcome | _Needs:
        if event.event in QUIET_EVENTS and self._accounts_known():
            return Outcome("applied")
        if item.in_progress and not self._verifies_anyway(event):
            # The alarm has looked; when it looks again is said by the item, not by this event.
            silent = event.event == "sync/silence" and self._accounts_known()
            return Outcome("applied") if silent else self._hold_back(event)
        needs = _Needs()
        accounts = self.held.step("accounts")
        if self._read_wanted(event, accounts, item.source_updated_at("accounts")):
            self._want_accounts(needs, event, item)
        if not needs.steps and self._accounts_proven():
            self._want_all_transactions(needs, event, item)
            self._want_bills(needs, event, item)
        for product in LISTED_BY_ITEM:
            if product != "consents" or item.is_open_finance:
                self._want_product(needs, event, item, product)
        if not any(isinstance(s, ReadProduct) and s.product == "investments" for s in needs.steps):
            self._want_investment_transactions(needs, event, item)
        if needs.nothing and has_no_account(self.held, event):
            self._confirm(needs, event, item, ACCOUNTS, since=accounts.first_read_at)
        elif needs.nothing and has_not_moved(self.held, event):
            self._confirm(needs, event, item, ITEM)
        return needs

    def _confirm(
        self,
        needs: _Needs,
        event: PendingEvent,
        item: Item,
        thing: Thing,
        *,
        since: datetime | None = None,
    ) -> bool:
        """Look again at what contradicts the event; False: the last look has been made."""
        step = self.held.step(*thing)
        since = since or schedule_of(self.held, event, thing)
        look_at = next_look(since, step.stamped_at)
        if look_at is None:
            return False
        needs.confirming = key_of(thing), since
        if look_at > self.held.now or thing == ITEM:
            # The item itself is fetched before anything is planned.
            needs.waits.append(max(look_at, self.held.now))
        elif thing == ACCOUNTS:
            self._want_accounts(needs, event, item)
        else:
            source_updated_at = item.source_updated_at("transactions")
            self._want_delta(needs, event, step, source_updated_at, expects_rows=False)
        return True

    def _decide_first_looks(self, event: PendingEvent, item: Item) -> _Needs:
        """Lists that were empty at their first read, and overlaps, as far as they are due."""
        needs = _Needs()
        self._want_overlaps(needs, event, item)
        if item.in_progress:
            return needs  # what follows a collection reads these lists as well
        for step in self.held.steps.values():
            if step.product not in self.products or not first_look_due(self.held, step):
                continue
            source_updated_at = item.source_updated_at(step.product)
            if step.product == "transactions":
                self._want_walk(needs, event, step, Lane.RETRY, source_updated_at)
            elif not self._blocked(needs, step, event):
                read = ReadProduct(step.product, step.account_id, source_updated_at)
                needs.steps.append(read)
        if needs.nothing:
            self._want_investment_transactions(needs, event, item)
        return needs

    def _want_overlaps(self, needs: _Needs, event: PendingEvent, item: Item) -> None:
        """Also while a collection is under way: they are read within the hour."""
        if "transactions" not in self.products:
            return
        for account_id in self.held.live_accounts:
            step = self.held.step("transactions", account_id)
            if step.watermark is not None and is_wide_due(step, self.held.now):
                self._want_delta(needs, event, step, item.source_updated_at("transactions"))

    def _want_bills(self, needs: _Needs, event: PendingEvent, item: Item) -> None:
        for account_id in self.held.live_cards:
            self._want_product(needs, event, item, "bills", account_id)

    def _want_product(
        self,
        needs: _Needs,
        event: PendingEvent,
        item: Item,
        product: str,
        account_id: uuid.UUID = NO_ACCOUNT,
    ) -> None:
        if product not in self.products:
            return
        step = self.held.step(product, account_id)
        source_updated_at = item.source_updated_at(product)
        if self._read_wanted(event, step, source_updated_at) and not self._blocked(
            needs, step, event
        ):
            verifies = finds_drift(event, step, source_updated_at)
            needs.steps.append(ReadProduct(product, account_id, source_updated_at, verifies))

    def _want_investment_transactions(
        self, needs: _Needs, event: PendingEvent, item: Item, *, sweeps: bool = True
    ) -> None:
        """Movements by the rule of all products, those first whose investment itself has changed.

        An interest, a tax or a correction may show in no field of the investment: so all others
        are swept after each collection too, and the event is not settled before.
        """
        product = "investment_transactions"
        if product not in self.products or "investments" not in self.products:
            return
        if self.held.step("investments").deferred_since is not None:
            return  # their list came back suspiciously empty: the single ones prove nothing either
        source_updated_at = item.source_updated_at(product)
        found: list[ReadInvestmentTransactions] = []
        for investment in self.held.investments:
            step = self.held.step(product, investment.id)
            same = step.fingerprint == investment.fingerprint
            if same and not (sweeps and self._read_wanted(event, step, source_updated_at)):
                continue
            if not self._blocked(needs, step, event):
                found.append(
                    ReadInvestmentTransactions(
                        investment.id,
                        investment.fingerprint,
                        source_updated_at,
                        verifies=same and finds_drift(event, step, source_updated_at),
                        sweeps=same,
                    )
                )
        found.sort(key=lambda planned: planned.sweeps)
        needs.steps += found

    def _read_wanted(
        self, event: PendingEvent, step: Step, source_updated_at: datetime | None
    ) -> bool:
        """Never read, collected since, or asked for by a verify."""
        if step.stamped_at is None:
            return True
        if event.event == "sync/verify":
            return not is_answered(step.read_seq, event)
        return self._is_collected_since(event, step, source_updated_at)

    def _is_collected_since(
        self, event: PendingEvent, step: Step, source_updated_at: datetime | None
    ) -> bool:
        """Whether Pluggy has collected a product after our last complete read of it.

        If Pluggy does not say when, each event that may mean it is believed, and the silence alarm,
        which means nothing by itself, once a day.
        """
        if source_updated_at is not None:
            return is_later(source_updated_at, step)
        if event.event in SAY_NOTHING or is_answered(step.read_seq, event):
            return False
        read_at = step.stamped_at
        recent = read_at is not None and self.held.now - read_at < RECENT_EVERY
        return event.event != "sync/silence" or not recent

    def _verifies_anyway(self, event: PendingEvent) -> bool:
        """Put off for a day by collections, a verify would miss its week; half a collection harms
        nothing, for absence is proven by id."""
        age = self.held.now - event.pending_since
        return event.event == "sync/verify" and self._accounts_known() and age >= SUPERSEDED_AFTER

    def _hold_back(self, event: PendingEvent) -> Outcome:
        age = self.held.now - event.pending_since
        if age >= SUPERSEDED_AFTER:
            return Outcome("ignored", "superseded")
        return Outcome(
            "pending", "collection_in_progress", due_at=self.held.now + doubling_pause(age)
        )

    def _want_accounts(self, needs: _Needs, event: PendingEvent, item: Item) -> None:
        step, source_updated_at = self.held.step("accounts"), item.source_updated_at("accounts")
        if not self._blocked(needs, step, event):
            verifies = finds_drift(event, step, source_updated_at)
            needs.steps.append(ReadAccounts(source_updated_at, verifies))

    def _accounts_known(self) -> bool:
        return self.held.step("accounts").stamped_at is not None

    def _accounts_proven(self) -> bool:
        """False while the account list came back suspiciously empty: then deltas prove nothing."""
        return self.held.step("accounts").deferred_since is None

    def _want_all_transactions(self, needs: _Needs, event: PendingEvent, item: Item) -> None:
        if "transactions" not in self.products:
            return
        source_updated_at = item.source_updated_at("transactions")
        for account_id in self.held.live_accounts:
            step = self.held.step("transactions", account_id)
            if step.watermark is None:
                lane = Lane.AUDIT if event.event == "sync/verify" else Lane.BACKFILL
                self._want_walk(needs, event, step, lane, source_updated_at)
            elif event.event == "sync/verify":
                if not is_answered(step.walked_seq, event):
                    self._want_walk(needs, event, step, Lane.AUDIT, source_updated_at)
            elif self._is_collected_since(event, step, source_updated_at):
                self._want_delta(needs, event, step, source_updated_at)
            elif self._recent_due(step):
                self._want_recent(needs, event, step)

    def _decide_recent(self, event: PendingEvent, item: Item) -> Outcome | _Needs:
        if "transactions" not in self.products:
            return Outcome("ignored", "product_not_enabled")
        if item.in_progress:
            return self._hold_back(event)
        needs = _Needs()
        for account_id in self.held.live_accounts:
            step = self.held.step("transactions", account_id)
            # Once read, a delta that another event wants in the same sync asks for no second time.
            if owes_recent(step) and not is_answered(step.recent_seq, event):
                self._want_recent(needs, event, step)
        return needs

    def _decide_deletions(self, event: PendingEvent) -> Outcome | _Needs:
        if "transactions" not in self.products:
            return Outcome("ignored", "product_not_enabled")
        needs = _Needs()
        live = set(self.held.unwitnessed).intersection(self.held.live_accounts)
        for account_id in sorted(live - self.answered.again):
            if not self._blocked(needs, self.held.step("transactions", account_id), event):
                needs.steps.append(AskAgain(account_id))
        return needs

    def _recent_due(self, step: Step) -> bool:
        """Once a day, and never while a walk of the account covers it."""
        walk = self.held.walks.get(step.account_id)
        if not owes_recent(step) or (walk is not None and walk.kind != "recent"):
            return False
        return step.recent_at is None or self.held.now - step.recent_at >= RECENT_EVERY

    def _want_recent(self, needs: _Needs, event: PendingEvent, step: Step) -> None:
        if self._blocked(needs, step, event):
            return
        if step.account_id in self.held.walks and step.dead_at is None:
            needs.walking = True
            return
        needs.steps.append(ReadRecent(step.account_id, (self.held.now - RECENT).date()))

    def _decide_transactions(self, event: PendingEvent, item: Item) -> Outcome | _Needs:
        if "transactions" not in self.products:
            return Outcome("ignored", "product_not_enabled")
        assert event.account_id is not None  # noqa: S101 - the receiver keeps only readable ones
        needs = _Needs()
        accounts = self.held.step("accounts")
        account = self.held.accounts.get(event.account_id)
        if account is None or not account.live:
            if not is_answered(accounts.read_seq, event):
                self._want_accounts(needs, event, item)
                return needs
            if account is None and self._confirm(needs, event, item, ACCOUNTS):
                return needs
            if account is None:
                return Outcome("dead", "account_not_of_item")
            return Outcome("ignored", "account_deleted")
        if event.event == "transactions/created":
            self._want_created(needs, event, item)
            if needs.nothing and brought_nothing(self.held, event):
                self._confirm(needs, event, item, ("transactions", event.account_id))
        elif isinstance(answer := self._want_ids(needs, event, item), Outcome):
            return answer
        self._want_first_reads(needs, event, item)
        return needs

    def _want_first_reads(self, needs: _Needs, event: PendingEvent, item: Item) -> None:
        """Any event of an item not read yet brings all of it, but waits for its own part only."""
        others = _Needs()
        for account_id in self.held.live_accounts:
            step = self.held.step("transactions", account_id)
            if step.watermark is None and account_id not in self.held.walks:
                source_updated_at = item.source_updated_at("transactions")
                self._want_walk(others, event, step, Lane.BACKFILL, source_updated_at)
        unread = [p for p in LISTED_BY_ITEM if self.held.step(p).stamped_at is None]
        for product in unread:
            if product != "consents" or item.is_open_finance:
                self._want_product(others, event, item, product)
        for account_id in self.held.live_cards:
            if self.held.step("bills", account_id).stamped_at is None:
                self._want_product(others, event, item, "bills", account_id)
        if "investments" not in unread:
            self._want_investment_transactions(others, event, item, sweeps=False)
        needs.steps += others.steps
        needs.parked |= others.parked

    def _want_created(self, needs: _Needs, event: PendingEvent, item: Item) -> None:
        assert event.account_id is not None  # noqa: S101 - checked by the caller
        step = self.held.step("transactions", event.account_id)
        source_updated_at = item.source_updated_at("transactions")
        if step.watermark is None:
            self._want_walk(needs, event, step, Lane.BACKFILL, source_updated_at)
        elif is_long_before(event.created_at_from, step.watermark):
            if not is_answered(step.walked_seq, event):
                self._want_walk(needs, event, step, Lane.AUDIT, source_updated_at)
        elif not has_read_created(step, event):
            self._want_delta(needs, event, step, source_updated_at)

    def _want_ids(self, needs: _Needs, event: PendingEvent, item: Item) -> Outcome | None:
        assert event.account_id is not None  # noqa: S101 - checked by the caller
        step = self.held.step("transactions", event.account_id)
        if event.ids_open and event.id not in self.answered.events:
            if not self._blocked(needs, step, event):
                ids = (event.id,)
                deleting = frozenset(ids if event.event == "transactions/deleted" else ())
                needs.steps.append(AskIds(event.account_id, ids, event.ids_open, deleting))
            return None
        came_back = event.ids_came_back or event.id in self.answered.came_back
        if event.event == "transactions/deleted" and came_back and event.ask_again_at is None:
            again = self.held.now + ASK_AGAIN_AFTER
            return Outcome("pending", ask_again_at=again, due_at=again)
        if has_unreadable_ids(event) and not is_answered(step.walked_seq, event):
            return self._want_unreadable(needs, event, step, item)
        return None

    def _want_unreadable(
        self, needs: _Needs, event: PendingEvent, step: Step, item: Item
    ) -> Outcome | None:
        """A walk of the account instead of the ids that cannot be read, at most one a day."""
        source_updated_at = item.source_updated_at("transactions")
        again = next_walk_at(self.held, step)
        if step.watermark is None:
            self._want_walk(needs, event, step, Lane.BACKFILL, source_updated_at)
        elif again is None or step.account_id in self.held.walks:
            self._want_walk(needs, event, step, Lane.AUDIT, source_updated_at, for_unreadable=True)
        elif not is_newest_unreadable(self.held, event):
            return Outcome("ignored", "superseded")
        else:
            return Outcome("pending", ask_again_at=again, due_at=again, lane=Lane.AUDIT)
        return None

    def _want_delta(
        self,
        needs: _Needs,
        event: PendingEvent,
        step: Step,
        source_updated_at: datetime | None,
        *,
        expects_rows: bool | None = None,
    ) -> None:
        walk = self.held.walks.get(step.account_id)
        if self._blocked(needs, step, event):
            return
        if walk is not None and walk.kind == "delta" and step.dead_at is None:
            needs.walking = True
            return
        since = min([delta_from(step, self.held.now), *self._told_from(step)])
        needs.steps.append(
            ReadDelta(
                step.account_id,
                since,
                event.announces_rows if expects_rows is None else expects_rows,
                source_updated_at,
            )
        )

    def _told_from(self, step: Step) -> list[datetime]:
        """From where all open events say that rows begin, answered already or not.

        The stamp of a later start would ask an answered one's question again.
        """
        assert step.watermark is not None  # noqa: S101 - a delta starts at one
        return [
            e.created_at_from
            for e in self.held.events
            if e.account_id == step.account_id and e.created_at_from is not None
            if not is_long_before(e.created_at_from, step.watermark)
        ]

    def _want_walk(
        self,
        needs: _Needs,
        event: PendingEvent,
        step: Step,
        lane: Lane,
        source_updated_at: datetime | None,
        *,
        for_unreadable: bool = False,
    ) -> None:
        if step.account_id in self.held.walks and step.dead_at is None:
            # One walk of an account at a time; when it has ended this event is planned again.
            needs.walking = True
        elif not self._blocked(needs, step, event):
            expects = event.announces_rows
            verifies = finds_drift(event, step, source_updated_at)
            needs.steps.append(
                AskWalk(step.account_id, lane, expects, source_updated_at, verifies, for_unreadable)
            )

    def _blocked(self, needs: _Needs, step: Step, event: PendingEvent) -> bool:
        """Whether a step may not run now: parked, backed off (no event hurries it), or dead."""
        if step.product in self.held.parked:
            needs.parked.add((step.product, step.account_id))
            needs.lacks = True
            return True
        if step.dead_at is not None:
            if is_answered(step.dead_seq, event):
                needs.dead = step
                return True
            return False
        if step.next_try_at is not None and step.next_try_at > self.held.now:
            needs.waits.append(step.next_try_at)
            limited = step.attempts == 0 and step.deferred_since is None
            needs.keeps_lane |= limited and self.held.item is not None
            return True
        return False


def _outcome(needs: _Needs, event: PendingEvent, now: datetime) -> Outcome:
    found = _outcome_of(needs, event, now)
    if found.state not in ("pending", "walking"):
        return found
    # What is contradicted stays so while something else has to be read first.
    confirming, since = needs.confirming or (event.confirming, event.confirming_since)
    return replace(found, confirming=confirming, confirming_since=since)


def _outcome_of(needs: _Needs, event: PendingEvent, now: datetime) -> Outcome:
    if needs.steps:
        # What a claim has no time for of a sweep goes on behind live work.
        sweeps = all(isinstance(s, ReadInvestmentTransactions) and s.sweeps for s in needs.steps)
        lane = max(Lane(event.lane), Lane.BACKFILL) if sweeps else Lane(event.lane)
        return Outcome("pending", due_at=now, lane=lane, ask_again_at=event.ask_again_at)
    if needs.waits:
        lane = Lane(event.lane) if needs.keeps_lane else Lane.RETRY
        due_at, again = min(needs.waits), event.ask_again_at
        return Outcome("pending", due_at=due_at, ask_again_at=again, lane=lane)
    if needs.walking:
        return Outcome("walking")
    if needs.dead is not None:
        return Outcome("dead", needs.dead.failure_code, error_id=needs.dead.error_id)
    if needs.lacks and event.event in TRANSACTION_EVENTS:
        return Outcome("ignored", PRODUCT_PARKED)  # until it is parked no longer
    return Outcome("applied", ask_again_at=event.ask_again_at)
