"""The waker and arq's queue behind it."""

import asyncio
import pickle
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import arq.jobs
import pytest
from arq.connections import ArqRedis
from arq.worker import Worker, create_worker, func
from pydantic import SecretStr
from structlog.testing import capture_logs

import worker
from tests.support.wakes import woken
from worker.engine.job import sync_item
from worker.infra.redis_client import connect, connection_pool
from worker.infra.settings import PluggySettings
from worker.main import worker_settings
from worker.wakeup.queue import (
    ASSUMED_SLOTS,
    QUEUE_NAME,
    SLOTS_KEY,
    SYNC_ITEM,
    ArqWaker,
    deserialize,
)

# arq closes its connections by redis-py's older name.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


def burst_worker(redis_url: str, job: Callable[..., Awaitable[None]]) -> Worker:
    """arq's worker with the settings of production, but for what the job does."""
    settings = PluggySettings(
        database_url=SecretStr("postgresql://not/used"),
        redis_url=SecretStr(redis_url),
        pluggy_client_id="not-used",
        pluggy_client_secret=SecretStr("not-used"),
    )
    made = worker_settings(settings)
    made.redis_pool.wait_s = 0.01  # type: ignore[attr-defined]  # nothing comes any more
    return create_worker(
        made,
        functions=[func(job, name=SYNC_ITEM)],  # type: ignore[arg-type]
        on_startup=None,
        on_shutdown=None,
        ctx={},
        burst=True,
        poll_delay=0,
        handle_signals=False,
    )


async def run(redis_url: str) -> list[str]:
    """Run a worker until the queue is empty; returns the arguments of its jobs."""
    done: list[str] = []

    async def note(_: dict[str, Any], item_id: str) -> None:
        done.append(item_id)

    burst = burst_worker(redis_url, note)
    try:
        async with asyncio.timeout(60):
            await burst.async_run()
    finally:
        await burst.close()
    return done


async def keys(redis: ArqRedis) -> set[str]:
    return {key.decode() async for key in redis.scan_iter("*")}


# Wakes


async def test_a_wake_up_is_a_job_that_an_arq_worker_runs(redis: ArqRedis, redis_url: str) -> None:
    items = [uuid.uuid4() for _ in range(5)]
    assert await ArqWaker(redis).wake(items) == 5
    assert sorted(await run(redis_url)) == sorted(str(item) for item in items)
    assert len(await woken(redis)) == 0


async def test_a_wake_up_leaves_nothing_behind(redis: ArqRedis, redis_url: str) -> None:
    before = await keys(redis)
    await ArqWaker(redis).wake([uuid.uuid4()])
    await run(redis_url)
    assert await keys(redis) == before


async def commands(redis: ArqRedis) -> dict[str, int]:
    """Commands that Redis has run, those of scripts too."""
    stats = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in stats.items()}


async def test_a_wake_up_costs_five_commands_until_its_job_has_ended(
    own_redis_url: str,
) -> None:
    redis = connect(own_redis_url)
    waker, jobs = ArqWaker(redis), 10
    await waker.wake([uuid.uuid4()])
    await run(own_redis_url)
    before = await commands(redis)
    for _ in range(jobs):
        await waker.wake([uuid.uuid4()])
    done = await run(own_redis_url)
    after = await commands(redis)
    await redis.aclose()
    ours = {name: calls - before.get(name, 0) for name, calls in after.items()}
    assert len(done) == jobs
    # The burst also asks after each read whether more waits.
    assert ours.pop("llen") >= jobs <= ours.pop("blpop")
    assert {name for name, calls in ours.items() if calls >= jobs} == {"evalsha", "get", "rpush"}
    assert ours["evalsha"] == ours["get"] == ours["rpush"] == jobs


async def test_a_wake_up_counts_while_another_of_its_item_is_running(
    redis: ArqRedis, redis_url: str
) -> None:
    item, runs = uuid.uuid4(), 0

    async def wake_once_more(_: dict[str, Any], item_id: str) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            assert await ArqWaker(redis).wake([uuid.UUID(item_id)]) == 1

    await ArqWaker(redis).wake([item])
    burst = burst_worker(redis_url, wake_once_more)
    await burst.async_run()
    await burst.close()
    assert (runs, burst.jobs_failed) == (2, 0)


async def test_no_items_wake_nothing(redis: ArqRedis) -> None:
    assert await ArqWaker(redis).wake([]) == 0
    assert len(await woken(redis)) == 0


async def test_an_item_has_one_wake_up_in_the_queue_until_its_job_begins(
    redis: ArqRedis, redis_url: str
) -> None:
    """The sweep and each sync that ends wake for items for which others have been woken already."""
    waker, items = ArqWaker(redis), [uuid.uuid4() for _ in range(3)]
    assert await waker.wake([*items[:2], items[0]]) == 2
    assert await waker.wake(items) == 1
    assert await waker.wake(items[:1]) == 0
    assert await run(redis_url) == [str(item) for item in items]
    assert await waker.wake(items) == 3


async def test_known_items_take_no_room_from_others(redis: ArqRedis) -> None:
    waker, items = ArqWaker(redis), [uuid.uuid4() for _ in range(5)]
    await waker.announce_slots(2)
    assert await waker.wake(items[:2]) == 2
    assert await waker.wake(items) == 2
    assert len(await woken(redis)) == 4


@pytest.mark.parametrize("slots", [None, 1, 7])
async def test_the_queue_never_holds_more_than_twice_the_slots(
    redis: ArqRedis, slots: int | None
) -> None:
    waker, most = ArqWaker(redis), 2 * (slots or ASSUMED_SLOTS)
    if slots is not None:
        await waker.announce_slots(slots)
    assert await waker.room() == most
    added = await asyncio.gather(*(waker.wake([uuid.uuid4() for _ in range(9)]) for _ in range(20)))
    assert (sum(added), len(await woken(redis))) == (most, most)
    assert await waker.room() == 0
    assert await waker.wake([uuid.uuid4()]) == 0


async def test_the_first_of_a_group_wake_workers_where_room_is_short(
    redis: ArqRedis, redis_url: str
) -> None:
    waker, items = ArqWaker(redis), [uuid.uuid4() for _ in range(10)]
    await waker.announce_slots(2)
    assert await waker.wake(items) == 4
    assert set(await run(redis_url)) == {str(item) for item in items[:4]}


async def test_fewer_slots_than_before_leave_no_room(redis: ArqRedis) -> None:
    waker = ArqWaker(redis)
    await waker.wake([uuid.uuid4() for _ in range(10)])
    await waker.announce_slots(2)
    assert await waker.room() == -6
    assert await waker.wake([uuid.uuid4()]) == 0


async def test_slots_that_nobody_announces_any_more_are_forgotten(redis: ArqRedis) -> None:
    await ArqWaker(redis).announce_slots(3)
    assert 0 < await redis.ttl(SLOTS_KEY) <= 60


# What is in the queue and should not be


MALFORMED: Sequence[bytes] = [
    b"",
    b"\x00\xff\xfe",
    b"no item",
    b"x" * 100_000,
    pickle.dumps({"f": SYNC_ITEM}),
]


async def test_malformed_wake_ups_end_no_worker_and_are_gone_afterwards(
    redis: ArqRedis, redis_url: str
) -> None:
    before = await keys(redis)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.rpush(QUEUE_NAME, *MALFORMED)
        await pipe.execute()
    item = uuid.uuid4()
    await ArqWaker(redis).wake([item])
    done = await run(redis_url)
    # An empty one is no job; the others are dropped by the job itself.
    assert (len(done), done[-1]) == (len(MALFORMED), str(item))
    assert await keys(redis) == before


async def test_the_job_drops_what_is_no_item(redis: ArqRedis) -> None:
    with capture_logs() as logs:
        await sync_item({"worker": None}, deserialize(b"\xff")["a"][0])
    assert [line["event"] for line in logs] == ["wake_unreadable"]


async def test_a_job_that_raises_ends_no_worker(redis: ArqRedis, redis_url: str) -> None:
    async def fail(_: dict[str, Any], item_id: str) -> None:
        raise RuntimeError(item_id)

    await ArqWaker(redis).wake([uuid.uuid4() for _ in range(3)])
    burst = burst_worker(redis_url, fail)
    await burst.async_run()
    await burst.close()
    # Nothing is tried again by arq: what is due stays due in Postgres.
    assert (burst.jobs_failed, burst.jobs_retried) == (3, 0)
    assert len(await woken(redis)) == 0


class NoPickle:
    """In place of the module where arq uses it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"pickle.{name} was used")


async def test_pickle_is_used_nowhere(
    redis: ArqRedis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arq.jobs, "pickle", NoPickle())

    async def fail_the_second(_: dict[str, Any], item_id: str) -> None:
        if item_id == str(items[1]):
            raise RuntimeError("its error is serialized too")

    items = [uuid.uuid4() for _ in range(3)]
    await ArqWaker(redis).wake(items)
    burst = burst_worker(redis_url, fail_the_second)
    await burst.async_run()
    await burst.close()
    assert (burst.jobs_complete, burst.jobs_failed) == (2, 1)


def test_no_module_of_ours_imports_pickle() -> None:
    root = Path(worker.__file__).parents[1]
    sources = [
        path
        for package in ("worker", "webhook_receiver", "ops")
        for path in (root / package).rglob("*.py")
    ]
    assert len(sources) > 20
    imports = re.compile(r"^\s*(import|from) \w*pickle|\bc?pickle\.", re.MULTILINE)
    assert [path.name for path in sources if imports.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://:x@cache/0", True),
        ("rediss://cache?ssl_ca_certs=/ca.pem", True),
        ("rediss://cache?ssl_check_hostname=false", False),
        ("rediss://cache?ssl_cert_reqs=none", None),
        ("redis://cache/0", None),
    ],
)
def test_by_tls_the_certificate_has_to_be_for_the_host(url: str, checked: bool | None) -> None:
    assert connection_pool(url).connection_kwargs.get("ssl_check_hostname") is checked
