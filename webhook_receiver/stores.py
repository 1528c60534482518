"""Where events are kept before their 2xx: in Postgres, and in the spool while Postgres is away."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from worker.accept import Accepted, accept_events
from worker.database import POSTGRES_AWAY, Pool, fetch_within
from worker.drain import drain
from worker.events import WebhookEvent
from worker.spool import Spool

log = structlog.get_logger()

# A delivery may wait for a group that tries both, and then for its own in the spool: together less
# than an answer may take.
POSTGRES_WITHIN_S: Final = 2.0
SPOOL_WITHIN_S: Final = 0.8
PROBE_WITHIN_S: Final = 1.0
LOOK_EVERY_S: Final = 0.5
READY_WITHIN_S: Final = 1.5
IS_MIGRATED: Final = "SELECT count(*) FROM pluggy_sync.webhook_events WHERE id = 0"


class Stores:
    """Postgres and the spool. What failed last is asked last, until a probe finds it again."""

    def __init__(
        self, db: Pool, spool: Spool, *, postgres_within_s: float = POSTGRES_WITHIN_S
    ) -> None:
        self._db = db
        self._spool = spool
        self._postgres_within_s = postgres_within_s
        self._away = False
        self._troubled = False

    async def store(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        """Keep a group of events. Raises what the store that was asked last raised."""
        first, second = self._to_postgres, self._to_spool
        if self._away:
            first, second = second, first
        try:
            return await first(events)
        except Exception as error:
            log.debug("store_failed", error=type(error).__name__)
            return await second(events)

    async def _to_postgres(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        within_s = self._postgres_within_s
        try:
            async with asyncio.timeout(within_s):
                answers = await accept_events(self._db, events, timeout_s=within_s)
        except Exception as error:
            if not self._away:
                log.warning("postgres_away", error=type(error).__name__)
            self._away = True
            raise
        self._is_back()
        return answers

    async def _to_spool(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        async with asyncio.timeout(SPOOL_WITHIN_S):
            return await self._spool.add(events)

    async def is_ready(self) -> bool:
        """Whether Postgres takes events; False if it is away and the spool takes them.

        Raises what is wrong otherwise: a Postgres that is not migrated is no reason to spool.
        """
        try:
            await fetch_within(self._db, READY_WITHIN_S, IS_MIGRATED)
        except POSTGRES_AWAY:
            async with asyncio.timeout(SPOOL_WITHIN_S):
                await self._spool.check()
            return False
        return True

    async def watch(self, ring_for: Callable[[Iterable[uuid.UUID]], None]) -> None:
        """Look for a Postgres that is back, and drain what is spooled, until cancelled."""
        while True:
            try:
                await self._probe()
                await self._drain(ring_for)
                self._troubled = False
            except Exception as error:  # Redis or Postgres; both are looked for again
                # One line an outage.
                if not self._troubled:
                    log.warning("spool_not_drained", error=type(error).__name__)
                self._troubled = True
            await asyncio.sleep(LOOK_EVERY_S)

    async def _probe(self) -> None:
        if self._away:
            try:
                await fetch_within(self._db, PROBE_WITHIN_S, IS_MIGRATED)
            except Exception as error:
                log.debug("postgres_still_away", error=type(error).__name__)
            else:
                self._is_back()

    def _is_back(self) -> None:
        if self._away:
            log.info("postgres_back")
        self._away = False

    async def _drain(self, ring_for: Callable[[Iterable[uuid.UUID]], None]) -> None:
        if self._away:
            await self._spool.figures()
            return
        while (drained := await drain(self._db, self._spool)).entries:
            log.info("spool_drained", events=drained.entries)
            ring_for(drained.due)
