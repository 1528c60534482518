"""Decide the reads that an event still needs: not done since, not blocked, not already running."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from worker.entities.declaration import Scope
from worker.entities.registry import LISTED_BY_ACCOUNT, LISTED_BY_ITEM
from worker.infra.lanes import Lane
from worker.planner.confirmations import ACCOUNTS, ITEM, Thing, key_of, next_recheck, schedule_of
from worker.planner.freshness import delta_from, is_answered, is_later, is_long_before, owes_recent
from worker.planner.item_status import Item
from worker.planner.outcomes import Answered, Needs
from worker.planner.state import WHOLE_ITEM, ItemState, PendingEvent, Step
from worker.planner.steps import (
    AskWalk,
    ReadAccounts,
    ReadDelta,
    ReadInvestmentTransactions,
    ReadProduct,
    ReadRecent,
)

RECENT_DAYS: Final = timedelta(days=14)
RECENT_INTERVAL: Final = timedelta(hours=20)
"""Interval of recent reads: with daily collections once a day, as those vary in time."""
QUIET_EVENTS: Final = frozenset(
    {"item/login_succeeded", "item/waiting_user_input", "item/waiting_user_action"}
)
SAY_NOTHING: Final = QUIET_EVENTS | {"item/error", "sync/recent"}
"""Events that do not mean that anything was collected."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads that one event needs; shared by all kinds of events.

    item: as it was fetched, or empty. needs: what is left to do; filled by the methods `want_*`.
    """

    item_state: ItemState
    answered: Answered
    products: frozenset[str]
    event: PendingEvent
    item: Item
    needs: Needs = field(default_factory=Needs)

    @property
    def accounts_known(self) -> bool:
        """Whether the list of accounts was ever read completely."""
        return not self.is_unread("accounts")

    @property
    def accounts_proven(self) -> bool:
        """False while the account list is suspiciously empty: then deltas prove nothing."""
        return self.item_state.step("accounts").deferred_since is None

    def read_wanted(self, step: Step) -> bool:
        """Whether a product was never read, was collected since, or must be verified."""
        if step.complete_read_at is None:
            return True
        if self.event.event == "sync/verify":
            return not is_answered(step.read_seq, self.event)
        return self.is_collected_since(step)

    def is_collected_since(self, step: Step) -> bool:
        """Whether Pluggy has collected a product after our last complete read of it.

        Without a collection time, every event that may mean a collection counts; a missed-webhook
        check, which does not, counts once a day.
        """
        source_updated_at = self.item.source_updated_at(step.product)
        if source_updated_at is not None:
            return is_later(source_updated_at, step)
        if self.event.event in SAY_NOTHING or is_answered(step.read_seq, self.event):
            return False
        read_at = step.complete_read_at
        recent = read_at is not None and self.item_state.now - read_at < RECENT_INTERVAL
        return self.event.event != "sync/missed-webhook-check" or not recent

    def finds_drift(self, step: Step) -> bool:
        """Whether changes found by a verify are drift: no unread collection explains them."""
        known = step.complete_read_at is not None and step.source_updated_at is not None
        is_collection_new = is_later(self.item.source_updated_at(step.product), step)
        return self.event.event == "sync/verify" and known and not is_collection_new

    def recent_due(self, step: Step) -> bool:
        """Whether the recent days are due: once a day, and not while a walk covers them."""
        walk = self.item_state.walks.get(step.scope_id)
        if not owes_recent(step) or (walk is not None and walk.kind != "recent"):
            return False
        return step.recent_at is None or self.item_state.now - step.recent_at >= RECENT_INTERVAL

    def want_accounts(self) -> None:
        """Add the list of accounts, unless it is blocked."""
        step = self.item_state.step("accounts")
        if not self.blocked(step):
            source_updated_at = self.item.source_updated_at("accounts")
            self.needs.steps.append(ReadAccounts(source_updated_at, self.finds_drift(step)))

    def want_product(self, product: str, scope_id: uuid.UUID = WHOLE_ITEM) -> None:
        """Add one list of the item, or of one account, if it is due."""
        step = self.item_state.step(product, scope_id)
        if product in self.products and self.read_wanted(step) and not self.blocked(step):
            source_updated_at = self.item.source_updated_at(product)
            read = ReadProduct(product, scope_id, source_updated_at, self.finds_drift(step))
            self.needs.steps.append(read)

    def want_lists_of_item(self, *, only_unread: bool = False) -> None:
        """Add the due lists of the item, other than its accounts."""
        for listing in LISTED_BY_ITEM:
            if listing.scope == Scope.ITEM_WITH_CONSENTS and not self.item.has_consents:
                continue
            if not only_unread or self.is_unread(listing.product):
                self.want_product(listing.product)

    def want_lists_of_accounts(self, *, only_unread: bool = False) -> None:
        """Add the due lists of each account that has them."""
        for listing in LISTED_BY_ACCOUNT:
            for account_id in self.item_state.accounts_with(listing.scope):
                if not only_unread or self.is_unread(listing.product, account_id):
                    self.want_product(listing.product, account_id)

    def is_unread(self, product: str, scope_id: uuid.UUID = WHOLE_ITEM) -> bool:
        """Whether a list was never read completely."""
        return self.item_state.step(product, scope_id).complete_read_at is None

    def want_investment_transactions(self, *, sweeps: bool = True) -> None:
        """Add due investment transactions, first those of changed investments.

        Interest, taxes or corrections may change no field of the investment, so after each
        collection all others are read too (sweeps), before the event is settled.
        """
        product = "investment_transactions"
        if product not in self.products or "investments" not in self.products:
            return
        if self.item_state.step("investments").deferred_since is not None:
            return  # their list is suspiciously empty: single investments prove nothing either
        source_updated_at = self.item.source_updated_at(product)
        found: list[ReadInvestmentTransactions] = []
        for investment in self.item_state.investments:
            step = self.item_state.step(product, investment.id)
            same = step.fingerprint == investment.fingerprint
            if same and not (sweeps and self.read_wanted(step)):
                continue
            if not self.blocked(step):
                verifies = same and self.finds_drift(step)
                found.append(
                    ReadInvestmentTransactions(
                        investment.id, investment.fingerprint, source_updated_at, verifies, same
                    )
                )
        found.sort(key=lambda planned: planned.sweeps)
        self.needs.steps += found

    def want_delta(self, step: Step, *, expects_rows: bool | None = None) -> None:
        """Add a delta from the account's watermark; a running delta walk replaces it."""
        walk = self.item_state.walks.get(step.scope_id)
        if self.blocked(step):
            return
        if walk is not None and walk.kind == "delta" and step.dead_at is None:
            self.needs.walking = True
            return
        since = min([delta_from(step, self.item_state.now), *self._announced_from(step)])
        expects = self.event.announces_rows if expects_rows is None else expects_rows
        source_updated_at = self.item.source_updated_at(step.product)
        self.needs.steps.append(ReadDelta(step.scope_id, since, expects, source_updated_at))

    def _announced_from(self, step: Step) -> list[datetime]:
        """Starts of the rows that all open events announce, answered or not.

        A later start would be stored and make an answered event unanswered again.
        """
        assert step.watermark is not None  # noqa: S101 - a delta starts at one
        return [
            e.created_at_from
            for e in self.item_state.events
            if e.account_id == step.scope_id and e.created_at_from is not None
            if not is_long_before(e.created_at_from, step.watermark)
        ]

    def want_walk(self, step: Step, lane: Lane, *, for_unreadable: bool = False) -> None:
        """Add a walk of all rows of an account, or wait for the running one."""
        if step.scope_id in self.item_state.walks and step.dead_at is None:
            # One walk of an account at a time; when it has ended this event is planned again.
            self.needs.walking = True
        elif not self.blocked(step):
            expects, verifies = self.event.announces_rows, self.finds_drift(step)
            source_updated_at = self.item.source_updated_at(step.product)
            self.needs.steps.append(
                AskWalk(step.scope_id, lane, expects, source_updated_at, verifies, for_unreadable)
            )

    def want_recent(self, step: Step) -> None:
        """Add a read of the account's last 14 days; a running walk replaces it."""
        if self.blocked(step):
            return
        if step.scope_id in self.item_state.walks and step.dead_at is None:
            self.needs.walking = True
            return
        since = (self.item_state.now - RECENT_DAYS).date()
        self.needs.steps.append(ReadRecent(step.scope_id, since))

    def want_first_reads(self) -> None:
        """Add the first reads of the whole item; the event itself waits only for its own part."""
        others = replace(self, needs=Needs())
        steps = self.item_state.transaction_steps if "transactions" in self.products else []
        for step in steps:
            if step.watermark is None and step.scope_id not in self.item_state.walks:
                others.want_walk(step, Lane.BACKFILL)
        others.want_lists_of_item(only_unread=True)
        others.want_lists_of_accounts(only_unread=True)
        if not self.is_unread("investments"):
            others.want_investment_transactions(sweeps=False)
        self.needs.steps += others.needs.steps
        self.needs.parked |= others.needs.parked

    def confirm(self, thing: Thing, *, since: datetime | None = None) -> bool:
        """Add the next recheck of a contradicting answer; False: all rechecks have been made."""
        step, now = self.item_state.step(*thing), self.item_state.now
        since = since or schedule_of(self.item_state, self.event, thing)
        recheck_at = next_recheck(since, step.complete_read_at)
        if recheck_at is None:
            return False
        self.needs.confirming = key_of(thing), since
        if recheck_at > now or thing == ITEM:
            # The item itself is fetched before anything is planned.
            self.needs.waits.append(max(recheck_at, now))
        elif thing == ACCOUNTS:
            self.want_accounts()
        else:
            self.want_delta(step, expects_rows=False)
        return True

    def blocked(self, step: Step) -> bool:
        """Whether a step cannot run now: parked, backing off, or dead. Notes the reason."""
        if step.product in self.item_state.parked:
            self.needs.parked.add((step.product, step.scope_id))
            self.needs.lacks = True
            return True
        if step.dead_at is not None:
            if is_answered(step.dead_seq, self.event):
                self.needs.dead = step
                return True
            return False
        if step.next_try_at is not None and step.next_try_at > self.item_state.now:
            self.needs.waits.append(step.next_try_at)
            limited = step.attempts == 0 and step.deferred_since is None
            self.needs.keeps_lane |= limited and self.item_state.item is not None
            return True
        return False
