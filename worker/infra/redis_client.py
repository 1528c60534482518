"""Redis client that fails fast during an outage and retries at most once a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from arq.connections import ArqRedis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from worker.infra.outage_log import ServerOutage
from worker.infra.outage_words import refuses_writes
from worker.infra.redis_keys import PREFIX

WRITE_PROBE: Final = PREFIX + "write_probe"
PROBE_EXPIRES_MS: Final = 10_000


class WatchedRedis(ArqRedis):
    """A client that, during an outage, lets one command at a time try; others fail at once."""

    def __init__(self, pool: ConnectionPool, outage: ServerOutage, **options: Any) -> None:
        self.outage = outage
        self._tries = False
        super().__init__(pool, **options)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises redis-py's errors."""
        try:
            return await self.watched(super().execute_command, *args, **options)
        except (RedisError, OSError) as error:
            return self.answers_for([args], error)[0]

    def answers_for(self, commands: Sequence[Any], error: RedisError | OSError) -> list[Any]:
        """Answers of failed commands; subclasses may give some instead of raising the error."""
        raise error

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> WatchedPipeline:
        return WatchedPipeline(self, transaction, shard_hint)

    async def watched(
        self, execute: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> Any:
        """Run a command or pipeline, and report its success or failure to the outage state."""
        trial = self.outage.lasts
        if trial and (self._tries or self.outage.is_fresh):
            raise RedisConnectionError("Redis is away")
        self._tries = trial
        try:
            answer = await execute(*args, **options)
            if trial and self.outage.refuses_writes:
                await self.probe()
        except (RedisError, OSError) as error:
            # Other error replies are about the command: Redis is up.
            if not isinstance(error, ResponseError) or refuses_writes(error):
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


class WatchedPipeline(Pipeline):
    """A pipeline that reports to the outage state of its client."""

    def __init__(self, client: WatchedRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self.client_of = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = [args for args, _ in self.command_stack]
        try:
            answers: list[Any] = await self.client_of.watched(super().execute, raise_on_error)
        except (RedisError, OSError) as error:
            return self.client_of.answers_for(commands, error)
        return answers


def connect(url: str, outage: ServerOutage | None = None, *, timeout_s: float = 2.0) -> ArqRedis:
    """A client that connects with the first command; with an outage state, a watched one."""
    pool = connection_pool(url, timeout_s=timeout_s)
    client = ArqRedis(pool) if outage is None else WatchedRedis(pool, outage)
    client.auto_close_connection_pool = True  # the pool has no other user
    return client


def connection_pool(url: str, *, timeout_s: float = 2.0) -> ConnectionPool:
    """A connection pool with a time-out on every answer.

    With TLS (`rediss:`) the certificate must match the host, which redis-py does not check by
    default; parameters of the URL override that.
    """
    checked = url.startswith("rediss:") and "ssl_cert_reqs=none" not in url
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # After a fail-over the server may be a replica: a new connection reaches the primary.
        retry=Retry(NoBackoff(), 1, supported_errors=(ReadOnlyError,)),
        retry_on_error=[ReadOnlyError],
        **({"ssl_check_hostname": True} if checked else {}),
    )
    return pool
