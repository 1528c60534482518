"""Wake workers by enqueuing arq jobs in Redis. A job carries only an item id."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, TypedDict

import msgspec
from arq.connections import ArqRedis
from arq.jobs import serialize_job

from worker.infra.redis_keys import PREFIX

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
