"""The waker and arq's queue behind it."""

import asyncio
import io
import pickle
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import arq.jobs
import msgspec
import pytest
from arq.connections import ArqRedis
from arq.worker import Worker, create_worker, func
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import worker
from worker.infra.redis_client import connection_pool
from worker.infra.redis_keys import PREFIX
from worker.infra.settings import PluggySettings
from worker.main import worker_settings
from worker.wakeup.queue import (
    ASSUMED_SLOTS,
    QUEUE_NAME,
    SLOTS_KEY,
    SYNC_ITEM,
    ArqWaker,
    deserialize,
    serialize,
)

# arq closes its connections by redis-py's older name.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")

GOOD: dict[str, Any] = {"t": None, "f": SYNC_ITEM, "a": ["x"], "k": {}, "et": 1}


def burst_worker(redis_url: str, job: Callable[..., Awaitable[None]]) -> Worker:
    """arq's worker with the settings of production, but for what the job does."""
    settings = PluggySettings(
        database_url=SecretStr("postgresql://not/used"),
        redis_url=SecretStr(redis_url),
        pluggy_client_id="not-used",
        pluggy_client_secret=SecretStr("not-used"),
    )
    return create_worker(
        worker_settings(settings),
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


async def put(redis: ArqRedis, job: bytes, job_id: str) -> None:
    """A job as anybody who can write to Redis might put it there."""
    await redis.set(f"arq:job:{job_id}", job)
    await redis.zadd(QUEUE_NAME, {job_id: 1})


async def keys(redis: ArqRedis) -> set[str]:
    return {key.decode() async for key in redis.scan_iter("*")}


# Wakes


async def test_a_wake_up_is_a_job_that_an_arq_worker_runs(redis: ArqRedis, redis_url: str) -> None:
    items = [uuid.uuid4() for _ in range(5)]
    assert await ArqWaker(redis).wake(items) == 5
    assert sorted(await run(redis_url)) == sorted(str(item) for item in items)
    assert await redis.zcard(QUEUE_NAME) == 0


async def test_a_wake_up_leaves_nothing_behind(redis: ArqRedis, redis_url: str) -> None:
    before = await keys(redis)
    await ArqWaker(redis).wake([uuid.uuid4()])
    await run(redis_url)
    assert await keys(redis) == before


async def test_ids_are_random_and_start_with_our_prefix(redis: ArqRedis) -> None:
    item = uuid.uuid4()
    await ArqWaker(redis).wake([item, item, item])
    wakes = [wake.decode() for wake in await redis.zrange(QUEUE_NAME, 0, -1)]
    assert len(set(wakes)) == 3
    assert all(wake.startswith(PREFIX) and str(item) not in wake for wake in wakes)
    assert {key for key in await keys(redis) if key.startswith("arq:")} == {
        f"arq:job:{wake}" for wake in wakes
    }
    for wake in wakes:
        assert 0 < await redis.pttl(f"arq:job:{wake}") <= 3_600_000


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
    assert await redis.zcard(QUEUE_NAME) == 0


@pytest.mark.parametrize("slots", [None, 1, 7])
async def test_the_queue_never_holds_more_than_twice_the_slots(
    redis: ArqRedis, slots: int | None
) -> None:
    waker, most = ArqWaker(redis), 2 * (slots or ASSUMED_SLOTS)
    if slots is not None:
        await waker.announce_slots(slots)
    assert await waker.room() == most
    woken = await asyncio.gather(*(waker.wake([uuid.uuid4() for _ in range(9)]) for _ in range(20)))
    assert (sum(woken), await redis.zcard(QUEUE_NAME)) == (most, most)
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


async def test_a_worker_whose_clock_is_behind_redis_runs_a_wake_up_at_once(redis: ArqRedis) -> None:
    await ArqWaker(redis).wake([uuid.uuid4()])
    [(_, score)] = await redis.zrange(QUEUE_NAME, 0, -1, withscores=True)
    seconds, _ = await redis.time()
    # arq runs what is dated before its own clock; NTP keeps clocks closer than this.
    assert 0 < score <= (seconds - 30) * 1000


# What is in the queue and should not be


MALFORMED: Sequence[bytes] = [
    b"",
    b"\x00\xff\xfe",
    b"not msgpack at all",
    pickle.dumps(GOOD),
    b'{"f": "sync_item"}',
    msgspec.msgpack.encode(None),
    msgspec.msgpack.encode([]),
    msgspec.msgpack.encode({}),
    msgspec.msgpack.encode({"f": SYNC_ITEM}),
    msgspec.msgpack.encode(GOOD | {"f": ["unhashable"]}),
    msgspec.msgpack.encode(GOOD | {"f": "unknown_function"}),
    msgspec.msgpack.encode(GOOD | {"t": "first"}),
    msgspec.msgpack.encode(GOOD | {"t": 10**9}),
    msgspec.msgpack.encode(GOOD | {"et": "yesterday"}),
    msgspec.msgpack.encode(GOOD | {"et": 2**63}),
    msgspec.msgpack.encode(GOOD | {"et": -1}),
    msgspec.msgpack.encode(GOOD | {"a": "x"}),
    msgspec.msgpack.encode(GOOD | {"a": ["x", "one too many"]}),
    msgspec.msgpack.encode(GOOD | {"k": ["x"]}),
    msgspec.msgpack.encode(GOOD | {"k": {"unknown": 1}}),
    b"\x91" * 100_000,
]


async def test_malformed_jobs_end_no_worker_and_are_gone_afterwards(
    redis: ArqRedis, redis_url: str
) -> None:
    before = await keys(redis)
    for number, job in enumerate(MALFORMED):
        await put(redis, job, f"{PREFIX}malformed-{number}")
    await redis.zadd(QUEUE_NAME, {f"{PREFIX}without-job": 1})
    await redis.zadd(QUEUE_NAME, {b"\xff\xfe": 1})
    item = uuid.uuid4()
    await ArqWaker(redis).wake([item])
    assert await run(redis_url) == [str(item)]
    assert await keys(redis) == before


@given(st.binary() | st.builds(msgspec.msgpack.encode, st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from("tfake") | st.just("et"), inner, max_size=5),
    max_leaves=6,
)))  # fmt: skip
def test_a_job_has_the_types_that_arq_relies_on_or_is_refused(data: bytes) -> None:
    try:
        job = deserialize(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return
    assert isinstance(job["f"], str)
    assert isinstance(job["et"], int)
    assert job["t"] is None or isinstance(job["t"], int)
    assert (type(job["a"]), type(job["k"])) == (list, dict)


async def test_a_job_that_raises_ends_no_worker(redis: ArqRedis, redis_url: str) -> None:
    async def fail(_: dict[str, Any], item_id: str) -> None:
        raise RuntimeError(item_id)

    await ArqWaker(redis).wake([uuid.uuid4() for _ in range(3)])
    burst = burst_worker(redis_url, fail)
    await burst.async_run()
    await burst.close()
    # Nothing is tried again by arq: what is due stays due in Postgres.
    assert (burst.jobs_failed, burst.jobs_retried) == (3, 0)
    assert await redis.zcard(QUEUE_NAME) == 0


# The wire


def test_a_job_survives_the_wire() -> None:
    assert deserialize(serialize(GOOD)) == GOOD


def test_what_msgpack_does_not_know_travels_as_text() -> None:
    item = uuid.UUID(int=5)
    error = ValueError("text only")
    assert msgspec.msgpack.decode(serialize({"a": [item], "r": error})) == {
        "a": [str(item)],
        "r": "text only",
    }


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
    for wake in await redis.zrange(QUEUE_NAME, 0, -1):
        job = await redis.get(b"arq:job:" + wake)
        assert job is not None
        with pytest.raises(Exception, match=r".*"):
            pickle.Unpickler(io.BytesIO(job)).load()  # noqa: S301 - our own bytes
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
