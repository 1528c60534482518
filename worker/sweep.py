"""The net under the doorbell: every two seconds, due items that nobody works on are rung again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

import structlog
from redis.exceptions import RedisError

from worker.database import POSTGRES_AWAY, Pool
from worker.events import Lane
from worker.queries import QUERIES
from worker.queue import ArqDoorbell

log = structlog.get_logger()

SWEEP_EVERY_S: Final = 2.0
SWEEP_LOCK: Final = 0x70_6C_75_67_02
"""Advisory lock: one sweep at a time over all workers."""


@dataclass(slots=True)
class Sweep:
    """A background task of every worker. ticked_at and swept_at (monotonic) tell its health."""

    db: Pool
    doorbell: ArqDoorbell
    worker_id: str
    slots: int
    ticked_at: float = field(default_factory=time.monotonic)
    swept_at: float = 0.0
    troubled: bool = False

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
                self.swept_at = time.monotonic()
                self.troubled = False
            except (*POSTGRES_AWAY, RedisError) as error:
                # One line an outage, not one every two seconds.
                if not self.troubled:
                    log.warning("sweep_failed", error=type(error).__name__)
                self.troubled = True
            except Exception:
                log.exception("sweep_crashed")
            self.ticked_at = time.monotonic()
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """One turn; returns how many items were rung."""
        slots = await self.db.fetchval(QUERIES["beat_worker"], self.worker_id, self.slots)
        await self.doorbell.announce_slots(slots)
        await self._settle_without_item()
        room = await self.doorbell.room()
        if room <= 0:
            return 0
        due = await self.db.fetch(QUERIES["sweep_due_items"], SWEEP_LOCK, room, int(Lane.AUDIT))
        return await self.doorbell.ring([record["item_id"] for record in due])

    async def _settle_without_item(self) -> None:
        for record in await self.db.fetch(QUERIES["ignore_events_without_item"]):
            log.info("events_ignored", event_name=record["event"], events=record["events"])
