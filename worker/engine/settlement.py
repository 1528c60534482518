"""Settles the events of a sync, and schedules the item for the earliest of what is left to do."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from worker.inbox.events import TRANSACTION_EVENTS
from worker.infra.lanes import Lane
from worker.infra.metrics import EVENTS
from worker.lease.lease import LEASE, LeaseLost, SyncSession
from worker.lease.runs import RUN_SEQ_LOCK
from worker.planner.outcomes import Outcome, SyncPlan
from worker.planner.state import ItemState, PendingEvent, Walk
from worker.store.lease import settle_events, settle_item

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Due:
    """The item after a settlement: whether it is due at once, and its generation.

    next_item: another item that is due; None: there is none.
    """

    now: bool
    generation: int
    next_item: uuid.UUID | None = None


async def settle(
    session: SyncSession,
    item_state: ItemState,
    outcomes: Mapping[int, Outcome],
    *,
    settling: Collection[int],
    outcome: str = "done",
    keep_lease: bool = False,
    lowest_lane: Lane = Lane.AUDIT,
) -> Due:
    """Close the open run, settle events and schedule the item. Raises LeaseLost.

    If the lease is lost nothing is done: the next claim closes the run as lost. outcomes are those
    of this claim's plan; settling names the events among them to settle now. outcome: of the run.
    lowest_lane: of the other item that may be claimed next.
    """
    next_at, lane = next_due(item_state, outcomes)
    settled = {event_id: outcomes[event_id] for event_id in settling}
    run = session.run_to_close()
    run_id = run.id if run else None
    visible = {e.id: _visible_at(e, run.visible) for e in item_state.events} if run else {}
    row = await settle_item(
        session.db,
        session.item_id,
        token=session.lease.token,
        generation=item_state.generation,
        due_at=next_at,
        lane=int(lane),
        keep_for=LEASE if keep_lease else None,
        event_ids=list(settled),
        states=[o.state for o in settled.values()],
        reasons=[o.reason for o in settled.values()],
        error_ids=[o.error_id for o in settled.values()],
        ask_again_ats=[o.ask_again_at for o in settled.values()],
        run_id=run_id,
        confirmings=[o.confirming for o in settled.values()],
        confirming_sinces=[o.confirming_since for o in settled.values()],
        visible_ats=[visible.get(event_id) for event_id in settled],
        lowest_lane=int(lowest_lane),
        sets_webhook_check=session.sets_webhook_check,
        webhook_check_at=session.webhook_check_at,
        run=run.closed_as(outcome) if run else None,
        run_order=RUN_SEQ_LOCK,
    )
    if row is None:
        raise LeaseLost
    session.note_run_closed()
    session.sets_webhook_check = False
    for state in {o.state for o in settled.values()}:
        EVENTS.labels(state=state).inc(sum(o.state == state for o in settled.values()))
        ids = [i for i, o in settled.items() if o.state == state]
        _log_settled(state, event_row_ids=ids, run_id=run_id)
    return Due(row.due, row.generation, row.next_item)


async def settle_early(
    session: SyncSession, item_state: ItemState, current: SyncPlan
) -> Collection[PendingEvent]:
    """Settle and return the events that are applied, while steps of others go on.

    An event of which any step is left stays pending, and with it the item due: if the claim ends
    now, nothing is forgotten. Nothing is settled if steps were left out for a parked product: the
    claim's end records them, for the events that are pending then. Raises LeaseLost.
    """
    done = [e for e in item_state.events if current.outcomes[e.id].state == "applied"]
    if current.parked or not done or len(done) == len(item_state.events):
        return ()
    ids, run = [event.id for event in done], session.run
    found = await settle_events(
        session.db,
        session.item_id,
        token=session.lease.token,
        event_ids=ids,
        run_id=run.id,
        visible_ats=[_visible_at(event, run.visible) for event in done],
    )
    if found is None:
        raise LeaseLost
    EVENTS.labels(state="applied").inc(len(ids))
    _log_settled("applied", event_row_ids=ids, run_id=run.id)
    return done


def _visible_at(
    event: PendingEvent, visible: Mapping[tuple[str, uuid.UUID], datetime]
) -> datetime | None:
    """When the last row of the event was visible; None: none has changed.

    An event about transactions is for the rows of its account, any other for all of the item.
    """
    if event.event in TRANSACTION_EVENTS and event.account_id is not None:
        return visible.get(("transactions", event.account_id))
    return max(visible.values(), default=None)


def _log_settled(state: str, **facts: object) -> None:
    """Log by literal event names, so that they can be searched for; a dead event needs a person."""
    match state:
        case "applied":
            log.info("events_applied", **facts)
        case "dead":
            log.warning("events_dead", **facts)
        case "ignored":
            log.info("events_ignored", **facts)
        case "walking":
            log.info("events_walking", **facts)
        case _:
            log.info("events_pending", **facts)


def run_outcome(plan: SyncPlan, *, settled_early: bool) -> str:
    """The outcome of a run from the events of its last plan, and whether others were applied."""
    states = {outcome.state for outcome in plan.outcomes.values()}
    states |= {"applied"} if settled_early else set()
    if states <= {"applied", "ignored", "walking"}:
        return "done"
    return "failed" if states == {"dead"} else "partial"


def next_due(
    item_state: ItemState, outcomes: Mapping[int, Outcome]
) -> tuple[datetime | None, Lane]:
    """Time and lane of the item's next work: the earliest of events and walks. None: no work."""
    found = [_event_due(item_state, event, outcomes.get(event.id)) for event in item_state.events]
    found += [_walk_due(item_state, walk) for walk in item_state.walks.values()]
    return min((due for due in found if due is not None), default=(None, Lane.AUDIT))


def _event_due(
    item_state: ItemState, event: PendingEvent, outcome: Outcome | None
) -> tuple[datetime, Lane] | None:
    if outcome is None or (outcome.state == "walking" and event.state == "walking"):
        return item_state.now, Lane(event.lane)  # new, or its walks have ended: plan again
    if outcome.state == "pending":
        return outcome.due_at or item_state.now, outcome.lane
    return None


def _walk_due(item_state: ItemState, walk: Walk) -> tuple[datetime, Lane] | None:
    step = item_state.step("transactions", walk.account_id)
    if step.dead_at is not None or step.product in item_state.parked:
        return None
    return max(step.next_try_at or item_state.now, item_state.now), Lane(walk.lane)


def due_walks(item_state: ItemState) -> list[Walk]:
    """Walks that may go on now, best lane first."""
    due = [
        w
        for w in item_state.walks.values()
        if (when := _walk_due(item_state, w)) and when[0] <= item_state.now
    ]
    return sorted(due, key=lambda walk: (walk.lane, walk.asked_at))
