"""Plan our own events about part of an item: first rechecks, recent days, deletion candidates."""

from __future__ import annotations

from worker.inbox.events import READ_ACCOUNTS
from worker.infra.lanes import Lane
from worker.planner.confirmations import first_recheck_due
from worker.planner.due_reads import Reads
from worker.planner.freshness import is_answered, is_wide_due, owes_recent
from worker.planner.item_status import Item
from worker.planner.outcomes import Needs, Outcome, hold_back
from worker.planner.state import ItemState, PendingEvent
from worker.planner.steps import AskAgain, ReadProduct
from worker.planner.transaction_events import want_first_reads


def decide_first_rechecks(reads: Reads, event: PendingEvent, item: Item) -> Needs:
    """Read again lists that were empty at their first read, and overlaps, as far as due."""
    needs = Needs()
    _want_overlaps(reads, needs, event, item)
    if item.in_progress:
        return needs  # the events after the collection read these lists too
    for step in reads.item_state.steps.values():
        if step.product not in reads.products or not first_recheck_due(reads.item_state, step):
            continue
        source_updated_at = item.source_updated_at(step.product)
        if step.product == "transactions":
            reads.want_walk(needs, event, step, Lane.RETRY, source_updated_at)
        elif not reads.blocked(needs, step, event):
            read = ReadProduct(step.product, step.scope_id, source_updated_at)
            needs.steps.append(read)
    if needs.nothing:
        reads.want_investment_transactions(needs, event, item)
    return needs


def _want_overlaps(reads: Reads, needs: Needs, event: PendingEvent, item: Item) -> None:
    """Add due overlaps, even during a collection: they must be read within the hour."""
    if "transactions" not in reads.products:
        return
    for account_id in reads.item_state.live_accounts:
        step = reads.item_state.step("transactions", account_id)
        if step.watermark is not None and is_wide_due(step, reads.item_state.now):
            reads.want_delta(needs, event, step, item.source_updated_at("transactions"))


def decide_recent(reads: Reads, event: PendingEvent, item: Item) -> Outcome | Needs:
    """Read the recent days of each account, unless done since the event."""
    if "transactions" not in reads.products:
        return Outcome("ignored", "product_not_enabled")
    if item.in_progress:
        return hold_back(reads.item_state, event)
    needs = Needs()
    for account_id in reads.item_state.live_accounts:
        step = reads.item_state.step("transactions", account_id)
        # A delta of another event in the same sync does not make them due again.
        if owes_recent(step) and not is_answered(step.recent_seq, event):
            reads.want_recent(needs, event, step)
    return needs


def decide_accounts(reads: Reads, event: PendingEvent, item: Item) -> Needs:
    """Read the list of accounts, unless done since the event, also while a collection runs.

    What was never read of the item follows, such as a new account.
    """
    needs = Needs()
    if not is_answered(reads.item_state.step("accounts").read_seq, event):
        reads.want_accounts(needs, event, item)
    else:
        want_first_reads(reads, needs, event, item)
    return needs


def wants_accounts_alone(item_state: ItemState) -> bool:
    """Whether all events ask for the accounts of a stored item, which needs no fetch itself."""
    known = item_state.step("accounts").complete_read_at is not None
    stored = item_state.item is not None and not item_state.item_deleted
    return known and stored and {e.event for e in item_state.events} == {READ_ACCOUNTS}


def decide_deletions(reads: Reads, event: PendingEvent) -> Outcome | Needs:
    """Read again the missing rows for which no witness was available so far."""
    if "transactions" not in reads.products:
        return Outcome("ignored", "product_not_enabled")
    needs = Needs()
    live = set(reads.item_state.unwitnessed).intersection(reads.item_state.live_accounts)
    for account_id in sorted(live - reads.answered.again):
        if not reads.blocked(needs, reads.item_state.step("transactions", account_id), event):
            needs.steps.append(AskAgain(account_id))
    return needs
