"""The rate limit over a real Valkey; time moves by shifting stored values, or stands still."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from arq.connections import ArqRedis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import embedded
from tests.support.waiting import HANGS_AFTER_S, until
from worker.infra.lanes import Lane
from worker.infra.outage_log import ServerOutage
from worker.infra.redis_client import connect
from worker.infra.redis_keys import PREFIX
from worker.pluggy_api.errors import Deferred
from worker.pluggy_api.rate_limit import (
    CLOCK_WAIT_MS,
    FLOOR_BY_LANE,
    MAX_WAIT_S,
    LocalBucket,
    RateBudget,
    Reservation,
)

DAY_MS = 86_400_000
KEY = f"{PREFIX}budget:items"


async def shift(redis: ArqRedis, seconds: float) -> None:
    """Let time pass for the bucket."""
    for field in await command(redis, "HKEYS", KEY):
        if field.startswith((b"at", b"blocked_until", b"last_reservation:")):
            await command(redis, "HINCRBYFLOAT", KEY, field, -1000 * seconds)


async def stop_the_clock(redis: ArqRedis, tokens: float) -> None:
    """A bucket with so many tokens that is not refilled soon: it was looked at in the future."""
    seconds, _ = await redis.time()
    at = int(seconds) * 1000 + CLOCK_WAIT_MS - 2000
    await command(redis, "HSET", KEY, "tokens", tokens, "at", at)


async def stored(redis: ArqRedis, field: str) -> float | None:
    value = await command(redis, "HGET", KEY, field)
    return None if value is None else float(value)


async def command(redis: ArqRedis, *words: str | bytes | float) -> Any:
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


async def drain(budget: RateBudget, lane: Lane, group: str = "items") -> int:
    """Take calls until there is none; returns how many there were."""
    taken = 0
    while not (await budget.take(group, lane)).wait_s:
        taken += 1
        assert taken <= 100_000
    return taken


async def drain_refilled(budget: RateBudget, lane: Lane) -> tuple[int, int]:
    """The same of a bucket that is refilled; and how many calls come meanwhile at most."""
    began = time.monotonic()
    taken = await drain(budget, lane)
    per_s = budget.limit("items") * (1 - 1 / 12) / 60
    return taken, 1 + int((time.monotonic() - began) * per_s)


steps = st.lists(
    st.tuples(
        st.sampled_from(list(Lane)),
        st.floats(0, 2) | st.floats(0, 30) | st.just(0.0) | st.just(90.0),
        st.integers(0, 100),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.timeout(900)  # a guard against hanging; some seconds where nothing else runs
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.integers(12, 60), steps)
@example(24, [(Lane.LIVE, 90.0, 60, True)])
async def test_no_minute_ever_sees_more_calls_than_the_limit(
    redis: ArqRedis, limit: int, steps: list[tuple[Lane, float, int, bool]]
) -> None:
    await redis.delete(KEY)
    budget, passed_s, granted_at = RateBudget(redis, per_minute=limit), 0.0, list[float]()
    for lane, pause_s, calls, patient in [(Lane.AUDIT, 0.0, 1, False), *steps]:
        await shift(redis, pause_s)
        passed_s += pause_s
        for _ in range(calls):
            wait_s = (await budget.take("items", lane)).wait_s
            if wait_s and patient:
                await shift(redis, wait_s)
                passed_s += wait_s
            if not wait_s:
                # When the script granted it, by its own clock, with the shifts undone.
                at = await stored(redis, "at")
                assert at is not None
                granted_at.append(at / 1000 + passed_s)
    for first in granted_at:
        # Any window, wherever it begins; a shift is written with a millisecond's precision.
        assert sum(first <= at < first + 59.99 for at in granted_at) <= limit


async def test_a_missing_bucket_starts_empty(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=60)
    wait_s = (await budget.take("items", Lane.LIVE)).wait_s
    # 60 a minute less the burst of 5: a call every 60/55 seconds.
    assert wait_s == pytest.approx(60 / 55, abs=0.002)


async def test_a_full_bucket_holds_a_twelfth_of_the_limit(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await budget.take("items", Lane.LIVE)
    await shift(redis, 3600)
    await budget.take("items", Lane.LIVE)
    assert await stored(redis, "tokens") == pytest.approx(360 / 12 - 1, abs=0.001)


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ([Lane.AUDIT, Lane.BACKFILL, Lane.RETRY, Lane.LIVE], [10, 10, 5, 5]),
        ([Lane.LIVE], [30]),
        ([Lane.RETRY, Lane.AUDIT], [25, 0]),
    ],
)
async def test_each_lane_leaves_a_share_to_the_better_ones(
    redis: ArqRedis, lanes: list[Lane], expected: list[int]
) -> None:
    budget = RateBudget(redis, per_minute=360)
    await stop_the_clock(redis, tokens=30)
    assert [await drain(budget, lane) for lane in lanes] == expected


@pytest.mark.parametrize("limit", [12, 13, 20, 24, 36, 60])
@pytest.mark.parametrize("lane", list(Lane))
async def test_no_lane_starves_at_a_small_limit(redis: ArqRedis, limit: int, lane: Lane) -> None:
    budget = RateBudget(redis, per_minute=limit)
    await stop_the_clock(redis, tokens=limit / 12)
    assert await drain(budget, lane) >= 1


async def test_groups_have_buckets_of_their_own(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await stop_the_clock(redis, tokens=30)
    assert await drain(budget, Lane.LIVE) == 30
    assert (await budget.take("accounts", Lane.LIVE)).wait_s < 60 / 330 + 0.01


def test_patching_items_has_its_own_limit() -> None:
    budget = RateBudget(connect("redis://127.0.0.1:1"), per_minute=360)
    assert (budget.limit("patch_items"), budget.limit("items")) == (20, 360)


async def test_after_a_429_nobody_calls_until_its_time(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await stop_the_clock(redis, tokens=30)
    await budget.empty("items", wait_s=42.0)
    for lane in Lane:
        with pytest.raises(Deferred) as deferred:
            await budget.acquire("items", lane)
        assert deferred.value.wait_s == pytest.approx(42, abs=5)
        assert deferred.value.failure_class == "deferred"


async def test_after_its_time_calls_go_on_within_the_limit(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await budget.empty("items", wait_s=42.0)
    await shift(redis, 22)
    assert 0 < (await budget.take("items", Lane.LIVE)).wait_s <= 20
    await shift(redis, 20.5)
    taken, meanwhile = await drain_refilled(budget, Lane.LIVE)
    assert taken <= 30 + meanwhile


async def test_a_shorter_429_does_not_shorten_a_longer_one(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await budget.empty("items", wait_s=300)
    await budget.empty("items", wait_s=1)
    assert (await budget.take("items", Lane.LIVE)).wait_s > 250


async def test_a_short_wait_is_waited_for(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=6000)
    started = time.monotonic()
    for _ in range(10):
        await budget.acquire("items", Lane.LIVE)
    # From empty, at 5500 a minute.
    assert time.monotonic() - started >= 9 * 60 / 5500


async def test_a_wait_of_more_than_two_seconds_is_deferred_at_once(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=12)
    # The first token comes in 60/11 seconds: not worth a slot.
    with pytest.raises(Deferred) as deferred:
        await asyncio.wait_for(budget.acquire("items", Lane.LIVE), timeout=60 / 11)
    assert 60 / 11 - 0.1 <= deferred.value.wait_s <= 60 / 11 + 0.1
    assert deferred.value.code == "rate_budget"


async def test_many_callers_without_a_token_are_deferred_for_a_second_at_least(
    redis: ArqRedis,
) -> None:
    budget = RateBudget(redis, per_minute=60)
    waits = await asyncio.gather(
        *(budget.acquire("items", Lane.LIVE) for _ in range(30)), return_exceptions=True
    )
    deferred = [wait for wait in waits if isinstance(wait, Deferred)]
    assert len(deferred) >= 25
    assert all(1 <= wait.wait_s <= 60 for wait in deferred)
    assert {type(wait) for wait in waits} <= {Deferred, float}


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    """A server of our own, to be killed and paused."""
    with embedded.Valkey() as server:
        yield server


@pytest.fixture
async def pausable(valkey: embedded.Valkey) -> AsyncIterator[ArqRedis]:
    """A client of a server of our own without a bucket; it waits while the server stands still."""
    client = connect(valkey.url, timeout_s=HANGS_AFTER_S)
    await client.delete(KEY)
    yield client
    await client.aclose()


async def queue_up(
    redis: ArqRedis, budget: RateBudget, lane: Lane, waiting: int
) -> list[Reservation]:
    """So many that are patient; the server hears all of them in the same millisecond."""
    await budget.take("other", lane)  # the script is known from here on
    await command(redis, "CLIENT", "PAUSE", int(HANGS_AFTER_S * 1000), "WRITE")
    asking = asyncio.gather(
        *(budget.take("items", lane, patience_s=MAX_WAIT_S) for _ in range(waiting))
    )
    await until(partial(stand, redis, waiting), "all of them wait for the server")
    await command(redis, "CLIENT", "UNPAUSE")
    reservations = sorted(await asking, key=lambda reservation: reservation.at_ms)
    assert all(reservation.at_ms for reservation in reservations)
    return reservations


async def stand(redis: ArqRedis, waiting: int) -> bool:
    clients = await redis.info("clients")
    return int(clients["blocked_clients"]) == waiting


async def test_each_waiting_caller_has_a_reservation_of_its_own(pausable: ArqRedis) -> None:
    budget = RateBudget(pausable, per_minute=360)
    found = await queue_up(pausable, budget, Lane.LIVE, 8)
    reservations = [reservation.at_ms for reservation in found]
    apart = [later - earlier for earlier, later in pairwise(reservations)]
    assert apart == [pytest.approx(60_000 / 330, abs=2)] * 7


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("short_of_a_call", [0.1, 0.5, 0.9])
async def test_reservations_are_as_far_apart_as_calls_come(
    pausable: ArqRedis, lane: Lane, short_of_a_call: float
) -> None:
    budget = RateBudget(pausable, per_minute=360)
    await stop_the_clock(pausable, tokens=30 * FLOOR_BY_LANE[lane] + 1 - short_of_a_call)
    found = await queue_up(pausable, budget, lane, 8)
    reservations = [reservation.at_ms for reservation in found]
    apart = [later - earlier for earlier, later in pairwise(reservations)]
    assert apart == [pytest.approx(60_000 / 330, abs=2)] * 7


async def test_each_caller_that_comes_at_its_time_is_served(pausable: ArqRedis) -> None:
    budget = RateBudget(pausable, per_minute=360)
    reservations = await queue_up(pausable, budget, Lane.LIVE, 8)
    await shift(pausable, reservations[-1].wait_s)
    served = [
        await budget.take("items", Lane.LIVE, reservation=reservation)
        for reservation in reservations
    ]
    assert [reservation.wait_s for reservation in served] == [0.0] * 8


async def test_all_are_served_for_whom_there_are_calls_in_time(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    # The last token comes in 1.46 s; who is late is served late.
    await asyncio.gather(*(budget.acquire("items", Lane.LIVE) for _ in range(8)))


async def test_nobody_takes_what_others_wait_for(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=12)
    await stop_the_clock(redis, tokens=1)
    seconds, _ = await redis.time()
    reservation = (int(seconds) + 2) * 1000
    await command(redis, "HSET", KEY, "last_reservation:0", reservation)
    assert (await budget.take("items", Lane.LIVE)).wait_s > 0
    assert (
        await budget.take("items", Lane.LIVE, reservation=Reservation(1.0, reservation))
    ).wait_s == 0


async def test_a_lane_does_not_queue_behind_a_worse_one(pausable: ArqRedis) -> None:
    budget = RateBudget(pausable, per_minute=360)
    await stop_the_clock(pausable, tokens=10)
    await queue_up(pausable, budget, Lane.BACKFILL, 8)
    assert await drain(budget, Lane.LIVE) == 10


async def test_a_reservation_that_nobody_comes_for_loses_no_call(pausable: ArqRedis) -> None:
    budget = RateBudget(pausable, per_minute=360)
    await queue_up(pausable, budget, Lane.LIVE, 8)
    await shift(pausable, 60)
    taken, meanwhile = await drain_refilled(budget, Lane.LIVE)
    assert 30 <= taken <= 30 + meanwhile


async def test_a_queue_of_a_clock_that_has_gone_back_is_forgotten(pausable: ArqRedis) -> None:
    budget = RateBudget(pausable, per_minute=360)
    await queue_up(pausable, budget, Lane.LIVE, 8)
    await shift(pausable, -3600)
    await stop_the_clock(pausable, tokens=5)
    assert await drain(budget, Lane.LIVE) == 5


async def test_a_clock_that_goes_back_grants_nothing_twice(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await stop_the_clock(redis, tokens=0.0)
    at = await stored(redis, "at")
    assert await drain(budget, Lane.LIVE) == 0
    assert await stored(redis, "at") == at


async def test_after_a_clock_that_has_gone_back_far_calls_go_on_within_the_limit(
    redis: ArqRedis,
) -> None:
    budget = RateBudget(redis, per_minute=360)
    await stop_the_clock(redis, tokens=30)
    await shift(redis, -3600)
    assert 0 < (await budget.take("items", Lane.LIVE)).wait_s < 1
    await shift(redis, 2)
    taken, meanwhile = await drain_refilled(budget, Lane.LIVE)
    assert 10 <= taken <= 12 + meanwhile


async def test_a_429_of_a_clock_that_has_gone_back_lasts_no_longer(redis: ArqRedis) -> None:
    budget = RateBudget(redis, per_minute=360)
    await budget.take("items", Lane.LIVE)
    await budget.empty("items", wait_s=300)
    await shift(redis, -3600)
    assert 250 < (await budget.take("items", Lane.LIVE)).wait_s < 301
    assert 250 < (await budget.take("items", Lane.LIVE)).wait_s < 301


async def test_a_bucket_is_forgotten_after_a_day_and_not_after_a_quiet_hour(
    redis: ArqRedis,
) -> None:
    budget = RateBudget(redis, per_minute=360)
    await budget.take("items", Lane.LIVE)
    assert 3_600_000 < await redis.pttl(KEY) <= DAY_MS
    await command(redis, "HINCRBYFLOAT", KEY, "kept_until", -0.6 * DAY_MS)
    await redis.pexpire(KEY, int(0.4 * DAY_MS))
    await budget.take("items", Lane.LIVE)
    assert await redis.pttl(KEY) > DAY_MS / 2, "a bucket in use is kept"
    await budget.empty("items", wait_s=3600)
    assert await redis.pttl(KEY) > 3_600_000


async def test_a_call_takes_four_commands_of_redis(own_redis_url: str) -> None:
    budget = RateBudget(own := connect(own_redis_url), per_minute=360)
    await budget.take("items", Lane.LIVE)
    before = await own.info("commandstats")
    for _ in range(10):
        await budget.take("items", Lane.LIVE)
    after = await own.info("commandstats")
    await own.aclose()
    calls = {
        name.removeprefix("cmdstat_"): stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in after.items()
    }
    assert {name: n for name, n in calls.items() if n and name != "info"} == dict.fromkeys(
        ("evalsha", "time", "hmget", "hset"), 10
    )


TAKE_ALL = """
import asyncio, sys
from worker.pluggy_api.rate_limit import RateBudget
from worker.infra.lanes import Lane
from worker.infra.redis_client import connect

async def main():
    redis = connect(sys.argv[1])
    budget, taken = RateBudget(redis, per_minute=360), 0
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(100):
        taken += not (await budget.take("items", Lane.LIVE)).wait_s
    await redis.aclose()
    print(taken, flush=True)

asyncio.run(main())
"""


async def test_processes_share_one_bucket(redis: ArqRedis, redis_url: str) -> None:
    await stop_the_clock(redis, tokens=30)
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", TAKE_ALL, redis_url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(child.communicate(b"\n") for child in children))
    assert sum(int(out) for out, _ in answers) == 30


# Without Redis


def test_the_local_share_is_a_tenth_and_starts_empty() -> None:
    bucket = LocalBucket(refill_per_s=0.5)
    assert bucket.take() == pytest.approx(2.0, abs=0.1)
    bucket.at -= 2.0
    assert bucket.take() == 0
    assert bucket.take() > 1.5
    # Never more than one at once, however long nothing was asked for.
    bucket.at -= 3600
    assert bucket.take() == 0
    assert bucket.take() > 1.5


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_without_redis_calls_go_on_at_a_tenth_of_the_limit(
    valkey: embedded.Valkey,
    pausable: ArqRedis,
    how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watched = connect(valkey.url, ServerOutage("redis"), timeout_s=1.0)
    budget = RateBudget(watched, per_minute=60)
    await stop_the_clock(pausable, tokens=5)
    await budget.acquire("items", Lane.LIVE)
    if how == "killed":
        await asyncio.to_thread(valkey.kill)
    else:
        valkey.pause()
    try:
        # A call every 600/55 seconds.
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(Deferred) as deferred:
                await budget.acquire("items", Lane.LIVE)
            assert 10.9 - (time.monotonic() - began) < deferred.value.wait_s < 11
        await budget.empty("items", wait_s=1.0)
    finally:
        if how == "killed":
            await asyncio.to_thread(valkey.start)
        else:
            valkey.resume()
    await stop_the_clock(pausable, tokens=5)

    async def shares_again() -> bool:
        return not (await budget.take("items", Lane.LIVE)).wait_s

    await until(shares_again, "the shared bucket is asked again")
    await watched.aclose()
    said = capsys.readouterr().out
    assert (said.count("redis_away"), said.count("redis_back")) == (1, 1)
