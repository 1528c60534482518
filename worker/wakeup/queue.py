"""Wake workers through a list of item ids in Redis, and give its wake-ups to arq as jobs.

BLPOP gives a wake-up to one worker, so all that arq keeps of a job (payload, lock, tries) stays in
its process: a wake-up may be lost or doubled, because due items stay due in Postgres.

arq's poll loop ends the process on the first Redis error. A wrapper around the loop would lose
count of the job slots; the client is a public setting of arq.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final, Protocol, Self

from arq.connections import ArqRedis
from redis.exceptions import RedisError, ResponseError

from worker.infra.lazy_log import LazyLog
from worker.infra.outage_log import Failing, ServerOutage
from worker.infra.redis_client import WatchedRedis, connection_pool
from worker.infra.redis_keys import PREFIX

log = LazyLog()

QUEUE_NAME: Final = PREFIX + "queue"
SLOTS_KEY: Final = PREFIX + "slots"
SYNC_ITEM: Final = "sync_item"
ASSUMED_SLOTS: Final = 20

# The queue holds at most as many wake-ups as can run soon: twice the slots of all workers, and one
# of an item: a second one, of the sweep or of a sync that has found the item due, would wake a
# worker for nothing. One call adds a group, and a lost connection raises.
WAKE_SCRIPT: Final = """
local slots = tonumber(redis.call('GET', KEYS[2])) or tonumber(ARGV[1])
local waiting = redis.call('LLEN', KEYS[1])
local room = 2 * slots - waiting
local known, added = {}, {}
if room > 0 and waiting > 0 then
    for _, item in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do known[item] = true end
end
for i = 2, #ARGV do
    if #added < room and not known[ARGV[i]] then
        known[ARGV[i]] = true
        added[#added + 1] = ARGV[i]
    end
end
if #added > 0 then redis.call('RPUSH', KEYS[1], unpack(added)) end
return #added
"""


class Waker(Protocol):
    """Wakes workers. The interface that hides arq."""

    async def wake(self, item_ids: Sequence[uuid.UUID]) -> int:
        """Wake a worker for each item that waits for none yet, as far as the queue has room.

        Returns how many that were.
        """

    async def room(self) -> int:
        """Number of jobs that the queue still has room for."""


class ArqWaker:
    """Adds wake-ups to the queue; one carries only an item id."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis = redis
        self._script = redis.register_script(WAKE_SCRIPT)

    async def wake(self, item_ids: Sequence[uuid.UUID]) -> int:
        if not item_ids:
            return 0
        arguments: list[Any] = [ASSUMED_SLOTS, *map(str, item_ids)]
        return int(await self._script(keys=[QUEUE_NAME, SLOTS_KEY], args=arguments))

    async def room(self) -> int:
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.get(SLOTS_KEY)
            pipe.llen(QUEUE_NAME)
            slots, queued = await pipe.execute()
        return 2 * int(slots or ASSUMED_SLOTS) - int(queued)

    async def announce_slots(self, slots: int) -> None:
        """Publish the number of job slots of all live workers together."""
        await self.redis.set(SLOTS_KEY, slots, ex=60)


class QueueClient(WatchedRedis):
    """The client of arq's loop, which never raises errors that end it.

    read_at (monotonic): its last read. wait_s: how long a read waits for a wake-up, half of the
    time-out of an answer.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read_at = time.monotonic()
        self.wait_s: float = self.connection_pool.connection_kwargs["socket_timeout"] / 2
        self._wakes: dict[str, bytes] = {}
        self._refused = Failing()

    def answers_for(self, commands: Sequence[Any], error: RedisError | OSError) -> list[Any]:
        """The answers of an idle queue. Each kind of error reply is logged once."""
        name = type(error).__name__
        if isinstance(error, ResponseError) and self._refused.is_new(name):
            log.warning("queue_refused", error=name)
        return [{"LLEN": 0, "INFO": {}}.get(command[0]) for command in commands]

    async def zrangebyscore(self, name: Any, *_: Any, **__: Any) -> list[bytes]:
        """Wait for a wake-up; returns the id of a new job for it, or nothing."""
        self.read_at = time.monotonic()
        woken = await self.execute_command("BLPOP", name, self.wait_s)
        if woken is None:
            # Without an error the time is up. With one, arq would ask again at once.
            await asyncio.sleep(self.read_at + self.wait_s - time.monotonic())
            return []
        job_id = PREFIX + uuid.uuid4().hex
        self._wakes[job_id] = woken[1]
        return [job_id.encode()]

    async def zcard(self, name: Any) -> int:
        """Number of wake-ups that wait."""
        return int(await self.execute_command("LLEN", name))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        """arq's transactions are its records of a job, of which nothing is sent."""
        return JobRecords(self._wakes) if transaction else super().pipeline(False, shard_hint)


class JobRecords:
    """Answers what arq asks of Redis about a job, as for one that runs nowhere and never has.

    wakes: by job id; a job takes its own.
    """

    def __init__(self, wakes: dict[str, bytes]) -> None:
        self._wakes = wakes
        self._answers: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def watch(self, key: str) -> None:
        """No other worker has this job."""

    async def exists(self, key: str) -> int:
        return 0

    async def zscore(self, name: str, job_id: str) -> int:
        """The time since which the job is due, in ms."""
        return int(time.time() * 1000)

    def multi(self) -> None:
        pass

    def get(self, key: str) -> None:
        self._answers.append(self._wakes.pop(key.removeprefix("arq:job:"), None))

    def incr(self, key: str) -> None:
        self._answers.append(1)

    def _not_kept(self, *_: Any) -> None:
        self._answers.append(None)

    psetex = expire = delete = zrem = _not_kept

    async def execute(self) -> list[Any]:
        return self._answers


def deserialize(wake: bytes) -> dict[str, Any]:
    """arq's job for a wake-up. The job itself drops what is no item id."""
    now_ms = int(time.time() * 1000)
    return {"f": SYNC_ITEM, "a": (wake.decode(errors="replace"),), "k": {}, "t": None, "et": now_ms}


def queue_client(url: str, outage: ServerOutage) -> QueueClient:
    """The client that arq's worker reads its queue with; arq closes it."""
    return QueueClient(connection_pool(url), outage, default_queue_name=QUEUE_NAME)
