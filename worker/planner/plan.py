"""Plan a sync: item, pending events and stored state in; steps and outcomes out. Pure.

The plan is made again after every round of steps. A committed step shows in the stored state, so
the plan shrinks until only outcomes are left.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from worker.inbox.events import TRANSACTION_EVENTS
from worker.planner.due_reads import Reads
from worker.planner.item_events import (
    OF_A_PART,
    decide_deletion_denied,
    decide_gone,
    decide_item_event,
    decide_not_read,
    decide_waiting,
)
from worker.planner.item_status import Item, read_item
from worker.planner.outcomes import NONE_ANSWERED, Answered, Outcome, SyncPlan, outcome_of
from worker.planner.state import ItemState
from worker.planner.steps import Gone, NotRead, PlannedStep, merge_steps
from worker.planner.transaction_events import decide_transactions

NOTHING_FETCHED: Final = read_item({}, is_open_finance=False)


def plan(
    item: Item | Gone | NotRead,
    item_state: ItemState,
    answered: Answered = NONE_ANSWERED,
    *,
    products: Iterable[str] = ("items", "accounts", "transactions"),
) -> SyncPlan:
    """Make the plan. Deterministic: the same arguments give the same plan."""
    steps: list[PlannedStep] = []
    outcomes: dict[int, Outcome] = {}
    parked: set[tuple[str, uuid.UUID]] = set()
    fetched = item if isinstance(item, Item) else NOTHING_FETCHED
    for event in item_state.events:
        reads = Reads(item_state, answered, frozenset(products), event, fetched)
        found = _decide(reads, item)
        if found is None:
            steps += reads.needs.steps
            parked |= reads.needs.parked
            found = outcome_of(reads.needs, event, item_state.now)
        outcomes[event.id] = found
    return SyncPlan(merge_steps(steps), outcomes, frozenset(parked))


def _decide(reads: Reads, item: Item | Gone | NotRead) -> Outcome | None:
    """The outcome of the event; None: its needs decide."""
    event = reads.event
    if isinstance(item, NotRead):
        return decide_not_read(reads)
    if isinstance(item, Gone):
        return decide_gone(reads)
    if event.ask_again_at is not None and event.ask_again_at > reads.item_state.now:
        return decide_waiting(reads, event.ask_again_at)
    if event.event == "item/deleted":
        return decide_deletion_denied(reads)
    if event.event in TRANSACTION_EVENTS and event.account_id is not None:
        return decide_transactions(reads)
    if event.event in OF_A_PART and reads.accounts_known:
        return OF_A_PART[event.event](reads)
    return decide_item_event(reads)
