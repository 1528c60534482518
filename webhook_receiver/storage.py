"""Store events before their 2xx: in Postgres, or in the spool while Postgres is away."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import asyncpg
import structlog
from redis.exceptions import RedisError

from worker.inbox.accept import Accepted, accept_events
from worker.inbox.drain import drain
from worker.inbox.events import WebhookEvent
from worker.inbox.spool import Spool, SpoolRefuses
from worker.infra.outage_log import Failing, ServerOutage
from worker.infra.outage_words import Outage, postgres_outage, redis_outage
from worker.infra.postgres import POSTGRES_AWAY, Pool

log = structlog.get_logger()

# A delivery may wait for a group that tries both stores, and then for its own in the spool; before
# the former for one of at most QUICK_S (intake.py). The sum of these stays below the time-out of an
# answer.
POSTGRES_TIMEOUT_S: Final = 2.0
SPOOL_TIMEOUT_S: Final = 0.8
PROBE_TIMEOUT_S: Final = 1.0
POLL_INTERVAL_S: Final = 0.5
READY_TIMEOUT_S: Final = 1.5


class NotReady(Exception):
    """Neither store takes events: the outage of Postgres, and the reason of the spool."""

    def __init__(self, word: Outage, spool: str | None = None) -> None:
        super().__init__(word)
        self.word = word
        self.spool = spool


class Stores:
    """Postgres and the spool. During an outage of Postgres the spool is tried first."""

    def __init__(
        self, db: Pool, spool: Spool, *, postgres_timeout_s: float = POSTGRES_TIMEOUT_S
    ) -> None:
        self._db = db
        self._spool = spool
        self._postgres_timeout_s = postgres_timeout_s
        self._postgres = ServerOutage("postgres")
        self._asked = False
        self._checking: asyncio.Task[Outage | None] | None = None
        self._draining = Failing()

    async def store(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        """Store a group of events in one of both. Raises the error of the second one tried."""
        first, second = self._to_postgres, self._to_spool
        if self._postgres.lasts:
            first, second = second, first
        try:
            return await first(events)
        except Exception as error:
            log.debug("store_failed", error=type(error).__name__)
            return await second(events)

    async def _to_postgres(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        timeout_s = self._postgres_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                answers = await accept_events(self._db, events, timeout_s=timeout_s)
        except Exception as error:
            self._postgres.failed(error)
            raise
        self._postgres.answered()
        return answers

    async def _to_spool(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        async with asyncio.timeout(SPOOL_TIMEOUT_S):
            return await self._spool.add(events)

    async def outage(self) -> Outage | None:
        """None if Postgres takes events; its outage if the spool takes them.

        Raises NotReady if neither does. A missing migration or missing rights are not an outage, so
        the spool does not help. Concurrent callers share one check, to leave the connections to
        deliveries.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._outage())
            # The callers may be gone.
            self._checking.add_done_callback(lambda check: check.cancelled() or check.exception())
        return await asyncio.shield(self._checking)

    async def _outage(self) -> Outage | None:
        try:
            await self._ask(READY_TIMEOUT_S)
        except POSTGRES_AWAY as error:
            self._postgres.failed(error)
            return await self._spooling(postgres_outage(error))
        except asyncpg.PostgresError as error:
            self._postgres.failed(error)
            raise NotReady(postgres_outage(error)) from error
        return None

    async def _spooling(self, word: Outage) -> Outage:
        """Return the outage if the spool takes events. Raises NotReady."""
        try:
            async with asyncio.timeout(SPOOL_TIMEOUT_S):
                await self._spool.check()
        except SpoolRefuses as error:
            raise NotReady(word, str(error)) from error
        except (RedisError, OSError) as error:
            raise NotReady(word, redis_outage(error)) from error
        return word

    async def _ask(self, timeout_s: float) -> None:
        """Check tables, rights and a writable session, by accepting no events."""
        await accept_events(self._db, (), timeout_s=timeout_s)

    async def watch(self, wake_for: Callable[[Iterable[uuid.UUID]], None]) -> None:
        """Probe Postgres during an outage, and drain the spool, until cancelled."""
        while True:
            try:
                await self._probe()
                await self._drain(wake_for)
                self._draining.succeeded()
            except Exception as error:  # Redis or Postgres; both are tried again
                if self._draining.is_new("failed"):
                    log.warning("spool_not_drained", error=type(error).__name__)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _probe(self) -> None:
        """Probe Postgres at start and during an outage."""
        if self._asked and not self._postgres.lasts:
            return
        self._asked = True
        try:
            await self._ask(PROBE_TIMEOUT_S)
        except Exception as error:
            self._postgres.failed(error)
        else:
            self._postgres.answered()

    async def _drain(self, wake_for: Callable[[Iterable[uuid.UUID]], None]) -> None:
        if self._postgres.lasts:
            await self._spool.figures()
            return
        while (drained := await drain(self._db, self._spool)).entries:
            log.info("spool_drained", events=drained.entries)
            wake_for(drained.due)
