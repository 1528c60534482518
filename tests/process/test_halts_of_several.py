"""Halts and outages of Pluggy with several worker processes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

from tests.support.service import Service
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess

WORKERS = 3
ITEMS = 24


async def deliver_all(service: Service) -> list[str]:
    items = [(await service.stack.item(transactions=10))["id"] for _ in range(ITEMS)]
    for item_id in items:
        await service.deliver(item_id)
    return items


async def start(service: Service, entered: AsyncExitStack) -> list[WorkerProcess]:
    return [
        await entered.enter_async_context(service.worker(WORKER_SLOTS="4")) for _ in range(WORKERS)
    ]


async def halted_by(service: Service) -> str | None:
    found: str | None = await service.db.fetchval("SELECT halted_by FROM pluggy_ops.overview")
    return found


async def parked(service: Service) -> None:
    """Wait until everything is halted and no worker is busy."""

    async def stands() -> bool:
        leases = "SELECT count(*) FROM pluggy_sync.item_leases WHERE token IS NOT NULL"
        return bool(await halted_by(service)) and not await service.db.fetchval(leases)

    await until(stands, "everything is parked")


async def assert_applied(service: Service, items: list[str]) -> None:
    await service.quiet()
    for item_id in items:
        assert await service.stack.states(item_id) == ["applied"]
        await service.stack.assert_equal(item_id)
    assert await halted_by(service) is None


async def fail(service: Service, match: str, status: int) -> None:
    await service.stack.fault(match, kind="status", status=status, rate=1.0)


async def test_several_workers_that_are_refused_send_one_probe_a_minute_together(
    service: Service,
) -> None:
    await fail(service, "POST /auth", 401)
    items = await deliver_all(service)
    async with AsyncExitStack() as entered:
        workers = await start(service, entered)
        await parked(service)
        before = (await service.stack.requests())["POST /auth"]
        # A minute has passed: of all that is due one item is tried, by one of them.
        await service.stack.shift(timedelta(minutes=1, seconds=1))
        await service.asked("POST /auth", before + 1)
        await parked(service)
        assert (await service.stack.requests())["POST /auth"] == before + 1
        assert await service.attempts() == 0
        await service.stack.clear_faults()
        await service.stack.shift(timedelta(minutes=1, seconds=1))
        await assert_applied(service, items)
        assert await service.attempts() == 0
        # Logged by the syncs under way when it began and by the probe, not at every check.
        assert sum(len(worker.said("halted")) for worker in workers) <= WORKERS * 4 + 1


async def test_several_workers_find_out_together_that_pluggy_is_down(service: Service) -> None:
    await fail(service, "GET /items/*", 503)
    items = await deliver_all(service)
    async with AsyncExitStack() as entered:
        await start(service, entered)
        await parked(service)
        assert await halted_by(service) == "pluggy_down"
        # Only what failed before it was known costs an attempt, and no more is spent from then on.
        spent = await service.attempts()
        await service.stack.shift(timedelta(seconds=6))

        async def probed() -> bool:
            query = "SELECT probe_at > now() FROM pluggy_sync.halts"
            return bool(await service.db.fetchval(query))

        await until(probed, "one of them probes")
        await parked(service)
        assert await service.attempts() == spent
        await service.stack.clear_faults()
        await service.stack.shift(timedelta(hours=1))
        await assert_applied(service, items)
