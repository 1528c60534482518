"""Decide whether Pluggy is down, from the calls of all workers in the last 30 seconds."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.infra.lazy_log import LazyLog
from worker.infra.redis_keys import PREFIX

log = LazyLog()

BUCKET_S: Final = 5
BUCKETS: Final = 6
FLUSH_INTERVAL_S: Final = 1.0
MIN_CALLS: Final = 10
MIN_ITEMS: Final = 3
"""Below these numbers the failures prove nothing about Pluggy as a whole."""


@dataclass(slots=True)
class CallLedger:
    """Counts of calls in Redis, in five-second buckets. Without Redis Pluggy is never down.

    Answered calls are counted here first and added once a second; a failure adds all at once, so
    that what fails is known to every worker before it is judged.
    """

    redis: Redis
    _counted: Counter[str] = field(default_factory=Counter)
    _items: set[uuid.UUID] = field(default_factory=set)

    async def note(self, item_id: uuid.UUID, *, failed: bool) -> None:
        """Count a call as answered (429 and refusals included) or failed."""
        self._counted["failed" if failed else "answered"] += 1
        self._items.add(item_id)
        if failed:
            await self.flush()

    async def run(self) -> None:
        """Add what was counted once a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Add what was counted since the last time."""
        counted, items = self._counted, self._items
        if not items:
            return
        self._counted, self._items = Counter(), set()
        bucket = _key(int(time.time()) // BUCKET_S)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                for name, calls in counted.items():
                    pipe.hincrby(bucket, name, calls)
                pipe.expire(bucket, BUCKET_S * (BUCKETS + 2))
                pipe.sadd(f"{bucket}:items", *map(str, items))
                pipe.expire(f"{bucket}:items", BUCKET_S * (BUCKETS + 2))
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.debug("call_not_counted", error=type(error).__name__)

    async def is_down(self) -> bool:
        """Whether most of at least ten calls on at least three items failed in 30 seconds."""
        newest = int(time.time()) // BUCKET_S
        keys = [_key(newest - age) for age in range(BUCKETS + 1)]
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(key, ["failed", "answered"])
                pipe.sunion([f"{key}:items" for key in keys])
                *counts, items = await pipe.execute()
        except (RedisError, OSError) as error:
            log.debug("calls_not_known", error=type(error).__name__)
            return False
        failed = sum(int(count[0] or 0) for count in counts)
        answered = sum(int(count[1] or 0) for count in counts)
        enough = failed + answered >= MIN_CALLS and len(items) >= MIN_ITEMS
        return enough and failed > answered

    async def reset(self) -> None:
        """Drop all counts: Pluggy answers again."""
        self._counted, self._items = Counter(), set()
        newest = int(time.time()) // BUCKET_S
        keys = [_key(newest - age) for age in range(BUCKETS + 1)]
        try:
            await self.redis.delete(*keys, *(f"{key}:items" for key in keys))
        except (RedisError, OSError) as error:
            log.debug("calls_not_reset", error=type(error).__name__)


def _key(bucket: int) -> str:
    return f"{PREFIX}calls:{bucket}"
