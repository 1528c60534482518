"""Wake workers by arq jobs in Redis, and read the queue for arq. A job carries only an item id.

arq's poll loop ends the process on the first Redis error, and on a job id that is not UTF-8. A
wrapper around the loop would lose count of the job slots; the client is a public setting of arq.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, TypedDict

import msgspec
import structlog
from arq.connections import ArqRedis
from arq.jobs import serialize_job
from redis.exceptions import RedisError, ResponseError

from worker.infra.outage_log import Failing, ServerOutage
from worker.infra.redis_client import WatchedRedis, connection_pool
from worker.infra.redis_keys import PREFIX

log = structlog.get_logger()

QUEUE_NAME: Final = PREFIX + "queue"
SLOTS_KEY: Final = PREFIX + "slots"
SYNC_ITEM: Final = "sync_item"
WAKE_EXPIRES_MS: Final = 3_600_000
ASSUMED_SLOTS: Final = 20
CLOCKS_APART_MS: Final = 60_000
"""Jobs are dated back by this, because arq waits until its own clock has reached the date."""

# The queue holds at most as many jobs as can run soon: twice the slots of all workers. One call
# enqueues a group, and a lost connection raises (arq's own enqueue would report a "duplicate").
WAKE_SCRIPT: Final = """
local slots = tonumber(redis.call('GET', KEYS[2])) or tonumber(ARGV[1])
local room = 2 * slots - redis.call('ZCARD', KEYS[1])
local time = redis.call('TIME')
local due_ms = time[1] * 1000 - tonumber(ARGV[3])
local woken = 0
for i = 4, #ARGV, 2 do
  if woken >= room then break end
  redis.call('SET', 'arq:job:' .. ARGV[i], ARGV[i + 1], 'PX', ARGV[2])
  redis.call('ZADD', KEYS[1], due_ms, ARGV[i])
  woken = woken + 1
end
return woken
"""


class Waker(Protocol):
    """Wakes workers. The interface that hides arq."""

    async def wake(self, item_ids: Sequence[uuid.UUID]) -> int:
        """Wake a worker for each item, as far as the queue has room; returns how many."""

    async def room(self) -> int:
        """Number of jobs that the queue still has room for."""


class ArqWaker:
    """Enqueues arq jobs with random ids; a job carries only an item id."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis = redis
        self._script = redis.register_script(WAKE_SCRIPT)

    async def wake(self, item_ids: Sequence[uuid.UUID]) -> int:
        if not item_ids:
            return 0
        arguments: list[Any] = [ASSUMED_SLOTS, WAKE_EXPIRES_MS, CLOCKS_APART_MS]
        for item_id in item_ids:
            arguments += [PREFIX + uuid.uuid4().hex, _job(item_id)]
        return int(await self._script(keys=[QUEUE_NAME, SLOTS_KEY], args=arguments))

    async def room(self) -> int:
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.get(SLOTS_KEY)
            pipe.zcard(QUEUE_NAME)
            slots, queued = await pipe.execute()
        return 2 * int(slots or ASSUMED_SLOTS) - int(queued)

    async def announce_slots(self, slots: int) -> None:
        """Publish the number of job slots of all live workers together."""
        await self.redis.set(SLOTS_KEY, slots, ex=60)


class Job(TypedDict):
    """arq's wire format of a job: try, function, arguments, keyword arguments, enqueue time."""

    t: int | None
    f: str
    a: list[Any]
    k: dict[str, Any]
    et: Annotated[int, msgspec.Meta(ge=0, le=2**42)]


_jobs = msgspec.msgpack.Decoder(Job)


def serialize(value: dict[str, Any]) -> bytes:
    """Encode arq's wire format as MessagePack: unlike pickle, a forged job cannot run code."""
    return msgspec.msgpack.encode(value, enc_hook=str)


def deserialize(data: bytes) -> dict[str, Any]:
    """Decode a job and check its types. Raises msgspec's errors, which arq logs as a failed job.

    Without the check a name or a time of another type would end the worker.
    """
    return dict(_jobs.decode(data))


def _job(item_id: uuid.UUID) -> bytes:
    return serialize_job(SYNC_ITEM, (str(item_id),), {}, None, 0, serializer=serialize)


class QueueClient(WatchedRedis):
    """Never raises errors that end arq's loop. read_at (monotonic): its last read of the queue."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read_at = time.monotonic()
        self._refused = Failing()

    def answers_for(self, commands: Sequence[Any], error: RedisError | OSError) -> list[Any]:
        """The answers of an idle queue. Each kind of error reply is logged once."""
        name = type(error).__name__
        if isinstance(error, ResponseError) and self._refused.is_new(name):
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
