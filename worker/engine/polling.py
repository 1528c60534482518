"""Polling: syncs due items straight from Postgres while Redis is away and nothing can be woken."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from worker.engine.job import Worker
from worker.infra.tasks import end

RELEASE_TIMEOUT_S: Final = 5.0


@dataclass(slots=True)
class PolledWork:
    """Syncs of due items without wake-ups; together with arq's jobs at most as many as slots."""

    worker: Worker
    slots: int
    tasks: set[asyncio.Task[bool]] = field(default_factory=set)

    @property
    def free(self) -> int:
        """Items that this process may begin now."""
        return max(0, self.slots - self.worker.at_work)

    def begin(self, due: Sequence[uuid.UUID]) -> None:
        """Claim once for each item, as a wake-up would."""
        for item_id in due[: self.free]:
            task = asyncio.create_task(self.worker.attend(item_id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        """Cancel the syncs under way, which release their items."""
        if not (tasks := set(self.tasks)):
            return
        for task in tasks:
            task.cancel()
        # A second cancellation would interrupt the release.
        _, pending = await asyncio.wait(tasks, timeout=RELEASE_TIMEOUT_S)
        await end(*pending)
