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

from worker.engine.sync_item import Engine
from worker.infra.lanes import Lane
from worker.infra.metrics import CLAIMS
from worker.infra.outage_log import ServerOutage
from worker.infra.outage_words import Outage
from worker.infra.postgres import OLDER_RELEASE, POSTGRES_AWAY, POSTGRES_NOT_MIGRATED, Pool
from worker.infra.queries import QUERIES
from worker.lease.lease import LEASE, Lease
from worker.wakeup.queue import Waker

log = structlog.get_logger()

OLDEST_EVERY: Final = 20


@dataclass(slots=True)
class Worker:
    """What the jobs of a worker process share."""

    db: Pool
    engine: Engine
    waker: Waker
    postgres: ServerOutage = field(default_factory=partial(ServerOutage, "postgres"))
    claims: int = field(default=0)
    at_work: int = field(default=0)
    """How many of the process's slots are taken, woken for or not."""

    async def claim(self, woken: uuid.UUID | None) -> Lease | None:
        """The item woken for if it is due in the live lane, else the best due one.

        Every 20th claim takes the one that is due longest in any lane. While everything is halted:
        once a minute one item, as a probe.
        """
        # Held while claiming: many are woken for at once, and each would see the same free slot.
        bulk = self.engine.bulk.take()
        try:
            return await self._claim(woken, Lane.AUDIT if bulk else Lane.RETRY)
        finally:
            if bulk:
                self.engine.bulk.give_back()

    async def _claim(self, woken: uuid.UUID | None, lowest: Lane) -> Lease | None:
        self.claims += 1
        if self.claims % OLDEST_EVERY == 0 and lowest == Lane.AUDIT:
            found = await self.db.fetchrow(QUERIES["claim_oldest_item"], LEASE)
            if found is not None:
                return _lease(found)
        if woken is not None:
            found = await self.db.fetchrow(QUERIES["claim_woken_item"], woken, LEASE)
            if found is not None:
                return _lease(found)
        found = await self.db.fetchrow(QUERIES["claim_best_item"], LEASE, int(lowest))
        if found is not None:
            return _lease(found)
        found = await self.db.fetchrow(QUERIES["claim_probe_item"], LEASE)
        return _lease(found, probe=True) if found is not None else None

    async def work(self, woken: uuid.UUID) -> bool:
        """Sync one item, then ring for the next due one; returns whether there was any to sync.

        One item a job: a worker that is told to stop takes no more jobs, and so no more items.
        """
        lease = await self._claim_whole(woken)
        if lease is None:
            return False
        CLAIMS.labels(lane=lease.lane.name.lower()).inc()
        due_again = await self.engine.sync(lease)
        await self._wake_next(lease.item_id if due_again else None)
        return True

    async def attend(self, woken: uuid.UUID) -> bool:
        """Work; an outage of Postgres and a fault of ours are told and end nothing."""
        self.at_work += 1
        try:
            return await self.work(woken)
        except POSTGRES_AWAY as error:
            self.postgres.failed(error)
        except POSTGRES_NOT_MIGRATED as error:
            # Postgres's own words name what is missing. All stays due until it is there.
            log.error(Outage.POSTGRES_NOT_MIGRATED, advice=OLDER_RELEASE, missing=str(error))
        except Exception:
            log.exception("sync_crashed")
        finally:
            self.at_work -= 1
        return False

    async def _claim_whole(self, woken: uuid.UUID | None) -> Lease | None:
        """Claim; whoever is cancelled meanwhile hands back what the claim has got."""
        claiming = asyncio.create_task(self.claim(woken))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Postgres away: the lease lapses.
            with contextlib.suppress(*POSTGRES_AWAY):
                if (lease := await claiming) is not None:
                    await self.engine.release(lease)
            raise

    async def _wake_next(self, item_id: uuid.UUID | None) -> None:
        """Keep the chain of rings going while anything is due; the sweep mends a broken chain."""
        if item_id is None:
            item_id = await self.db.fetchval(QUERIES["next_due_item"], int(self._lowest_lane()))
        # Redis away: its client has told of it.
        with contextlib.suppress(RedisError, OSError):
            await self.waker.wake([item_id] if item_id else [])

    def _lowest_lane(self) -> Lane:
        return Lane.AUDIT if self.engine.bulk.free > 0 else Lane.RETRY


async def sync_item(ctx: dict[str, Any], item_id: str) -> None:
    """arq job. Always "succeeds" for arq: what failed is in Postgres, with its next try."""
    worker: Worker = ctx["worker"]
    try:
        woken = uuid.UUID(item_id)
    except ValueError:
        log.warning("wake_unreadable")
        return
    await worker.attend(woken)


def _lease(found: Any, *, probe: bool = False) -> Lease:
    return Lease(found["item_id"], found["token"], Lane(found["lane"]), probe)
