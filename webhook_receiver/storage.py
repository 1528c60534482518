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
from worker.infra.outage_log import ServerOutage
from worker.infra.outage_words import Outage, postgres_outage, redis_outage
from worker.infra.postgres import POSTGRES_AWAY, Pool

log = structlog.get_logger()

# A delivery may wait for a group that tries both, and then for its own in the spool: together less
# than an answer may take.
POSTGRES_TIMEOUT_S: Final = 2.0
SPOOL_TIMEOUT_S: Final = 0.8
PROBE_TIMEOUT_S: Final = 1.0
POLL_INTERVAL_S: Final = 0.5
READY_TIMEOUT_S: Final = 1.5


class NotReady(Exception):
    """No event is taken: the word for Postgres, and why the spool does not help."""

    def __init__(self, word: Outage, spool: str | None = None) -> None:
        super().__init__(word)
        self.word = word
        self.spool = spool


class Stores:
    """Postgres and the spool. What failed last is asked last, until a probe finds it again."""

    def __init__(
        self, db: Pool, spool: Spool, *, postgres_timeout_s: float = POSTGRES_TIMEOUT_S
    ) -> None:
        self._db = db
        self._spool = spool
        self._postgres_timeout_s = postgres_timeout_s
        self._postgres = ServerOutage("postgres")
        self._asked = False
        self._checking: asyncio.Task[Outage | None] | None = None
        self._drain_failing = False

    async def store(self, events: Sequence[WebhookEvent]) -> Sequence[Accepted | Exception]:
        """Keep a group of events. Raises what the store that was asked last raised."""
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
        """None if Postgres takes events; else why it does not, while the spool does.

        Raises NotReady if that does not help: a Postgres that has to be migrated, or that refuses
        us our rights, is no reason to spool. All who ask share one look: deliveries need the
        sessions.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._outage())
            # Whoever asked may be gone.
            self._checking.add_done_callback(lambda look: look.cancelled() or look.exception())
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
        """The word again, if the spool takes what Postgres does not. Raises NotReady."""
        try:
            async with asyncio.timeout(SPOOL_TIMEOUT_S):
                await self._spool.check()
        except SpoolRefuses as error:
            raise NotReady(word, str(error)) from error
        except (RedisError, OSError) as error:
            raise NotReady(word, redis_outage(error)) from error
        return word

    async def _ask(self, timeout_s: float) -> None:
        """What storing needs: its tables, its rights, a session that writes. Stores nothing."""
        await accept_events(self._db, (), timeout_s=timeout_s)

    async def watch(self, wake_for: Callable[[Iterable[uuid.UUID]], None]) -> None:
        """Look for a Postgres that is back, and drain what is spooled, until cancelled."""
        while True:
            try:
                await self._probe()
                await self._drain(wake_for)
                self._drain_failing = False
            except Exception as error:  # Redis or Postgres; both are looked for again
                # One line an outage.
                if not self._drain_failing:
                    log.warning("spool_not_drained", error=type(error).__name__)
                self._drain_failing = True
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _probe(self) -> None:
        """Ask at start, and while it is away."""
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
