"""Redis client that fails fast during an outage and retries at most once a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from arq.connections import ArqRedis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError, WatchError

from worker.infra.outage_log import ServerOutage
from worker.infra.outage_words import refuses_writes
from worker.infra.redis_keys import PREFIX

WRITE_PROBE: Final = PREFIX + "write_probe"
PROBE_EXPIRES_MS: Final = 10_000


class WatchedRedis(ArqRedis):
    """While Redis is away one command at a time tries it; others fail at once, without waiting."""

    def __init__(self, pool: ConnectionPool, outage: ServerOutage, **options: Any) -> None:
        self.outage = outage
        self._tries = False
        super().__init__(pool, **options)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises redis-py's errors."""
        return await self.watched(super().execute_command, *args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> WatchedPipeline:
        return WatchedPipeline(self, transaction, shard_hint)

    async def watched(
        self, execute: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> Any:
        """Await what talks to Redis, and tell the outage what became of it."""
        trial = self.outage.lasts
        if trial and (self._tries or self.outage.is_fresh):
            raise RedisConnectionError("Redis is away")
        self._tries = trial
        try:
            answer = await execute(*args, **options)
            if trial and self.outage.refuses_writes:
                await self.probe()
        except (RedisError, OSError) as error:
            # Other refusals are about the command: Redis is there.
            if not isinstance(error, ResponseError | WatchError) or refuses_writes(error):
                self.outage.failed(error)
            raise
        finally:
            if trial:
                self._tries = False
        self.outage.answered()
        return answer

    async def probe(self) -> None:
        """Write a key that expires. Raises redis-py's errors if Redis takes no writes."""
        write: Callable[..., Awaitable[Any]] = super().execute_command
        await write("SET", WRITE_PROBE, 1, "PX", PROBE_EXPIRES_MS)


def connect_watched(url: str, outage: ServerOutage, *, timeout_s: float = 2.0) -> WatchedRedis:
    """The client for all that a worker asks of Redis but the queue."""
    client = WatchedRedis(connection_pool(url, timeout_s=timeout_s), outage)
    client.auto_close_connection_pool = True  # the pool is nobody else's
    return client


class WatchedPipeline(Pipeline):
    """The same for commands sent together."""

    def __init__(self, client: WatchedRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self.client_of = client

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        return await self.client_of.watched(super().immediate_execute_command, *args, **options)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        answers: list[Any] = await self.client_of.watched(super().execute, raise_on_error)
        return answers


def connect(url: str, *, timeout_s: float = 2.0) -> ArqRedis:
    """A client whose connections are opened when used. Errors come with the first command."""
    client = ArqRedis(connection_pool(url, timeout_s=timeout_s))
    client.auto_close_connection_pool = True  # the pool is nobody else's
    return client


def connection_pool(url: str, *, timeout_s: float = 2.0) -> ConnectionPool:
    """Connections that wait for an answer no longer than the time-out.

    By TLS (`rediss:`) the certificate has to be for the host, which redis-py alone does not demand;
    the URL's own parameters go before that.
    """
    checked = url.startswith("rediss:") and "ssl_cert_reqs=none" not in url
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # A replica since a fail-over: once more by a new connection, which leads to the primary.
        retry=Retry(NoBackoff(), 1, supported_errors=(ReadOnlyError,)),
        retry_on_error=[ReadOnlyError],
        **({"ssl_check_hostname": True} if checked else {}),
    )
    return pool
