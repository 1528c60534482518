"""Dependencies of the handlers of the ops process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import asyncpg
from aiohttp import web

from ops.web.access import Access
from ops.web.barrier import Barrier
from ops.web.installation import Installation
from ops.web.responses import unavailable
from worker.infra.outage_words import postgres_outage
from worker.infra.postgres import POSTGRES_AWAY, Connection, Pool, connection_within
from worker.pluggy_api.client import PluggyClient
from worker.wakeup.queue import ArqWaker

T = TypeVar("T")

DATABASE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class OpsServices:
    """Dependencies of the handlers."""

    db: Pool
    waker: ArqWaker
    client: PluggyClient
    access: Access
    barrier: Barrier
    installation: Installation
    polling: list[asyncio.Task[None]] = field(default_factory=list)
    """The task of the barrier, once the app has started."""

    async def ask(
        self,
        work: Callable[[Connection], Awaitable[T]],
        timeout_s: float = DATABASE_TIMEOUT_S,
    ) -> T:
        """Run statements on a connection. Raises Refused: 503 while Postgres is away."""
        try:
            async with connection_within(self.db, timeout_s) as conn:
                return await work(conn)
        except (*POSTGRES_AWAY, asyncpg.PostgresError) as error:
            word = postgres_outage(error)
            raise unavailable(word, "Postgres does not answer this request now") from error


SERVICES: Final = web.AppKey("services", OpsServices)


def services_of(request: web.Request) -> OpsServices:
    """The dependencies of a request's handler."""
    return request.app[SERVICES]
