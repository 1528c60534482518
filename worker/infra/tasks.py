"""Cancel asyncio tasks reliably, the main task of the process included."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

RECANCEL_AFTER_S: Final = 0.1
RECANCEL_INTERVAL_S: Final = 1.0
CHECKS: Final = 30
CHECK_INTERVAL_S: Final = 0.1


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, whatever they end with.

    Once is not enough: asyncio.wait_for(), by which redis-py sends, forgets a cancellation that
    comes when it is done (https://github.com/python/cpython/issues/86296, mended in Python 3.12).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=RECANCEL_AFTER_S)


async def insist(task: asyncio.Task[Any]) -> None:
    """Cancel a task again that was cancelled once and goes on, for the same reason; without end.

    arq cancels its loop once and then waits for it: the process would stay until it is killed.
    """
    while True:
        await asyncio.sleep(RECANCEL_INTERVAL_S)
        if await _stays_cancelled(task):
            task.cancel()


async def _stays_cancelled(task: asyncio.Task[Any]) -> bool:
    """Whether somebody else has cancelled the task.

    A time-out within it does so too, for a moment, and redis-py has one of no length before each
    command: two looks met such moments in a worker within hours, and nobody had asked it to end.
    """
    for _ in range(CHECKS):
        if not task.cancelling():
            return False
        await asyncio.sleep(random.uniform(0.5, 1.5) * CHECK_INTERVAL_S)  # noqa: S311 - out of step
    return task.cancelling() > 0
