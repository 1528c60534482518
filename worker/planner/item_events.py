"""Plan events of a whole item: Pluggy's webhooks, and our own events, some about a part of it.

Each function returns the outcome, or None: then the event's needs decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from worker.inbox.events import OWN_PREFIX, READ_ACCOUNTS
from worker.infra.lanes import Lane
from worker.planner.confirmations import (
    ACCOUNTS,
    ITEM,
    first_recheck_due,
    has_no_account,
    has_not_moved,
)
from worker.planner.due_reads import QUIET_EVENTS, Reads
from worker.planner.freshness import is_answered, is_wide_due, owes_recent, waits_for_newer
from worker.planner.outcomes import ASK_AGAIN_AFTER, SUPERSEDED_AFTER, Outcome, hold_back
from worker.planner.state import ItemState
from worker.planner.steps import AskAgain, ReadProduct, TombstoneItem

NOT_ENABLED: Final = Outcome("ignored", "product_not_enabled")


def expects_gone(item_state: ItemState) -> bool:
    """Whether a 404 of the item answers its events, and is no failure.

    So it is where its deletion was announced, and where only orders of ours name an item that is
    not held: somebody has registered an id that Pluggy does not know.
    """
    names = [event.event for event in item_state.events]
    only_ours = all(name.startswith(OWN_PREFIX) for name in names)
    return (
        "item/deleted" in names
        or item_state.item_deleted
        or (item_state.item is None and only_ours)
    )


def decide_gone(reads: Reads) -> Outcome | None:
    """The item answers 404: a deletion if item/deleted announced it, otherwise a failure."""
    deletion_announced = any(e.event == "item/deleted" for e in reads.item_state.events)
    if reads.item_state.item is None and (deletion_announced or not reads.item_state.item_deleted):
        return Outcome("ignored", "item_unknown")
    if reads.item_state.item_deleted:
        is_deletion = reads.event.event == "item/deleted"
        return Outcome("applied") if is_deletion else Outcome("ignored", "item_deleted")
    if deletion_announced:
        reads.needs.steps.append(TombstoneItem())
        return None
    # Without item/deleted a 404 is a failure of the item step: the engine has recorded it.
    return decide_not_read(reads)


def decide_not_read(reads: Reads) -> Outcome | None:
    """Wait for the item's step, or die with it; if its pause is over, it is due at once."""
    if not reads.blocked(reads.item_state.step("items")):
        reads.needs.waits.append(reads.item_state.now)
    return None


def decide_waiting(reads: Reads, until: datetime) -> Outcome:
    """Wait until the given time, unless a newer event waits for the same walk."""
    if waits_for_newer(reads.item_state, reads.event):
        return Outcome("ignored", "superseded")
    return Outcome("pending", ask_again_at=until, due_at=until)


def decide_deletion_denied(reads: Reads) -> Outcome:
    """The item still exists after item/deleted: read it once more after five minutes."""
    if reads.event.ask_again_at is None:
        again = reads.item_state.now + ASK_AGAIN_AFTER
        return Outcome("pending", ask_again_at=again, due_at=again)
    return Outcome("ignored", "item_still_exists", ask_again_at=reads.event.ask_again_at)


def decide_item_event(reads: Reads) -> Outcome | None:
    """Read each product collected since; if there is none, recheck."""
    event, item_state, needs = reads.event, reads.item_state, reads.needs
    if event.event in QUIET_EVENTS and reads.accounts_known:
        return Outcome("applied")
    if reads.item.in_progress and not _verifies_anyway(reads):
        # A missed-webhook check is done; the item's next one is scheduled apart from this event.
        is_check = event.event == "sync/missed-webhook-check" and reads.accounts_known
        return Outcome("applied") if is_check else hold_back(item_state, event)
    accounts = item_state.step("accounts")
    if reads.read_wanted(accounts):
        reads.want_accounts()
    if reads.accounts_proven:
        _want_all_transactions(reads)
        reads.want_lists_of_accounts()
    reads.want_lists_of_item()
    if not any(isinstance(s, ReadProduct) and s.product == "investments" for s in needs.steps):
        reads.want_investment_transactions()
    if needs.nothing and has_no_account(item_state, event):
        reads.confirm(ACCOUNTS, since=accounts.first_read_at)
    elif needs.nothing and has_not_moved(item_state, event):
        reads.confirm(ITEM)
    return None


def _verifies_anyway(reads: Reads) -> bool:
    """Whether a verify runs in spite of a running collection: it was deferred for a day already.

    Incomplete lists do no harm, because deletions are confirmed by id."""
    age = reads.item_state.now - reads.event.pending_since
    return reads.event.event == "sync/verify" and reads.accounts_known and age >= SUPERSEDED_AFTER


def _want_all_transactions(reads: Reads) -> None:
    if "transactions" not in reads.products:
        return
    verifies = reads.event.event == "sync/verify"
    for step in reads.item_state.transaction_steps:
        if step.watermark is None:
            reads.want_walk(step, Lane.AUDIT if verifies else Lane.BACKFILL)
        elif verifies:
            if not is_answered(step.walked_seq, reads.event):
                reads.want_walk(step, Lane.AUDIT)
        elif reads.is_collected_since(step):
            reads.want_delta(step)
        elif reads.recent_due(step):
            reads.want_recent(step)


def decide_first_rechecks(reads: Reads) -> None:
    """Read again lists that were empty at their first read, and overlaps, as far as due."""
    _want_overlaps(reads)
    if reads.item.in_progress:
        return  # the events after the collection read these lists too
    for step in reads.item_state.steps.values():
        if step.product not in reads.products or not first_recheck_due(reads.item_state, step):
            continue
        if step.product == "transactions":
            reads.want_walk(step, Lane.RETRY)
        elif not reads.blocked(step):
            source_updated_at = reads.item.source_updated_at(step.product)
            reads.needs.steps.append(ReadProduct(step.product, step.scope_id, source_updated_at))
    if reads.needs.nothing:
        reads.want_investment_transactions()


def _want_overlaps(reads: Reads) -> None:
    """Add due overlaps, even during a collection: they must be read within the hour."""
    if "transactions" not in reads.products:
        return
    for step in reads.item_state.transaction_steps:
        if step.watermark is not None and is_wide_due(step, reads.item_state.now):
            reads.want_delta(step)


def decide_recent(reads: Reads) -> Outcome | None:
    """Read the recent days of each account, unless done since the event."""
    if "transactions" not in reads.products:
        return NOT_ENABLED
    if reads.item.in_progress:
        return hold_back(reads.item_state, reads.event)
    for step in reads.item_state.transaction_steps:
        # A delta of another event in the same sync does not make them due again.
        if owes_recent(step) and not is_answered(step.recent_seq, reads.event):
            reads.want_recent(step)
    return None


def decide_accounts(reads: Reads) -> None:
    """Read the list of accounts, unless done since the event, also while a collection runs.

    What was never read of the item follows, such as a new account.
    """
    if not is_answered(reads.item_state.step("accounts").read_seq, reads.event):
        reads.want_accounts()
    else:
        reads.want_first_reads()


def decide_deletions(reads: Reads) -> Outcome | None:
    """Read again the missing rows for which no witness was available so far."""
    if "transactions" not in reads.products:
        return NOT_ENABLED
    for step in reads.item_state.transaction_steps:
        asks = step.scope_id in reads.item_state.unwitnessed
        if asks and step.scope_id not in reads.answered.again and not reads.blocked(step):
            reads.needs.steps.append(AskAgain(step.scope_id))
    return None


OF_A_PART: Final[Mapping[str, Callable[[Reads], Outcome | None]]] = {
    READ_ACCOUNTS: decide_accounts,
    "sync/deletions": decide_deletions,
    "sync/recent": decide_recent,
    "sync/confirm": decide_first_rechecks,
}
"""Our own events about a part of the item, once its accounts are known."""
