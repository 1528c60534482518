"""Events that waited for walks which have ended: whether the stored state answers them by now."""

from __future__ import annotations

from collections.abc import Mapping

from worker.engine.fetch_needed import stored_item, waits
from worker.lease.lease import SyncSession
from worker.planner.outcomes import Outcome
from worker.planner.plan import plan
from worker.planner.state import ItemState


def applied_by_walks(session: SyncSession, item_state: ItemState) -> Mapping[int, Outcome]:
    """The outcomes of events that are applied, with the state as loaded behind the walks.

    None if anything else is left to be read, such as the item itself, and if steps were left out
    for a parked product, as in settle_early: then the next claim settles them.
    """
    item = stored_item(item_state, latest=session.latest) if item_state.events else None
    if item is None or waits(item_state):
        return {}
    found = plan(item, item_state, products=session.products)
    if found.steps or found.parked:
        return {}
    return {key: outcome for key, outcome in found.outcomes.items() if outcome.state == "applied"}
