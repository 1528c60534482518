"""Plan events of a whole item: Pluggy's webhooks and our own events."""

from __future__ import annotations

from datetime import datetime

from worker.infra.lanes import Lane
from worker.planner.confirmations import ACCOUNTS, ITEM, has_no_account, has_not_moved
from worker.planner.due_reads import QUIET_EVENTS, Reads
from worker.planner.freshness import is_answered
from worker.planner.half_readable import waits_for_newer
from worker.planner.item_status import Item
from worker.planner.outcomes import ASK_AGAIN_AFTER, SUPERSEDED_AFTER, Needs, Outcome, hold_back
from worker.planner.state import PendingEvent
from worker.planner.steps import ReadProduct, TombstoneItem


def decide_gone(reads: Reads, event: PendingEvent) -> Outcome | Needs:
    """The item answers 404: a deletion if item/deleted announced it, otherwise a failure."""
    deletion_announced = any(e.event == "item/deleted" for e in reads.item_state.events)
    if reads.item_state.item is None and deletion_announced:
        return Outcome("ignored", "item_unknown")
    if reads.item_state.item_deleted:
        is_deletion = event.event == "item/deleted"
        return Outcome("applied") if is_deletion else Outcome("ignored", "item_deleted")
    if deletion_announced:
        return Needs(steps=[TombstoneItem()])
    # Without item/deleted a 404 is a failure of the item step: the engine has recorded it.
    return decide_not_read(reads, event)


def decide_not_read(reads: Reads, event: PendingEvent) -> Outcome | Needs:
    """Wait for the item's step, or die with it; if its pause is over, it is due at once."""
    needs = Needs()
    if not reads.blocked(needs, reads.item_state.step("items"), event):
        needs.waits.append(reads.item_state.now)
    return needs


def decide_waiting(reads: Reads, event: PendingEvent, until: datetime) -> Outcome:
    """Wait until the given time, unless a newer event waits for the same walk."""
    if waits_for_newer(reads.item_state, event):
        return Outcome("ignored", "superseded")
    return Outcome("pending", ask_again_at=until, due_at=until)


def decide_deletion_denied(reads: Reads, event: PendingEvent) -> Outcome:
    """The item still exists after item/deleted: read it once more after five minutes."""
    if event.ask_again_at is None:
        again = reads.item_state.now + ASK_AGAIN_AFTER
        return Outcome("pending", ask_again_at=again, due_at=again)
    return Outcome("ignored", "item_still_exists", ask_again_at=event.ask_again_at)


def decide_item_event(reads: Reads, event: PendingEvent, item: Item) -> Outcome | Needs:
    """Read each product collected since; if there is none, recheck."""
    if event.event in QUIET_EVENTS and reads.accounts_known():
        return Outcome("applied")
    if item.in_progress and not _verifies_anyway(reads, event):
        # A missed-webhook check is done; the item's next one is scheduled apart from this event.
        is_check = event.event == "sync/missed-webhook-check" and reads.accounts_known()
        return Outcome("applied") if is_check else hold_back(reads.item_state, event)
    needs = Needs()
    accounts = reads.item_state.step("accounts")
    if reads.read_wanted(event, accounts, item.source_updated_at("accounts")):
        reads.want_accounts(needs, event, item)
    if not needs.steps and reads.accounts_proven():
        _want_all_transactions(reads, needs, event, item)
        reads.want_lists_of_accounts(needs, event, item)
    reads.want_lists_of_item(needs, event, item)
    if not any(isinstance(s, ReadProduct) and s.product == "investments" for s in needs.steps):
        reads.want_investment_transactions(needs, event, item)
    if needs.nothing and has_no_account(reads.item_state, event):
        reads.confirm(needs, event, item, ACCOUNTS, since=accounts.first_read_at)
    elif needs.nothing and has_not_moved(reads.item_state, event):
        reads.confirm(needs, event, item, ITEM)
    return needs


def _verifies_anyway(reads: Reads, event: PendingEvent) -> bool:
    """Whether a verify runs in spite of a running collection: it was deferred for a day already.

    Incomplete lists do no harm, because deletions are confirmed by id."""
    age = reads.item_state.now - event.pending_since
    return event.event == "sync/verify" and reads.accounts_known() and age >= SUPERSEDED_AFTER


def _want_all_transactions(reads: Reads, needs: Needs, event: PendingEvent, item: Item) -> None:
    if "transactions" not in reads.products:
        return
    source_updated_at = item.source_updated_at("transactions")
    for account_id in reads.item_state.live_accounts:
        step = reads.item_state.step("transactions", account_id)
        if step.watermark is None:
            lane = Lane.AUDIT if event.event == "sync/verify" else Lane.BACKFILL
            reads.want_walk(needs, event, step, lane, source_updated_at)
        elif event.event == "sync/verify":
            if not is_answered(step.walked_seq, event):
                reads.want_walk(needs, event, step, Lane.AUDIT, source_updated_at)
        elif reads.is_collected_since(event, step, source_updated_at):
            reads.want_delta(needs, event, step, source_updated_at)
        elif reads.recent_due(step):
            reads.want_recent(needs, event, step)
