"""Periodic tasks: each runs at its interval, and a failing one stops no other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

import worker.maintenance.schedule
from tests.maintaining.test_purge import deleted_item
from tests.maintaining.test_restatements import rest, restate
from tests.support.stack import Stack
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.maintenance.schedule import PeriodicTask, PeriodicTasks


async def go_round(periodic_tasks: list[PeriodicTask], condition: Callable[[], bool]) -> None:
    """Run the loop until the condition holds."""
    task = asyncio.create_task(PeriodicTasks(periodic_tasks).run())
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        assert not task.done(), "the loop has ended"
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.maintenance.schedule, "POLL_INTERVAL_S", 0.001)


@pytest.mark.usefixtures("impatient")
async def test_a_periodic_task_that_fails_stops_neither_the_others_nor_itself() -> None:
    done: Counter[str] = Counter()

    async def crashes() -> bool:
        done["crashes"] += 1
        raise RuntimeError("a fault of ours")

    async def is_cut_off() -> bool:
        done["cut off"] += 1
        raise ConnectionError

    async def works() -> bool:
        done["works"] += 1
        return False

    periodic_tasks = [
        PeriodicTask("a", 0.0, crashes),
        PeriodicTask("b", 0.0, is_cut_off),
        PeriodicTask("c", 0.0, works),
    ]
    with capture_logs() as logs:
        await go_round(
            periodic_tasks, lambda: min(done[k] for k in ("crashes", "cut off", "works")) >= 3
        )
    said = Counter((line["event"], line.get("periodic_task")) for line in logs)
    # A fault of ours is logged each time, an outage once.
    assert said["periodic_task_crashed", "a"] >= 3
    assert said["postgres_away", None] == 1


@pytest.mark.usefixtures("impatient")
async def test_a_periodic_task_that_has_more_to_do_goes_on_at_once_and_otherwise_rests() -> None:
    turns: list[str] = []

    async def has_more() -> bool:
        turns.append("more")
        return turns.count("more") < 5

    async def rests() -> bool:
        turns.append("rests")
        return False

    periodic_tasks = [PeriodicTask("a", 3600.0, has_more), PeriodicTask("b", 3600.0, rests)]
    await go_round(periodic_tasks, lambda: turns.count("more") >= 5)
    assert turns.count("rests") == 1
    assert all(periodic_task.due_at > time.monotonic() + 3000 for periodic_task in periodic_tasks)


async def test_a_worker_process_runs_its_periodic_tasks(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    staying = await stack.synced_item(transactions=40)
    await restate(stack, staying["id"])
    leaving = await deleted_item(stack, transactions=5)
    await rest(stack)
    async with WorkerProcess(database_url, redis_url, stack.simulator.url, PURGE_AFTER_DAYS="0"):

        async def all_done() -> bool:
            return bool(
                await stack.db.fetchval(
                    "SELECT EXISTS (SELECT FROM pluggy_live.connectors)"
                    " AND EXISTS (SELECT FROM pluggy_live.categories)"
                    " AND EXISTS (SELECT FROM pluggy_sync.restatements WHERE item_id = $1)"
                    " AND EXISTS (SELECT FROM pluggy_sync.purge_receipts WHERE item_id = $2)",
                    staying["id"],
                    leaving["id"],
                )
            )

        await until(all_done, "all periodic_tasks are done")
    assert await stack.live(staying["id"]) != {}
