"""Plan events about one account's transactions."""

from __future__ import annotations

from worker.infra.lanes import Lane
from worker.planner.confirmations import ACCOUNTS, brought_nothing
from worker.planner.due_reads import Reads
from worker.planner.freshness import has_read_created, is_answered, is_long_before
from worker.planner.half_readable import has_unreadable_ids, is_newest_unreadable, next_walk_at
from worker.planner.item_status import Item
from worker.planner.outcomes import ASK_AGAIN_AFTER, Needs, Outcome
from worker.planner.state import PendingEvent, Step
from worker.planner.steps import AskIds


def decide_transactions(reads: Reads, event: PendingEvent, item: Item) -> Outcome | Needs:
    """Read the rows that the event announces, once the account is known."""
    if "transactions" not in reads.products:
        return Outcome("ignored", "product_not_enabled")
    assert event.account_id is not None  # noqa: S101 - the receiver keeps only readable ones
    needs = Needs()
    accounts = reads.item_state.step("accounts")
    account = reads.item_state.accounts.get(event.account_id)
    if account is None or not account.live:
        if not is_answered(accounts.read_seq, event):
            reads.want_accounts(needs, event, item)
            return needs
        if account is None and reads.confirm(needs, event, item, ACCOUNTS):
            return needs
        if account is None:
            return Outcome("dead", "account_not_of_item")
        return Outcome("ignored", "account_deleted")
    if event.event == "transactions/created":
        _want_created(reads, needs, event, item)
        if needs.nothing and brought_nothing(reads.item_state, event):
            reads.confirm(needs, event, item, ("transactions", event.account_id))
    elif isinstance(answer := _want_ids(reads, needs, event, item), Outcome):
        return answer
    want_first_reads(reads, needs, event, item)
    return needs


def _want_created(reads: Reads, needs: Needs, event: PendingEvent, item: Item) -> None:
    assert event.account_id is not None  # noqa: S101 - checked by the caller
    step = reads.item_state.step("transactions", event.account_id)
    source_updated_at = item.source_updated_at("transactions")
    if step.watermark is None:
        reads.want_walk(needs, event, step, Lane.BACKFILL, source_updated_at)
    elif is_long_before(event.created_at_from, step.watermark):
        if not is_answered(step.walked_seq, event):
            reads.want_walk(needs, event, step, Lane.AUDIT, source_updated_at)
    elif not has_read_created(step, event):
        reads.want_delta(needs, event, step, source_updated_at)


def _want_ids(reads: Reads, needs: Needs, event: PendingEvent, item: Item) -> Outcome | None:
    assert event.account_id is not None  # noqa: S101 - checked by the caller
    step = reads.item_state.step("transactions", event.account_id)
    if event.ids_open and event.id not in reads.answered.events:
        if not reads.blocked(needs, step, event):
            ids = (event.id,)
            deleting = frozenset(ids if event.event == "transactions/deleted" else ())
            needs.steps.append(AskIds(event.account_id, ids, event.ids_open, deleting))
        return None
    came_back = event.ids_came_back or event.id in reads.answered.came_back
    if event.event == "transactions/deleted" and came_back and event.ask_again_at is None:
        again = reads.item_state.now + ASK_AGAIN_AFTER
        return Outcome("pending", ask_again_at=again, due_at=again)
    if has_unreadable_ids(event) and not is_answered(step.walked_seq, event):
        return _want_unreadable(reads, needs, event, step, item)
    return None


def _want_unreadable(
    reads: Reads, needs: Needs, event: PendingEvent, step: Step, item: Item
) -> Outcome | None:
    """Add a walk of the account instead of unreadable ids, at most one a day."""
    source_updated_at = item.source_updated_at("transactions")
    again = next_walk_at(reads.item_state, step)
    if step.watermark is None:
        reads.want_walk(needs, event, step, Lane.BACKFILL, source_updated_at)
    elif again is None or step.scope_id in reads.item_state.walks:
        reads.want_walk(needs, event, step, Lane.AUDIT, source_updated_at, for_unreadable=True)
    elif not is_newest_unreadable(reads.item_state, event):
        return Outcome("ignored", "superseded")
    else:
        return Outcome("pending", ask_again_at=again, due_at=again, lane=Lane.AUDIT)
    return None


def want_first_reads(reads: Reads, needs: Needs, event: PendingEvent, item: Item) -> None:
    """Add the first reads of the whole item; the event itself waits only for its own part."""
    others = Needs()
    walked = reads.item_state.live_accounts if "transactions" in reads.products else []
    for account_id in walked:
        step = reads.item_state.step("transactions", account_id)
        if step.watermark is None and account_id not in reads.item_state.walks:
            source_updated_at = item.source_updated_at("transactions")
            reads.want_walk(others, event, step, Lane.BACKFILL, source_updated_at)
    reads.want_lists_of_item(others, event, item, only_unread=True)
    reads.want_lists_of_accounts(others, event, item, only_unread=True)
    if not reads.is_unread("investments"):
        reads.want_investment_transactions(others, event, item, sweeps=False)
    needs.steps += others.steps
    needs.parked |= others.parked
