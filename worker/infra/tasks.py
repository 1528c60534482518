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
    """Cancel tasks repeatedly until all have ended, with any result.

    Once is not enough: asyncio.wait_for(), used by redis-py, loses a cancellation that arrives when
    it is done (https://github.com/python/cpython/issues/86296, fixed in Python 3.12).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=RECANCEL_AFTER_S)


async def insist(task: asyncio.Task[Any]) -> None:
    """Cancel a task again whenever a cancellation was lost, as in end(). Runs forever.

    arq cancels its loop once and then waits for it: without this the process would not end.
    """
    while True:
        await asyncio.sleep(RECANCEL_INTERVAL_S)
        if await _stays_cancelled(task):
            task.cancel()


async def _stays_cancelled(task: asyncio.Task[Any]) -> bool:
    """Whether a task was cancelled from outside and still runs.

    A time-out inside the task also cancels it for a moment, and redis-py uses one of no length
    before each command. Two checks met such moments within hours, hence CHECKS of them.
    """
    for _ in range(CHECKS):
        if not task.cancelling():
            return False
        await asyncio.sleep(random.uniform(0.5, 1.5) * CHECK_INTERVAL_S)  # noqa: S311 - out of step
    return task.cancelling() > 0
