"""Background tasks: how they are ended, and that the main one is."""

from __future__ import annotations

import asyncio
from typing import Any, Final

ASK_AGAIN_AFTER_S: Final = 0.1
INSIST_EVERY_S: Final = 1.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, whatever they end with.

    Once is not enough: asyncio.wait_for(), by which redis-py sends, forgets a cancellation that
    comes when it is done (https://github.com/python/cpython/issues/86296, mended in Python 3.12).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN_AFTER_S)


async def insist(task: asyncio.Task[Any]) -> None:
    """Cancel a task again that was cancelled once and goes on, for the same reason; without end.

    arq cancels its loop once and then waits for it: the process would stay until it is killed.
    """
    asked = 0
    while True:
        await asyncio.sleep(INSIST_EVERY_S)
        if asked and task.cancelling() >= asked:
            task.cancel()
        asked = task.cancelling()
