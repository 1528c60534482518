"""Ending asyncio tasks that swallow a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from worker.infra.tasks import end, insist


async def forget(times: int) -> None:
    """Runs on after so many cancellations, as asyncio.wait_for() may make a task do."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_task_that_was_cancelled_once_is_cancelled_until_it_ends(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.infra.tasks.RECANCEL_INTERVAL_S", 0.01)
    monkeypatch.setattr("worker.infra.tasks.CHECK_INTERVAL_S", 0.001)
    task = asyncio.create_task(forget(times))
    insisting = asyncio.create_task(insist(task))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    await end(insisting)


async def test_a_task_that_nobody_cancelled_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.infra.tasks.RECANCEL_INTERVAL_S", 0.001)
    go = asyncio.Event()
    task = asyncio.create_task(go.wait())
    insisting = asyncio.create_task(insist(task))
    looks = 0

    async def look() -> None:
        nonlocal looks
        while looks < 50:
            await asyncio.sleep(0.001)
            looks += 1

    await look()
    go.set()
    assert await task
    await end(insisting)


async def test_a_time_out_within_a_task_is_nobody_who_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.infra.tasks.RECANCEL_INTERVAL_S", 0.001)
    monkeypatch.setattr("worker.infra.tasks.CHECK_INTERVAL_S", 0.001)
    done = asyncio.Event()

    async def look_into_an_empty_socket() -> bool:
        for _ in range(5000):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await done.wait()
            await asyncio.sleep(0)
        return True

    task = asyncio.create_task(look_into_an_empty_socket())
    insisting = asyncio.create_task(insist(task))
    assert await task
    await end(insisting)


async def test_tasks_end_whatever_they_forget() -> None:
    tasks = [asyncio.create_task(forget(times)) for times in (0, 1, 2)]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.cancelled() for task in tasks)
