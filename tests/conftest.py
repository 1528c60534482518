"""Real servers for all tests: given by URL or embedded, a database of its own for each test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from arq.connections import ArqRedis

import embedded
from ops.migrations import migrate
from tests.support.days import MOMENTS
from tests.support.examples import load_usual_settings
from tests.support.kept_database import KeptDatabase, execute, with_database
from tests.support.service import Service, open_service
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget
from tests.support.waiting import HANGS_AFTER_S
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect
from worker.infra.redis_keys import PREFIX

# A shell ignores SIGINT for what it starts in the background, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

load_usual_settings()

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - directories in it are made by tempfile
ROOM_NEEDED = 4 * 2**30


def prefer_memory() -> None:
    """Keep what is temporary in memory: servers of tests make and remove thousands of files."""
    given = "TMPDIR" in os.environ
    if given or not IN_MEMORY.is_dir() or os.statvfs(IN_MEMORY).f_flag & os.ST_NOEXEC:
        return
    if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free >= ROOM_NEEDED:
        os.environ["TMPDIR"] = str(IN_MEMORY)
        tempfile.tempdir = None


prefer_memory()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server that tests may make databases on: DATABASE_URL, or an embedded one."""
    with embedded.database(os.environ.get("DATABASE_URL")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """REDIS_URL, or an embedded Valkey."""
    with embedded.redis(os.environ.get("REDIS_URL")) as url:
        yield url


@pytest.fixture(scope="session")
async def template(postgres_url: str) -> AsyncIterator[str]:
    """A migrated database that each test's own is copied from."""
    name = f"pluggy_sync_template_{uuid.uuid4().hex[:8]}"
    await execute(postgres_url, f"CREATE DATABASE {name}")
    await migrate(with_database(postgres_url, name))
    yield name
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def kept_database(postgres_url: str, template: str) -> AsyncIterator[KeptDatabase]:
    database = KeptDatabase(postgres_url, template)
    yield database
    await database.drop()


@pytest.fixture
async def database_url(kept_database: KeptDatabase) -> AsyncIterator[str]:
    """A migrated, empty database."""
    yield await kept_database.lend()
    await kept_database.take_back()


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """A database that was never migrated."""
    name = f"pluggy_sync_empty_{uuid.uuid4().hex[:8]}"
    await execute(postgres_url, f"CREATE DATABASE {name}")
    yield with_database(postgres_url, name)
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(
        database_url, max_size=20, statement_cache=100, command_timeout_s=HANGS_AFTER_S
    )
    yield pool
    await close_pool(pool)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A client whose keys are removed before and after the test."""
    client = connect(redis_url, timeout_s=HANGS_AFTER_S)
    await _remove_our_keys(client)
    yield client
    await _remove_our_keys(client)
    await client.aclose()


@pytest.fixture(scope="module")
def own_redis_url() -> Iterator[str]:
    """A server that a test may empty, whatever is given."""
    with embedded.redis(None) as url:
        yield url


async def _remove_our_keys(client: ArqRedis) -> None:
    async for key in client.scan_iter(f"{PREFIX}*"):
        await client.delete(key)


@pytest.fixture(scope="module", params=MOMENTS.values(), ids=list(MOMENTS))
def moment(request: pytest.FixtureRequest) -> str:
    """What the simulator's clock shows at its start; a test that uses it runs once for each."""
    return str(request.param)


@pytest.fixture(scope="session")
def quiet_simulator() -> Iterator[SimulatorProcess]:
    """A simulator without limits and without webhooks: tests deliver what they need themselves."""
    with SimulatorProcess(rate_limit=0, seed=7) as simulator:
        simulator.post("/_simulator/webhooks", {"quiet": True})
        yield simulator


@pytest.fixture
async def stack(
    db: Pool, redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> AsyncIterator[Stack]:
    """The engine over the quiet simulator."""
    await quiet_simulator.adelete("/_simulator/faults")
    await quiet_simulator.adelete("/_simulator/requests")
    await fill_budget(redis)
    async with build_client(quiet_simulator.url, redis) as client:
        yield Stack(db, redis, quiet_simulator, client, build_worker(db, redis, client))
    await quiet_simulator.adelete("/_simulator/faults")


@pytest.fixture
async def service(
    database_url: str, db: Pool, own_redis_url: str, quiet_simulator: SimulatorProcess
) -> AsyncIterator[Service]:
    """The service of processes; its Redis is emptied before."""
    async with open_service(database_url, db, own_redis_url, quiet_simulator) as opened:
        yield opened


@pytest.fixture
async def late_stack(db: Pool, redis: ArqRedis) -> AsyncIterator[Stack]:
    """The engine over a Pluggy whose clock is behind ours by more than what a test lets pass."""
    start = (datetime.now(UTC) - timedelta(hours=30)).isoformat()
    with SimulatorProcess(rate_limit=0, seed=7, clock_start=start) as simulator:
        simulator.post("/_simulator/webhooks", {"quiet": True})
        await fill_budget(redis)
        async with build_client(simulator.url, redis) as client:
            yield Stack(db, redis, simulator, client, build_worker(db, redis, client))
