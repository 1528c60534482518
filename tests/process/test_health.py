"""The worker's health server: its answers and its port."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from arq.connections import ArqRedis

import embedded
from tests.support.waiting import HANGS_AFTER_S, until
from worker.health import (
    LAST_PORT,
    SWEEP_TIMEOUT_S,
    TICK_TIMEOUT_S,
    Heartbeat,
    start_health_server,
    sweep_heartbeat,
)
from worker.infra.http_server import listening_port
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect
from worker.maintenance.sweep import Sweep
from worker.wakeup.queue import ArqWaker


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for servers that answer, however busy the machine is."""
    monkeypatch.setattr("worker.health.PROBE_TIMEOUT_S", HANGS_AFTER_S)


def sweep_over(db: Pool, redis: ArqRedis) -> Sweep:
    return Sweep(db, ArqWaker(redis), "a-worker", 2)


@asynccontextmanager
async def serving(sweep: Sweep, port: int = 0, *heartbeats: Heartbeat) -> AsyncIterator[str]:
    runner = await start_health_server(sweep, port, [sweep_heartbeat(sweep), *heartbeats])
    yield f"http://127.0.0.1:{listening_port(runner)}"
    await runner.cleanup()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_a_worker_is_alive_at_once_and_ready_after_its_first_sweep(
    db: Pool, redis: ArqRedis
) -> None:
    sweep = sweep_over(db, redis)
    async with serving(sweep) as url:
        assert (await get(f"{url}/livez"))[0] == 200
        assert await get(f"{url}/readyz") == (
            503,
            '{"error": "no_sweep", "detail": "no sweep ended in 15 s; see the log"}',
        )
        sweeping = asyncio.create_task(sweep.run())

        async def is_ready() -> bool:
            return (await get(f"{url}/readyz"))[0] == 200

        await until(is_ready)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


async def test_a_worker_that_has_not_swept_is_not_ready_on_a_machine_just_started(
    db: Pool, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.health.time.monotonic", lambda: SWEEP_TIMEOUT_S / 2)
    sweep = sweep_over(db, redis)
    async with serving(sweep) as url:
        assert (await get(f"{url}/readyz"))[0] == 503
        sweep.swept_at = SWEEP_TIMEOUT_S / 4
        assert (await get(f"{url}/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("path", "field", "limit_s"),
    [("/livez", "ticked_at", TICK_TIMEOUT_S), ("/readyz", "swept_at", SWEEP_TIMEOUT_S)],
)
async def test_a_worker_that_stalls_is_neither_ready_nor_alive_any_more(
    db: Pool, redis: ArqRedis, path: str, field: str, limit_s: float
) -> None:
    sweep = sweep_over(db, redis)
    async with serving(sweep) as url:
        setattr(sweep, field, time.monotonic())
        assert (await get(url + path))[0] == 200
        setattr(sweep, field, time.monotonic() - limit_s)
        assert (await get(url + path))[0] == 503


async def test_a_worker_whose_queue_nobody_reads_is_not_alive_and_says_what_is_stuck(
    db: Pool, redis: ArqRedis
) -> None:
    read_at = time.monotonic()
    async with serving(sweep_over(db, redis), 0, Heartbeat("queue", 50.0, lambda: read_at)) as url:
        assert (await get(f"{url}/livez"))[0] == 200
        read_at -= 50
        assert await get(f"{url}/livez") == (
            503,
            '{"error": "no_progress", "detail": "stuck: queue"}',
        )


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    with embedded.Valkey() as server:
        yield server


@pytest.mark.parametrize("away", ["postgres", "redis"])
async def test_without_postgres_or_redis_a_worker_is_alive_and_not_ready(
    database_url: str, valkey: embedded.Valkey, away: str
) -> None:
    url = "postgresql://nobody@127.0.0.1:1/x" if away == "postgres" else database_url
    db, redis = await open_pool(url, max_size=2, statement_cache=0), connect(valkey.url)
    if away == "redis":
        await asyncio.to_thread(valkey.kill)
    sweep = sweep_over(db, redis)
    sweep.ticked_at = 0.0
    async with serving(sweep) as url:
        sweeping = asyncio.create_task(sweep.run())

        async def is_alive() -> bool:
            return (await get(f"{url}/livez"))[0] == 200

        await until(is_alive)
        assert (await get(f"{url}/readyz"))[0] == 503
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    await redis.aclose()
    await close_pool(db)
    if away == "redis":
        await asyncio.to_thread(valkey.start)


async def test_metrics_are_those_of_prometheus(db: Pool, redis: ArqRedis) -> None:
    async with serving(sweep_over(db, redis)) as url:
        status, text = await get(f"{url}/metrics")
    assert status == 200
    assert "# TYPE process_cpu_seconds_total counter" in text


async def test_a_second_worker_listens_on_the_next_free_port(db: Pool, redis: ArqRedis) -> None:
    sweep = sweep_over(db, redis)
    async with serving(sweep) as first:
        port = int(first.rpartition(":")[2])
        async with serving(sweep, port) as second:
            assert port < int(second.rpartition(":")[2]) < port + 50
            assert (await get(f"{second}/livez"))[0] == 200
        assert (await get(f"{first}/livez"))[0] == 200


async def test_beyond_the_last_port_there_is_none(db: Pool, redis: ArqRedis) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        taken.bind(("::", LAST_PORT))
        taken.listen()
        with pytest.raises(OSError, match=f"no free port from METRICS_PORT={LAST_PORT} on"):
            await start_health_server(sweep_over(db, redis), LAST_PORT, [])
