"""Plan a sync: item, pending events and stored state in; steps and outcomes out. Pure.

The plan is made again after every round of steps. A committed step shows in the stored state, so
the plan shrinks until only outcomes are left.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from worker.inbox.events import READ_ACCOUNTS, TRANSACTION_EVENTS
from worker.planner.due_reads import Reads
from worker.planner.item_events import (
    decide_deletion_denied,
    decide_gone,
    decide_item_event,
    decide_not_read,
    decide_waiting,
)
from worker.planner.item_status import Item
from worker.planner.outcomes import NONE_ANSWERED, Answered, Needs, Outcome, SyncPlan, outcome_of
from worker.planner.own_events import (
    decide_accounts,
    decide_deletions,
    decide_first_rechecks,
    decide_recent,
)
from worker.planner.state import ItemState, PendingEvent
from worker.planner.steps import Gone, NotRead, PlannedStep, merge_steps
from worker.planner.transaction_events import decide_transactions


def plan(
    item: Item | Gone | NotRead,
    item_state: ItemState,
    answered: Answered = NONE_ANSWERED,
    *,
    products: Iterable[str] = ("items", "accounts", "transactions"),
) -> SyncPlan:
    """Make the plan. Deterministic: the same arguments give the same plan."""
    reads = Reads(item_state, answered, frozenset(products))
    steps: list[PlannedStep] = []
    outcomes: dict[int, Outcome] = {}
    parked: set[tuple[str, uuid.UUID]] = set()
    for event in item_state.events:
        found = _decide(reads, event, item)
        if isinstance(found, Needs):
            steps += found.steps
            parked |= found.parked
            found = outcome_of(found, event, item_state.now)
        outcomes[event.id] = found
    return SyncPlan(merge_steps(steps), outcomes, frozenset(parked))


def _decide(reads: Reads, event: PendingEvent, item: Item | Gone | NotRead) -> Outcome | Needs:
    if isinstance(item, NotRead):
        return decide_not_read(reads, event)
    if isinstance(item, Gone):
        return decide_gone(reads, event)
    if event.ask_again_at is not None and event.ask_again_at > reads.item_state.now:
        return decide_waiting(reads, event, event.ask_again_at)
    if event.event == "item/deleted":
        return decide_deletion_denied(reads, event)
    if event.event in TRANSACTION_EVENTS and event.account_id is not None:
        return decide_transactions(reads, event, item)
    if event.event == READ_ACCOUNTS and reads.accounts_known():
        return decide_accounts(reads, event, item)
    if event.event == "sync/deletions" and reads.accounts_known():
        return decide_deletions(reads, event)
    if event.event == "sync/recent" and reads.accounts_known():
        return decide_recent(reads, event, item)
    if event.event == "sync/confirm" and reads.accounts_known():
        return decide_first_rechecks(reads, event, item)
    return decide_item_event(reads, event, item)
