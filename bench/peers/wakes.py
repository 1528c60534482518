"""How soon a worker starts after it was woken: by arq with its defaults, and by BLPOP alone.

Both in the process that wakes. arq polls its queue every half second; BLPOP is the limit of Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

Wake = Callable[[], Awaitable[float]]
"""Wakes once; returns the milliseconds until work starts."""

QUEUE: Final = "bench:arq"
LIST: Final = "bench:blpop"


@asynccontextmanager
async def arq_wakes(redis_url: str) -> AsyncIterator[Wake]:
    """enqueue_job, and a worker as arq's documentation starts it."""
    settings = RedisSettings.from_dsn(redis_url)
    queue = await create_pool(settings, default_queue_name=QUEUE)
    started: dict[str, asyncio.Future[float]] = {}

    async def job(ctx: dict[str, Any]) -> None:
        started[ctx["job_id"]].set_result(time.perf_counter())

    worker = Worker(
        functions=[func(job, name="job", keep_result=0)],
        redis_settings=settings,
        queue_name=QUEUE,
        handle_signals=False,
    )
    running = asyncio.create_task(worker.async_run())
    numbers = iter(range(2**31))

    async def wake() -> float:
        began, job_id = time.perf_counter(), str(next(numbers))
        started[job_id] = asyncio.get_running_loop().create_future()
        await queue.enqueue_job("job", _job_id=job_id)
        at = await started[job_id]
        return (at - began) * 1000

    yield wake
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()
    await queue.aclose()


@asynccontextmanager
async def blpop_wakes(redis_url: str) -> AsyncIterator[Wake]:
    """RPUSH, and a loop of BLPOP."""
    redis: Any = await create_pool(RedisSettings.from_dsn(redis_url))
    started: dict[bytes, asyncio.Future[float]] = {}

    async def pop() -> None:
        while True:
            if found := await redis.blpop(LIST, timeout=1):
                started[found[1]].set_result(time.perf_counter())

    running = asyncio.create_task(pop())
    numbers = iter(range(2**31))

    async def wake() -> float:
        began, name = time.perf_counter(), str(next(numbers)).encode()
        started[name] = asyncio.get_running_loop().create_future()
        await redis.rpush(LIST, name)
        return (await started[name] - began) * 1000

    yield wake
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await redis.aclose()
