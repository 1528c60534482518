"""Wake workers in the background, so that no delivery waits for Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Final

from worker.infra.outage_log import ServerOutage
from worker.wakeup.queue import Waker

WAKE_TIMEOUT_S: Final = 2.0
MAX_WAKES: Final = 1000
"""Items above this number are left to the sweep, which runs every two seconds."""


class WakeUps:
    """Calls the waker once at a time; items that become due meanwhile are in the next call."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._due: dict[uuid.UUID, None] = {}
        self._waking: asyncio.Task[None] | None = None
        self._redis = ServerOutage("redis")

    def wake_for(self, item_ids: Iterable[uuid.UUID]) -> None:
        """Schedule a wake-up for each item, in the order given."""
        for item_id in item_ids:
            if len(self._due) < MAX_WAKES:
                self._due[item_id] = None
        if self._due and self._waking is None:
            self._waking = asyncio.create_task(self._wake_all())

    async def settle(self) -> None:
        """Wait for the wake-ups scheduled so far."""
        if self._waking is not None:
            await self._waking

    async def _wake_all(self) -> None:
        while self._due:
            item_ids, self._due = list(self._due), {}
            await self._wake(item_ids)
        self._waking = None

    async def _wake(self, item_ids: list[uuid.UUID]) -> None:
        try:
            async with asyncio.timeout(WAKE_TIMEOUT_S):
                await self._waker.wake(item_ids)
        except Exception as error:  # the events are stored; the sweep wakes workers for them
            self._redis.failed(error)
        else:
            self._redis.answered()
