"""When the storm is over: wait until nothing waits any more, and let back-offs pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tests.chaos.stack import ChaosStack
from tests.support.stack import SHIFTED
from worker.inbox.spool import SPOOL
from worker.infra.postgres import Pool

POLL_INTERVAL_S: Final = 0.5
PROBE_EVERY: Final = timedelta(seconds=61)
STATE: Final = """
SELECT (SELECT count(*) FROM pluggy_sync.webhook_events
        WHERE state IN ('pending', 'walking')) AS open_events,
       count(*) FILTER (WHERE s.run_at IS NOT NULL) AS waiting,
       count(*) FILTER (WHERE s.run_at <= now()) AS due,
       count(*) FILTER (WHERE l.until > now()) AS leased,
       extract(epoch FROM min(s.run_at) - now())::float AS next_in_s
FROM pluggy_sync.item_sync s LEFT JOIN pluggy_sync.item_leases l USING (item_id)
"""


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether all came to rest, how long that took, and how much waiting was cut short."""

    quiet: bool
    took_s: float
    skipped_s: float
    state: str


async def is_halted(db: Pool) -> bool:
    return bool(
        await db.fetchval("SELECT count(*) FROM pluggy_sync.halts WHERE halted_at IS NOT NULL")
    )


async def end_halt(db: Pool) -> None:
    """Everything is parked behind a probe a minute: let that minute pass."""
    await _shift(db, ["pluggy_sync.halts"], PROBE_EVERY)


async def settle(stack: ChaosStack, timeout_s: float) -> Settled:
    """Wait until every event is settled and no item has work left."""
    started, skipped_s = time.monotonic(), 0.0
    while True:
        state = await stack.db.fetchrow(STATE)
        assert state is not None, "an aggregate is one row"
        command: Callable[..., Awaitable[Any]] = stack.redis.execute_command
        spooled = int(await command("HLEN", SPOOL))
        took_s = time.monotonic() - started
        text = f"{spooled} spooled, " + ", ".join(f"{v} {k}" for k, v in state.items())
        if not (spooled or state["open_events"] or state["waiting"] or state["leased"]):
            return Settled(True, took_s, skipped_s, text)
        if took_s > timeout_s:
            return Settled(False, took_s, skipped_s, text)
        if await is_halted(stack.db):
            await end_halt(stack.db)
        elif not (spooled or state["due"] or state["leased"]) and (state["next_in_s"] or 0) > 1:
            await _shift(stack.db, list(SHIFTED), timedelta(seconds=state["next_in_s"]))
            skipped_s += state["next_in_s"]
        await asyncio.sleep(POLL_INTERVAL_S)


async def _shift(db: Pool, tables: list[str], by: timedelta) -> None:
    async with db.acquire() as conn, conn.transaction():
        for table in tables:
            assignments = ", ".join(f"{c} = {c} - $1::interval" for c in SHIFTED[table])
            await conn.execute(f"UPDATE {table} SET {assignments}", by)  # noqa: S608 - constants
