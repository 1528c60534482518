"""Plan events about one account's transactions."""

from __future__ import annotations

from worker.infra.lanes import Lane
from worker.planner.confirmations import ACCOUNTS, brought_nothing
from worker.planner.due_reads import Reads
from worker.planner.freshness import (
    has_read_created,
    has_unreadable_ids,
    is_answered,
    is_long_before,
    is_newest_unreadable,
    next_walk_at,
)
from worker.planner.item_events import NOT_ENABLED
from worker.planner.outcomes import ASK_AGAIN_AFTER, Outcome
from worker.planner.state import Step
from worker.planner.steps import AskIds


def decide_transactions(reads: Reads) -> Outcome | None:
    """Read the rows that the event announces, once the account is known."""
    event, item_state = reads.event, reads.item_state
    if "transactions" not in reads.products:
        return NOT_ENABLED
    assert event.account_id is not None  # noqa: S101 - the receiver keeps only readable ones
    account = item_state.accounts.get(event.account_id)
    if account is None or not account.live:
        if not is_answered(item_state.step("accounts").read_seq, event):
            reads.want_accounts()
            return None
        if account is None and reads.confirm(ACCOUNTS):
            return None
        if account is None:
            return Outcome("dead", "account_not_of_item")
        return Outcome("ignored", "account_deleted")
    step = item_state.step("transactions", event.account_id)
    if event.event == "transactions/created":
        _want_created(reads, step)
        if reads.needs.nothing and brought_nothing(item_state, event):
            reads.confirm(("transactions", event.account_id))
    elif (answer := _want_ids(reads, step)) is not None:
        return answer
    reads.want_first_reads()
    return None


def _want_created(reads: Reads, step: Step) -> None:
    if step.watermark is None:
        reads.want_walk(step, Lane.BACKFILL)
    elif is_long_before(reads.event.created_at_from, step.watermark):
        if not is_answered(step.walked_seq, reads.event):
            reads.want_walk(step, Lane.AUDIT)
    elif not has_read_created(step, reads.event):
        reads.want_delta(step)


def _want_ids(reads: Reads, step: Step) -> Outcome | None:
    event = reads.event
    if event.ids_open and event.id not in reads.answered.events:
        if not reads.blocked(step):
            ids = (event.id,)
            deleting = frozenset(ids if event.event == "transactions/deleted" else ())
            reads.needs.steps.append(AskIds(step.scope_id, ids, event.ids_open, deleting))
        return None
    came_back = event.ids_came_back or event.id in reads.answered.came_back
    if event.event == "transactions/deleted" and came_back and event.ask_again_at is None:
        again = reads.item_state.now + ASK_AGAIN_AFTER
        return Outcome("pending", ask_again_at=again, due_at=again)
    if has_unreadable_ids(event) and not is_answered(step.walked_seq, event):
        return _want_unreadable(reads, step)
    return None


def _want_unreadable(reads: Reads, step: Step) -> Outcome | None:
    """Add a walk of the account instead of unreadable ids, at most one a day."""
    again = next_walk_at(reads.item_state, step)
    if step.watermark is None:
        reads.want_walk(step, Lane.BACKFILL)
    elif again is None or step.scope_id in reads.item_state.walks:
        reads.want_walk(step, Lane.AUDIT, for_unreadable=True)
    elif not is_newest_unreadable(reads.item_state, reads.event):
        return Outcome("ignored", "superseded")
    else:
        return Outcome("pending", ask_again_at=again, due_at=again, lane=Lane.AUDIT)
    return None
