"""Redis and Postgres stand still together for longer than any time-out of a worker."""

from __future__ import annotations

import asyncio

import pytest

import embedded
from tests.process.test_ride_out import (
    assert_done,
    begin_work,
    postgres,
    service,
    valkey,
    worker_group_of,
)
from tests.support.service import Service
from tests.support.service_process import peak_memory_kb
from tests.support.waiting import until

MAX_GROWTH_KB = 32 * 1024
"""While nothing can be done; a worker has about 70 MB."""

__all__ = ["postgres", "service", "valkey"]  # fixtures


@pytest.mark.timeout(1800)
async def test_servers_that_stand_still_cost_no_worker_and_no_attempt(
    service: Service, postgres: embedded.Postgres, valkey: embedded.Valkey
) -> None:
    async with worker_group_of(service) as worker_group:
        items = await begin_work(service)
        before = [peak_memory_kb(worker.child.pid) for worker in worker_group.workers]
        postgres.pause()
        valkey.pause()
        try:
            await worker_group.reported("redis_away")
            await worker_group.reported("postgres_away")

            async def not_ready() -> bool:
                assert await worker_group.health("/livez") == {200}
                return await worker_group.health("/readyz") == {503}

            await until(not_ready, "no worker is ready")
            # Past every time-out of a command and of the giving back of its connection.
            clock = asyncio.get_running_loop().time
            end = clock() + 65
            while clock() < end:
                assert await worker_group.health("/livez") == {200}
                await asyncio.sleep(1)
            after = [peak_memory_kb(worker.child.pid) for worker in worker_group.workers]
        finally:
            postgres.resume()
            valkey.resume()
        await worker_group.reported("redis_back")
        await worker_group.reported("postgres_back")
        await service.let_lapse()
        for item_id in items:
            await service.deliver(item_id)
        await assert_done(service, items, events=2)
        worker_group.assert_rode_out("redis", "postgres")
        print({"peak_kb_before": before, "peak_kb_after": after})
        for was, became in zip(before, after, strict=True):
            assert became - was < MAX_GROWTH_KB
