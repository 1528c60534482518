"""Wait for what other processes and tasks bring about."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from worker.infra.postgres import Pool

POLL_INTERVAL_S: Final = 0.02
HANGS_AFTER_S: Final = 60.0 if os.environ.get("MUTANT") else 150.0
"""Only against hanging: no statement of ours takes so long on any machine. Planted faults that hang
are noticed sooner, because there are hundreds of them."""


async def until(
    holds: Callable[[], Awaitable[Any]],
    what: str = "it comes true",
    *,
    timeout_s: float = HANGS_AFTER_S,
) -> None:
    """Poll for a condition; the deadline is a guard against hanging."""
    deadline = time.monotonic() + timeout_s
    while not await holds():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(POLL_INTERVAL_S)


async def is_blocked(db: Pool) -> bool:
    """Whether a session of the database waits for a lock."""
    waiting = await db.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(waiting)


async def listens(port: int) -> bool:
    """Whether connections to a port of this machine are taken."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
