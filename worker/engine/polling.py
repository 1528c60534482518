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
    """As many items at once as the process has slots, those that arq's jobs took included."""

    worker: Worker
    slots: int
    tasks: set[asyncio.Task[bool]] = field(default_factory=set)

    @property
    def free(self) -> int:
        """How many more items this process may begin."""
        return max(0, self.slots - self.worker.at_work)

    def begin(self, due: Sequence[uuid.UUID]) -> None:
        """Claim for each of them, as a ring would."""
        for item_id in due[: self.free]:
            task = asyncio.create_task(self.worker.attend(item_id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        """Hand back what is under way."""
        if not (tasks := set(self.tasks)):
            return
        for task in tasks:
            task.cancel()
        # To be asked again would cut off the handing back.
        _, pending = await asyncio.wait(tasks, timeout=RELEASE_TIMEOUT_S)
        await end(*pending)
