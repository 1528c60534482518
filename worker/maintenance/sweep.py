"""The sweep: wakes workers for due items every two seconds; a lost wake-up costs only seconds."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError, ResponseError

from worker.engine.polling import PolledWork
from worker.infra.lanes import Lane
from worker.infra.outage_log import Failing, ServerOutage
from worker.infra.postgres import POSTGRES_AWAY, POSTGRES_NOT_MIGRATED, Pool
from worker.store import sweep
from worker.wakeup.queue import ArqWaker

log = structlog.get_logger()

SWEEP_EVERY_S: Final = 2.0
SWEEP_LOCK: Final = 0x70_6C_75_67_02
"""Advisory lock: one sweep at a time over all workers."""


@dataclass(slots=True)
class Sweep:
    """A background task of every worker. ticked_at and swept_at (monotonic) are for its health."""

    db: Pool
    waker: ArqWaker
    worker_id: str
    slots: int
    polled: PolledWork | None = None
    postgres: ServerOutage = field(default_factory=partial(ServerOutage, "postgres"))
    redis: ServerOutage = field(default_factory=partial(ServerOutage, "redis"))
    ticked_at: float = field(default_factory=time.monotonic)
    swept_at: float = 0.0
    failing: Failing = field(default_factory=Failing)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
                self.swept_at = time.monotonic()
                self.failing.succeeded()
            except (*POSTGRES_AWAY, *POSTGRES_NOT_MIGRATED) as error:
                self.postgres.failed(error)
            except RedisError as error:
                # An outage is logged by the client of Redis; a refusal is logged here, once.
                if isinstance(error, ResponseError) and self.failing.is_new("refused"):
                    log.warning("sweep_failed", error=type(error).__name__)
            except Exception:
                log.exception("sweep_crashed")
            self.ticked_at = time.monotonic()
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Wake workers for due items; returns how many. If Redis fails, begin them in this process.

        Raises RedisError, and the errors of a Postgres that is away.
        """
        slots = await sweep.beat_worker(
            self.db, worker_id=self.worker_id, slots=self.slots, redis_outage=self.redis.word
        )
        await self._settle_without_item()
        self.postgres.answered()
        try:
            await self.waker.announce_slots(slots)
            return await self.waker.wake(await self._due(await self.waker.room()))
        except RedisError:
            if self.polled is not None:
                self.polled.begin(await self._due(self.polled.free))
            raise

    async def _due(self, room: int) -> list[uuid.UUID]:
        if room <= 0:
            return []
        return await sweep.sweep_due_items(
            self.db, lock=SWEEP_LOCK, limit=room, lowest_lane=int(Lane.AUDIT)
        )

    async def _settle_without_item(self) -> None:
        for record in await sweep.ignore_events_without_item(self.db):
            log.info("events_ignored", event_name=record.event, events=record.events)
