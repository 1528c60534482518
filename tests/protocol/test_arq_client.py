"""arq's loop over a Redis that fails at any moment: it continues, and no slot is lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.worker import Worker, create_worker, func
from pydantic import SecretStr
from structlog.testing import capture_logs

import embedded
from tests.support.proxy import CuttingProxy
from tests.support.waiting import until
from worker.infra.redis_client import connect
from worker.infra.settings import PluggySettings
from worker.infra.tasks import end
from worker.main import worker_settings
from worker.wakeup.queue import QUEUE_NAME, SYNC_ITEM, ArqWaker, QueueClient

# arq closes its connections by redis-py's older name.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")

SLOTS = 3
WAIT_S = 0.05


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    """A server of our own to kill and to pause, on TCP for the sake of the proxy."""
    with embedded.Valkey(tcp=True) as server:
        yield server


@pytest.fixture
async def redis(valkey: embedded.Valkey) -> AsyncIterator[ArqRedis]:
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that failed is tried again almost at once."""
    monkeypatch.setattr("worker.infra.outage_log.RECHECK_AFTER_S", 0.02)


class Loop:
    """arq's worker with production's settings; its job notes what was woken for."""

    def __init__(self, url: str) -> None:
        self.done: list[str] = []
        settings = PluggySettings(
            database_url=SecretStr("postgresql://not/used"),
            redis_url=SecretStr(url),
            pluggy_client_id="not-used",
            pluggy_client_secret=SecretStr("not-used"),
            worker_slots=SLOTS,
        )
        made = worker_settings(settings)
        made.redis_pool.wait_s = WAIT_S  # type: ignore[attr-defined]
        self.worker: Worker = create_worker(
            made,
            functions=[func(self._note, name=SYNC_ITEM)],  # type: ignore[arg-type]  # arq's protocol
            on_startup=None,
            on_shutdown=None,
            ctx={},
            handle_signals=False,
            health_check_interval=0.01,
        )
        self.main = asyncio.create_task(self.worker.main())

    async def _note(self, _: dict[str, Any], item_id: str) -> None:
        self.done.append(item_id)

    @property
    def reader(self) -> QueueClient:
        assert isinstance(self.worker.pool, QueueClient)
        return self.worker.pool

    async def runs(self, redis: ArqRedis, wakes: int = SLOTS + 1) -> None:
        """Ring and wait until every ring has been heard."""
        items = [uuid.uuid4() for _ in range(wakes)]

        async def heard() -> bool:
            assert not self.main.done(), self.main.exception()
            missing = [item for item in items if str(item) not in self.done]
            # Again, as the sweep does: a ring that comes with the outage may be lost.
            await ArqWaker(redis).wake(missing)
            return not missing

        await until(heard, "every ring is heard")

    async def looks(self, times: int) -> None:
        """Wait until the loop has looked for wake-ups so often: it goes on, and does not spin."""

        async def looked_often() -> bool:
            assert not self.main.done()
            seen.add(self.reader.read_at)
            return len(seen) > times

        seen = set[float]()
        await until(looked_often, "the loop goes on")
        # A spinning loop is seen as often as this polls.
        assert max(seen) - min(seen) >= times * WAIT_S / 2

    async def rests(self) -> None:
        """Wait until no slot is taken."""

        async def free() -> bool:
            return self.worker.job_counter == 0 and not self.worker.sem.locked()

        await until(free, "all slots are free")
        # Each of them can be taken again.
        for _ in range(SLOTS + 1):
            await asyncio.wait_for(self.worker.sem.acquire(), 1)
        for _ in range(SLOTS + 1):
            self.worker.sem.release()


@asynccontextmanager
async def looping(url: str) -> AsyncIterator[Loop]:
    loop = Loop(url)
    try:
        yield loop
    finally:
        await end(loop.main)
        # Wakes that were given twice may still run; arq's close would raise their cancellation.
        await asyncio.gather(*loop.worker.tasks.values(), return_exceptions=True)
        await loop.worker.close()


async def blpops(redis: ArqRedis) -> int:
    """How often a wake-up has been waited for, also where none came or Redis refused."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_blpop", {"calls": 0})["calls"])


def through(proxy: CuttingProxy, valkey: embedded.Valkey) -> str:
    return valkey.url.replace(f":{valkey.port}", f":{proxy.port}")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("unheard", [True, False], ids=["unheard", "unanswered"])
async def test_a_connection_cut_at_any_message_costs_neither_the_loop_nor_a_slot(
    valkey: embedded.Valkey, redis: ArqRedis, unheard: bool
) -> None:
    assert valkey.port is not None
    for at_message in range(1, 21):
        await redis.flushall()
        # Before the loop begins, so that it meets its first rings at the same message each time.
        await ArqWaker(redis).wake([uuid.uuid4() for _ in range(2)])
        async with (
            CuttingProxy(valkey.port, at_message=at_message, unheard=unheard) as proxy,
            looping(through(proxy, valkey)) as loop,
        ):

            async def has_cut(proxy: CuttingProxy = proxy) -> bool:
                return proxy.has_cut

            await until(has_cut, f"message {at_message} is cut off")
            await loop.runs(redis)
            await loop.rests()


async def test_without_redis_the_loop_waits_and_says_so_once(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    with capture_logs() as logs:
        async with looping(valkey.url) as loop:
            await loop.runs(redis)
            await asyncio.to_thread(valkey.kill)
            try:
                await loop.looks(60)
            finally:
                await asyncio.to_thread(valkey.start)
            await loop.runs(redis)
            await loop.rests()
    assert [line["event"] for line in logs if "away" in line["event"]] == ["redis_away"]
    assert [line["event"] for line in logs if "back" in line["event"]] == ["redis_back"]


async def test_a_redis_that_stands_still_holds_up_nothing_for_longer_than_its_time_out(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    async with looping(valkey.url) as loop:
        await loop.runs(redis)
        valkey.pause()
        try:
            outage = loop.reader.outage

            async def noticed() -> bool:
                return outage.lasts

            await until(noticed, "the outage is noticed")
            clock = asyncio.get_running_loop().time
            started = clock()
            # One of them may try Redis and wait for its time-out; the others wait for nothing.
            await asyncio.gather(*(loop.reader.zcard(QUEUE_NAME) for _ in range(200)))
            assert clock() - started < 5
        finally:
            valkey.resume()
        await loop.runs(redis)
        await loop.rests()


async def test_a_worker_that_starts_before_redis_hears_it_when_it_comes(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    await asyncio.to_thread(valkey.kill)
    try:
        async with looping(valkey.url) as loop:

            async def noticed() -> bool:
                assert not loop.main.done(), loop.main.exception()
                return loop.reader.outage.lasts

            await until(noticed, "the outage is noticed")
            await asyncio.to_thread(valkey.start)
            await loop.runs(redis)
    finally:
        if not valkey.running:
            await asyncio.to_thread(valkey.start)


async def test_a_queue_of_another_type_is_logged_once_and_ends_nothing(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    await redis.set(QUEUE_NAME, "not a sorted set")
    with capture_logs() as logs:
        async with looping(valkey.url) as loop:
            clock = asyncio.get_running_loop().time
            began, before = clock(), await blpops(redis)
            await loop.looks(10)
            # One is under way at the beginning.
            assert await blpops(redis) - before <= (clock() - began) / WAIT_S + 1
            await redis.delete(QUEUE_NAME)
            await loop.runs(redis)
    said = [line["event"] for line in logs]
    assert said.count("queue_refused") == 1
    assert "redis_away" not in said
