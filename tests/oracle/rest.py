"""Waiting for an item to come to rest, and letting time pass for it: minutes, a day, a week."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from tests.oracle.stack import HANG_S, OracleStack
from tests.support.stack import SHIFTED
from worker.inbox.accept import accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.wakeup.queue import ArqWaker

POLL_INTERVAL_S: Final = 0.08
LEASE_LAPSES: Final = timedelta(seconds=31)
PATIENCE_S: Final = 2.5
"""How long nothing changes before a lease counts as a dead worker's; doubles each time, so that a
slow worker keeps its own in the end."""
EMPTY_LIST_READS: Final = timedelta(seconds=301)
"""After so long the next read of an empty first list is the last one."""
MAX_SHIFTS: Final = 40

STATE: Final = """
SELECT s.generation, s.done_generation, s.run_at IS NULL AS idle,
       extract(epoch FROM s.run_at - now())::float AS due_in_s,
       coalesce(l.until > now(), false) AS leased, l.until,
       (SELECT count(*) FROM pluggy_sync.webhook_events e
        WHERE e.item_id = s.item_id AND e.state IN ('pending', 'walking')) AS open_events,
       (SELECT extract(epoch FROM min(p.confirm_at) - now())::float FROM pluggy_sync.product_sync p
        WHERE p.item_id = s.item_id) AS confirm_in_s,
       (SELECT max(id) FROM pluggy_sync.runs r WHERE r.item_id = s.item_id) AS last_run,
       (SELECT halted_at IS NOT NULL FROM pluggy_sync.halts) AS halted,
       EXISTS (SELECT FROM pluggy_sync.product_sync p
               WHERE p.item_id = s.item_id AND p.parked_at IS NOT NULL) AS parked
FROM pluggy_sync.item_sync s LEFT JOIN pluggy_sync.item_leases l USING (item_id)
WHERE s.item_id = $1
"""


RECONCILIATION_DUE: Final = """
SELECT EXISTS (SELECT FROM pluggy_sync.item_reconciliations
               WHERE item_id = $1 AND least(webhook_check_at, recent_read_at, verify_at) <= now())
"""
DAY: Final = timedelta(days=1, minutes=20)
# Scenarios run side by side and none waits for a row of another, so that no two wait in a circle.
TASKS_DUE: Final = """
UPDATE pluggy_sync.periodic_task_leases SET due_at = '-infinity' WHERE name IN (
    SELECT name FROM pluggy_sync.periodic_task_leases
    WHERE due_at > now() FOR UPDATE SKIP LOCKED)
"""
PROBES_DUE: Final = """
UPDATE pluggy_sync.parked_products SET probe_at = now() WHERE product IN (
    SELECT product FROM pluggy_sync.parked_products FOR UPDATE SKIP LOCKED)
RETURNING product
"""


class NeverRests(Exception):
    """An item goes on having work; the text has its state."""


@dataclass(slots=True)
class Patience:
    """Notices that nothing has changed for so long that a lease has to lapse."""

    seen: Any = None
    since: float = 0.0
    lasts_s: float = PATIENCE_S

    def exhausted(self, state: Any) -> bool:
        now = time.monotonic()
        if state != self.seen:
            self.seen, self.since = state, now
            return False
        if now - self.since < self.lasts_s:
            return False
        self.since, self.lasts_s = now, self.lasts_s * 2
        return True


async def pause_until_idle(stack: OracleStack, item_id: str, timeout_s: float) -> None:
    """Wait until the item has no work left that is due, or nothing has changed for so long."""
    patience, deadline = Patience(lasts_s=timeout_s), time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        state = await stack.db.fetchrow(STATE, item_id)
        if state is None or (not state["leased"] and (state["due_in_s"] or 1.0) > 0.2):
            return
        if patience.exhausted(_progress(state)):
            return
        await asyncio.sleep(POLL_INTERVAL_S)


async def is_settled(stack: OracleStack, item_id: str) -> bool:
    """Whether nothing is left to do for the item."""
    state = await stack.db.fetchrow(STATE, item_id)
    return state is not None and _is_done(state)


async def rest(stack: OracleStack, item_id: str, *, max_shifts: int | None = None) -> None:
    """Return when the item has no work left; back-offs and waits are shifted away.

    max_shifts: so often only, for what has to wait for a person. Raises NeverRests.
    """
    patience, shifts = Patience(), 0
    deadline = time.monotonic() + HANG_S
    while True:
        state = await stack.db.fetchrow(STATE, item_id)
        if state is None or _is_done(state):
            return
        if time.monotonic() > deadline or shifts > MAX_SHIFTS:
            raise NeverRests(await describe(stack, item_id))
        if shifts == max_shifts:
            return
        by = _needed(state, patience)
        if by is None:
            await asyncio.sleep(POLL_INTERVAL_S)
            continue
        if state["halted"] or state["parked"]:
            await _move_probes(stack)
        await shift(stack, item_id, by)
        shifts += 1
        if shifts > 1:
            # The first time the sweep has to find it by itself.
            await ArqWaker(stack.redis).wake([uuid.UUID(item_id)])


def _is_done(state: Any) -> bool:
    """Nothing to do, no worker at it, nothing parked, and no empty list to read again."""
    busy = state["open_events"] or state["leased"] or state["parked"]
    return bool(state["idle"] and state["confirm_in_s"] is None and not busy)


def _needed(state: Any, patience: Patience) -> timedelta | None:
    """How much time has to pass for the item to have work again; None: it has, wait."""
    due_in_s = state["due_in_s"]
    if due_in_s is not None and due_in_s > 0 and not state["leased"]:
        return timedelta(seconds=due_in_s + 0.5)
    confirm_in_s = state["confirm_in_s"]
    if state["idle"] and confirm_in_s is not None and confirm_in_s > 0 and not state["leased"]:
        return EMPTY_LIST_READS
    return LEASE_LAPSES if patience.exhausted(_progress(state)) else None


def _progress(state: Any) -> tuple[Any, ...]:
    """What changes while a worker gets on with the item: each page renews the lease."""
    return tuple(state[name] for name in ("generation", "done_generation", "last_run", "until"))


OF_ALL_ITEMS = ("pluggy_sync.halts", "pluggy_sync.parked_products")


async def shift(stack: OracleStack, item_id: str, by: timedelta) -> None:
    """Let time pass for one item: every stored time of ours moves back, in one transaction.

    A worker that is syncing it loses its lease: the times that it has noted are from before.
    """
    while True:
        try:
            await _shift(stack, item_id, by)
        except asyncpg.DeadlockDetectedError:
            continue
        stack.counts["time shift"] += 1
        return


async def _shift(stack: OracleStack, item_id: str, by: timedelta) -> None:
    async with stack.db.acquire() as conn, conn.transaction():
        # No statement of the service locks so many tables: of a deadlock this one is the victim.
        await conn.execute("SET LOCAL deadlock_timeout = '20ms'")
        broken = await conn.fetchval(
            "UPDATE pluggy_sync.item_leases n SET token = NULL, until = '-infinity'"
            " FROM pluggy_sync.item_leases o WHERE n.item_id = $1 AND o.item_id = $1"
            " RETURNING o.token IS NOT NULL",
            item_id,
        )
        if broken:
            # Between the shift and its next page the worker sees steps older than its events.
            stack.worker_group.confused.add(item_id)
        for table, columns in SHIFTED.items():
            if table in OF_ALL_ITEMS:
                continue
            owner = "id" if table == "pluggy.items" else "item_id"
            assignments = ", ".join(f"{c} = {c} - $2::interval" for c in columns)
            await conn.execute(
                f"UPDATE {table} SET {assignments} WHERE {owner} = $1",  # noqa: S608 - constants
                item_id,
                by,
            )


async def _move_probes(stack: OracleStack) -> None:
    """Make the probes due: one a minute ends a halt, one an hour ends a product's park."""
    parked = await stack.db.fetch(PROBES_DUE)
    stack.counts["(product parked)"] += len(parked)
    columns = SHIFTED["pluggy_sync.halts"]
    assignments = ", ".join(f"{c} = {c} - interval '61 seconds'" for c in columns)
    halted = await stack.db.fetchval(
        f"UPDATE pluggy_sync.halts SET {assignments}"  # noqa: S608 - constants
        " WHERE halted_at IS NOT NULL RETURNING true"
    )
    stack.counts["halt"] += bool(halted)


async def let_a_day_pass(stack: OracleStack, item_id: str) -> None:
    """Run what a day brings without webhooks: the missed-webhook check and the recent read."""
    await _reconcile(stack, item_id, DAY)


async def let_a_week_pass(stack: OracleStack, item_id: str) -> None:
    """Run what a week brings: a verify of everything, with its confirmations."""
    await _reconcile(stack, item_id, 6 * DAY)


async def _reconcile(stack: OracleStack, item_id: str, by: timedelta) -> None:
    """Shift, make the reconciliations due, and wait until what they order is done."""
    await shift(stack, item_id, by)
    deadline = time.monotonic() + HANG_S
    while await stack.db.fetchval(RECONCILIATION_DUE, item_id):
        await stack.db.execute(TASKS_DUE)
        if time.monotonic() > deadline:
            raise NeverRests("no reconciliation ran\n" + await describe(stack, item_id))
        await _move_probes(stack)
        await asyncio.sleep(POLL_INTERVAL_S)
    await rest(stack, item_id)


async def order(stack: OracleStack, name: str, item_id: str) -> None:
    """An event of our own; the sweep finds it."""
    event = own_event(name, uuid.UUID(item_id), lane=Lane.AUDIT, now=datetime.now(UTC))
    await accept_events(stack.db, [event], timeout_s=HANG_S)


QUERIES_OF_STATE: Final = (
    (
        "item",
        "SELECT s.*, l.token, l.until, now() FROM pluggy_sync.item_sync s"
        " LEFT JOIN pluggy_sync.item_leases l USING (item_id) WHERE item_id = $1",
    ),
    (
        "event",
        "SELECT id, event, account_id, lane, state, reason, pending_since, ask_again_at, run_id"
        " FROM pluggy_sync.webhook_events WHERE item_id = $1 ORDER BY id DESC LIMIT 25",
    ),
    (
        "step",
        "SELECT product, scope_id, watermark, source_updated_at, complete_read_at, walked_at,"
        " attempts, next_try_at, dead_at, deferred_since, failure_code, stale_reason"
        " FROM pluggy_sync.product_sync WHERE item_id = $1 ORDER BY product, scope_id",
    ),
    ("walk", "SELECT * FROM pluggy_sync.account_walks WHERE item_id = $1"),
    (
        "run",
        "SELECT id, event_ids, outcome, plan, seen, inserted, changed, deleted, rejected"
        " FROM pluggy_sync.runs WHERE item_id = $1 ORDER BY id DESC LIMIT 12",
    ),
    (
        "rejected",
        "SELECT product, scope_id, row_id, reason FROM pluggy_sync.rejected_rows"
        " WHERE item_id = $1 LIMIT 10",
    ),
    (
        "halt",
        "SELECT * FROM pluggy_sync.halts WHERE halted_at IS NOT NULL AND $1::uuid IS NOT NULL",
    ),
)


async def describe(stack: OracleStack, item_id: str) -> str:
    """What is stored of an item's work, for a person; ids and times shortened."""
    lines: list[str] = []
    for title, query in QUERIES_OF_STATE:
        for record in await stack.db.fetch(query, item_id):
            shown = {k: _short(v) for k, v in record.items() if v not in (None, 0, [])}
            shown.pop("item_id", None)
            lines.append(f"{title}: " + " ".join(f"{k}={v}" for k, v in shown.items()))
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%d.%H:%M:%S.%f}"[:-3]
    if isinstance(value, str):
        return re.sub(r"([0-9a-f]{8})-[0-9a-f-]{27}", r"\1", value).replace('"', "")
    return str(value)[:8] if isinstance(value, uuid.UUID) else str(value)
