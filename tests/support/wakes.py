"""The wake-ups that wait in Redis."""

from __future__ import annotations

from arq.connections import ArqRedis

from worker.wakeup.queue import QUEUE_NAME


async def woken(redis: ArqRedis) -> list[str]:
    """The items that a worker is woken for, in the order of their wake-ups."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.lrange(QUEUE_NAME, 0, -1)
        [wakes] = await pipe.execute()
    return [wake.decode() for wake in wakes]
