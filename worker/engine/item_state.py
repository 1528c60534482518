"""Loads the state of a leased item, which its plan is made from, and opens the run of a sync."""

from __future__ import annotations

from worker.lease.lease import LEASE, LeaseLost, SyncSession
from worker.planner.state import ItemState, item_state_from_row
from worker.store import item_state as stored_state
from worker.store.item_state import ItemStateRow


async def load_item_state(session: SyncSession) -> ItemState:
    """Load the item's state, its events and the generation that counts them, in one statement.

    The first of a claim also draws the position of all that the claim reads.
    """
    return _noted(session, await stored_state.load_item_state(session.db, session.item_id))


async def begin_sync(session: SyncSession) -> ItemState:
    """Load the item's state and, if there are events, open their run. Raises LeaseLost."""
    row = await stored_state.load_item_state(
        session.db, session.item_id, token=session.lease.token, lease_for=LEASE
    )
    item_state = _noted(session, row)
    session.generation = item_state.generation
    if item_state.events:
        if row is None or row.run_id is None:
            raise LeaseLost
        session.resume_run(row.run_id)
    return item_state


def _noted(session: SyncSession, row: ItemStateRow | None) -> ItemState:
    if row is None:
        raise RuntimeError("a claimed item without its row in item_sync")
    session.now = row.now
    session.read_seq = session.read_seq or row.read_seq
    session.has_rejected, session.has_absent = row.has_rejected, row.has_absent
    return item_state_from_row(session.item_id, row)
