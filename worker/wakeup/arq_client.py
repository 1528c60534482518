"""The Redis client that arq reads its queue with; during an outage the queue looks empty.

arq's poll loop ends the process on the first Redis error, and on a job id that is not UTF-8. A
wrapper around the loop would lose count of the job slots; the client is a public setting of arq.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError

from worker.infra.outage_log import ServerOutage
from worker.infra.redis_client import WatchedRedis, connection_pool
from worker.wakeup.queue import QUEUE_NAME, deserialize, serialize

log = structlog.get_logger()


class QueueClient(WatchedRedis):
    """Never raises errors that end arq's loop. read_at (monotonic): its last read of the queue."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read_at = time.monotonic()
        self._refusals: set[str] = set()

    def answers_for(self, commands: Sequence[Any], error: RedisError | OSError) -> list[Any]:
        """The answers of an idle queue. Each kind of error reply is logged once."""
        name = type(error).__name__
        if isinstance(error, ResponseError) and name not in self._refusals:
            self._refusals.add(name)
            log.warning("queue_refused", error=name)
        return [empty_answer(command) for command in commands]

    async def zrangebyscore(self, name: Any, *args: Any, **options: Any) -> list[bytes]:
        """Ids of due jobs; ids that arq cannot decode are removed from the queue."""
        self.read_at = time.monotonic()
        job_ids: list[bytes] = await super().zrangebyscore(name, *args, **options)
        if bad := [job_id for job_id in job_ids if not _is_text(job_id)]:
            log.warning("wakes_removed", job_ids=len(bad), reason="not_utf8")
            await self.zrem(name, *bad)
        return [job_id for job_id in job_ids if job_id not in bad] if bad else job_ids


def queue_client(url: str, outage: ServerOutage) -> QueueClient:
    """The client that arq's worker reads its queue with; arq closes it."""
    return QueueClient(
        connection_pool(url),
        outage,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=QUEUE_NAME,
    )


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
