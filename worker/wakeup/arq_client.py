"""The Redis client that arq reads its queue with; during an outage the queue looks empty.

arq's poll loop ends the process on the first Redis error, and on a job id that is not UTF-8. A
wrapper around the loop would lose count of the job slots; the client is a public setting of arq.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError, WatchError

from worker.infra.outage_log import ServerOutage
from worker.infra.redis_client import WatchedPipeline, WatchedRedis, connection_pool
from worker.wakeup.queue import QUEUE_NAME, deserialize, serialize

log = structlog.get_logger()


class QueueClient(WatchedRedis):
    """Never raises errors that end arq's loop. read_at (monotonic): its last read of the queue."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read_at = time.monotonic()
        self._refusals: set[str] = set()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute it; while Redis is away, answer as an idle queue would."""
        try:
            return await super().execute_command(*args, **options)
        except (RedisError, OSError) as error:
            self.log_refusal(error)
            return empty_answer(args)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> QueuePipeline:
        return QueuePipeline(self, transaction, shard_hint)

    async def zrangebyscore(self, name: Any, *args: Any, **options: Any) -> list[bytes]:
        """Ids of due jobs; ids that arq cannot decode are removed from the queue."""
        self.read_at = time.monotonic()
        job_ids: list[bytes] = await super().zrangebyscore(name, *args, **options)
        if bad := [job_id for job_id in job_ids if not _is_text(job_id)]:
            log.warning("wakes_removed", job_ids=len(bad), reason="not_utf8")
            await self.zrem(name, *bad)
        return [job_id for job_id in job_ids if job_id not in bad] if bad else job_ids

    def log_refusal(self, error: RedisError | OSError) -> None:
        """Log each kind of error reply once; outages are logged elsewhere."""
        name = type(error).__name__
        if isinstance(error, ResponseError) and name not in self._refusals:
            self._refusals.add(name)
            log.warning("queue_refused", error=name)


def queue_client(url: str, outage: ServerOutage) -> QueueClient:
    """The client that arq's worker reads its queue with; arq closes it."""
    return QueueClient(
        connection_pool(url),
        outage,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=QUEUE_NAME,
    )


class QueuePipeline(WatchedPipeline):
    """A pipeline with empty answers during an outage. WatchError is raised: arq expects it."""

    def __init__(self, reader: QueueClient, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(reader, transaction, shard_hint)
        self._reader = reader

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().immediate_execute_command(*args, **options)
        except (RedisError, OSError) as error:
            self._reader.log_refusal(error)
            return empty_answer(args)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = [args for args, _ in self.command_stack]
        watching = self.watching
        try:
            return await super().execute(raise_on_error)
        except (RedisError, OSError) as error:
            if watching:
                raise WatchError(str(error)) from error
            self._reader.log_refusal(error)
            return [empty_answer(command) for command in commands]

    async def reset(self) -> None:
        """Return the connection; if UNWATCH fails, close it, which ends the watch too."""
        try:
            await super().reset()  # type: ignore[no-untyped-call]  # redis-py
        except (RedisError, OSError):
            await self._give_back_closed()
        except asyncio.CancelledError:
            # A worker that is stopped is cancelled again while it waits for the answer.
            await self._give_back_closed()
            raise

    async def _give_back_closed(self) -> None:
        """Give the connection back without a wait for Redis."""
        self.watching = False
        if self.connection is not None:
            await self.connection.disconnect(nowait=True)
        await super().reset()  # type: ignore[no-untyped-call]  # redis-py


def empty_answer(command: Sequence[Any]) -> Any:
    """The answer of a command during an outage; EXISTS is 1: the job is another worker's."""
    answers: dict[Any, Any] = {"ZRANGEBYSCORE": [], "ZCARD": 0, "EXISTS": 1, "INFO": {}}
    return answers.get(command[0])


def _is_text(job_id: bytes) -> bool:
    try:
        job_id.decode()
    except UnicodeDecodeError:
        return False
    return True
