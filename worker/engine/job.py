"""The arq job `sync_item`: lease the best due item, sync it, wake a worker for the next one."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from worker.engine.sync_item import Engine, Next
from worker.infra.lanes import Lane
from worker.infra.metrics import CLAIMS
from worker.infra.outage_log import ServerOutage
from worker.infra.outage_words import Outage
from worker.infra.postgres import OLDER_RELEASE, POSTGRES_AWAY, POSTGRES_NOT_MIGRATED, Pool
from worker.lease.lease import LEASE, Lease
from worker.store.lease import (
    claim_best_item,
    claim_oldest_item,
    claim_probe_item,
    claim_woken_item,
    next_due_item,
)
from worker.wakeup.queue import Waker

log = structlog.get_logger()

OLDEST_EVERY: Final = 20


@dataclass(slots=True)
class Worker:
    """State shared by the jobs of a worker process."""

    db: Pool
    engine: Engine
    waker: Waker
    postgres: ServerOutage = field(default_factory=partial(ServerOutage, "postgres"))
    claims: int = field(default=0)
    at_work: int = field(default=0)
    """Slots of the process in use, by arq's jobs and by polling."""

    async def claim(self, woken: uuid.UUID | None) -> Lease | None:
        """Lease the item that was woken if it is due in the live lane, else the best due one.

        Every 20th claim takes the item due longest in any lane. While everything is halted: one
        item a minute, as a probe.
        """
        found, probe = None, False
        self.claims += 1
        with self.engine.lowest_lane() as lowest:
            if self.claims % OLDEST_EVERY == 0 and lowest == Lane.AUDIT:
                found = await claim_oldest_item(self.db, lease_for=LEASE)
            if found is None and woken is not None:
                found = await claim_woken_item(self.db, woken, lease_for=LEASE)
            if found is None:
                found = await claim_best_item(self.db, lease_for=LEASE, lowest_lane=int(lowest))
            if found is None:
                found, probe = await claim_probe_item(self.db, lease_for=LEASE), True
        if found is None:
            return None
        return Lease(
            found.item_id, found.token, Lane(found.lane), found.now, found.has_open_runs, probe
        )

    async def work(self, woken: uuid.UUID) -> bool:
        """Sync one item, then wake a worker for the next due one; returns whether one was synced.

        One item a job: a worker that is shutting down takes no more jobs, and so no more items.
        """
        lease = await self._claim_whole(woken)
        if lease is None:
            return False
        CLAIMS.labels(lane=lease.lane.name.lower()).inc()
        found = await self.engine.sync(lease)
        await self._wake_next(found or await self._next())
        return True

    async def attend(self, woken: uuid.UUID) -> bool:
        """Do the work of a job; outages of Postgres and bugs of ours are logged and not raised."""
        self.at_work += 1
        try:
            return await self.work(woken)
        except POSTGRES_AWAY as error:
            self.postgres.failed(error)
        except POSTGRES_NOT_MIGRATED as error:
            # Postgres's message names what is missing. All items stay due until it exists.
            log.error(Outage.POSTGRES_NOT_MIGRATED, advice=OLDER_RELEASE, missing=str(error))
        except Exception:
            log.exception("sync_crashed")
        finally:
            self.at_work -= 1
        return False

    async def _claim_whole(self, woken: uuid.UUID | None) -> Lease | None:
        """Claim; if cancelled meanwhile, release the item that the claim has leased."""
        claiming = asyncio.create_task(self.claim(woken))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Postgres is away: the lease lapses by itself.
            with contextlib.suppress(*POSTGRES_AWAY):
                if (lease := await claiming) is not None:
                    await self.engine.release(lease)
            raise

    async def _next(self) -> Next:
        with self.engine.lowest_lane() as lowest:
            return Next(await next_due_item(self.db, lowest_lane=int(lowest)))

    async def _wake_next(self, found: Next) -> None:
        """Wake a worker for the next due item; if this fails, the sweep will do it."""
        # Redis is away: its client has logged it.
        with contextlib.suppress(RedisError, OSError):
            await self.waker.wake([found.item_id] if found.item_id else [])


async def sync_item(ctx: dict[str, Any], item_id: str) -> None:
    """The arq job. It always succeeds for arq: failures are in Postgres, with the next attempt."""
    worker: Worker = ctx["worker"]
    try:
        woken = uuid.UUID(item_id)
    except ValueError:
        log.warning("wake_unreadable")
        return
    try:
        await worker.attend(woken)
    except asyncio.CancelledError:
        # A shutdown that waits no longer, or arq's time-out; the item is released and stays due.
        # Not raised: arq would log it as an error of ours.
        log.warning("sync_cancelled", item_id=item_id)
