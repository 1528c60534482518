"""Background tasks: how they are ended."""

from __future__ import annotations

import asyncio
from typing import Any, Final

ASK_AGAIN_AFTER_S: Final = 0.1


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
