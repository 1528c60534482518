"""Remember what fails, so that an outage is logged once: of a server, or of work repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from worker.infra.lazy_log import LazyLog
from worker.infra.outage_words import REFUSES_WRITES, postgres_outage, redis_outage

log = LazyLog()

RECHECK_AFTER_S: Final = 1.0
WORDS: Final[Mapping[str, Callable[[BaseException], str]]] = {
    "postgres": postgres_outage,
    "redis": redis_outage,
    "storage": lambda _: "storage_away",
}
BACK: Final[Mapping[str, str]] = {
    "postgres": "postgres_back",
    "redis": "redis_back",
    "storage": "storage_back",
}


@dataclass(slots=True)
class Failing:
    """Kinds of failures since the last success: each is logged once, however often it repeats."""

    kinds: set[str] = field(default_factory=set)

    def is_new(self, kind: str) -> bool:
        """Note a failure; returns whether it is the first of its kind."""
        is_new = kind not in self.kinds
        self.kinds.add(kind)
        return is_new

    def succeeded(self) -> None:
        """Note a success: the next failure is logged again."""
        self.kinds.clear()


@dataclass(slots=True)
class ServerOutage:
    """Outage state of one server, fed with every failure and success.

    word: the cause, while the outage lasts. Each cause is logged once per outage.
    """

    server: str
    since: float | None = None
    failed_at: float = 0.0
    word: str | None = None
    _causes: Failing = field(default_factory=Failing)

    @property
    def lasts(self) -> bool:
        """Whether the server is away, as far as this process knows."""
        return self.since is not None

    @property
    def is_fresh(self) -> bool:
        """Whether the last failure is younger than RECHECK_AFTER_S, too early for another try."""
        return self.lasts and time.monotonic() - self.failed_at < RECHECK_AFTER_S

    @property
    def refuses_writes(self) -> bool:
        """Whether the server answers but refuses writes: only a write can end the outage."""
        return self.word in REFUSES_WRITES

    def failed(self, error: BaseException) -> None:
        """Note a failed call; log the first of each cause."""
        self.failed_at = time.monotonic()
        if self.since is None:
            self.since = self.failed_at
        self.word = str(WORDS[self.server](error))
        if self._causes.is_new(self.word):
            log.warning(self.word, error=type(error).__name__)

    def answered(self) -> None:
        """Note a successful call; it ends an outage without failures in the last second."""
        # Connections fail one after the other: a success between two failures ends nothing.
        if self.since is None or self.is_fresh:
            return
        log.warning(BACK[self.server], away_s=round(time.monotonic() - self.since, 1))
        self.since = self.word = None
        self._causes.succeeded()


def ignore_lost_connections(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of a loop: the loss of a connection is no fault where nobody awaits it.

    asyncpg tells the loss to every call under way, also to one that is cancelled at that moment;
    asyncio would log a traceback for each. The outage itself is logged by ServerOutage.
    """
    error = context.get("exception")
    if isinstance(error, asyncpg.PostgresConnectionError):
        log.debug("connection_lost", error=type(error).__name__)
    else:
        loop.default_exception_handler(context)
