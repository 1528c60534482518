"""A Redis that answers but cannot be used (read-only, full, loading), and its unsafe settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from arq.connections import ArqRedis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from structlog.testing import capture_logs

import embedded
from tests.support.waiting import until
from worker.infra.outage_log import ServerOutage
from worker.infra.outage_words import Outage, redis_outage
from worker.infra.postgres import Pool
from worker.infra.redis_client import WatchedRedis, connect
from worker.infra.redis_settings import RedisSafety, RedisSettings, read_redis_settings
from worker.maintenance.redis_settings import record_redis_settings
from worker.maintenance.sweep import Sweep
from worker.wakeup.queue import ArqWaker

NO_PRIMARY = ("127.0.0.1", 1)
SAFE = RedisSettings(True, "always", 0, "noeviction")


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    with embedded.Valkey(durable=True, tcp=True) as server:
        yield server


@pytest.fixture
async def admin(valkey: embedded.Valkey) -> AsyncIterator[ArqRedis]:
    """A client that changes settings of the server, and resets them at the end."""
    client = connect(valkey.url)
    yield client
    await client.replicaof("NO", "ONE")
    for name, value in (
        ("maxmemory", 0),
        ("maxmemory-policy", "noeviction"),
        ("appendfsync", "always"),
        ("appendonly", "yes"),
    ):
        await client.config_set(name, value)
    await client.flushall()
    await client.aclose()


@pytest.fixture
async def watched(valkey: embedded.Valkey) -> AsyncIterator[WatchedRedis]:
    client = connect(valkey.url, ServerOutage("redis"))
    assert isinstance(client, WatchedRedis)
    yield client
    await client.aclose()


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ReadOnlyError("You can't write against a read only replica."), Outage.REDIS_READ_ONLY),
        (ResponseError("READONLY You can't write. script: 0a"), Outage.REDIS_READ_ONLY),
        (BusyLoadingError("Redis is loading the dataset in memory"), Outage.REDIS_LOADING),
        (ResponseError("MISCONF Errors writing to the AOF file"), Outage.REDIS_NOT_PERSISTING),
        (ResponseError("NOREPLICAS Not enough good replicas"), Outage.REDIS_NOT_PERSISTING),
        (OutOfMemoryError("command not allowed"), Outage.REDIS_FULL),
        (AuthenticationError("invalid username-password pair"), Outage.REDIS_ACCESS_DENIED),
        (ConnectionRefusedError(), Outage.REDIS_AWAY),
        (TimeoutError(), Outage.REDIS_AWAY),
    ],
)
def test_each_outage_of_redis_has_its_word(error: Exception, word: Outage) -> None:
    assert redis_outage(error) is word


async def test_a_redis_that_became_a_replica_is_an_outage_until_it_takes_a_write(
    admin: ArqRedis, watched: WatchedRedis
) -> None:
    with capture_logs() as logs:
        await watched.set("a", 1)
        await admin.replicaof(*NO_PRIMARY)
        with pytest.raises(ReadOnlyError):
            await watched.set("a", 2)
        assert watched.outage.word == "redis_read_only"

        async def is_tried_again() -> bool:
            failed_at = watched.outage.failed_at
            try:
                await watched.get("a")
            except RedisError:
                return watched.outage.failed_at > failed_at
            return False

        # Reads go on, and do not end it.
        await until(is_tried_again)
        assert watched.outage.word == "redis_read_only"
        await admin.replicaof("NO", "ONE")

        async def is_over() -> bool:
            try:
                await watched.get("a")
            except RedisError:
                return False
            return not watched.outage.lasts

        await until(is_over)
    assert [line["event"] for line in logs] == ["redis_read_only", "redis_back"]


async def test_a_write_refused_by_a_replica_is_tried_once_more_by_a_new_connection(
    valkey: embedded.Valkey, admin: ArqRedis
) -> None:
    client = connect(valkey.url)
    connected = await client.client_id()
    await admin.replicaof(*NO_PRIMARY)
    with pytest.raises(ReadOnlyError):
        await client.set("a", 1)
    await admin.replicaof("NO", "ONE")
    assert await client.set("a", 1)
    assert await client.client_id() != connected
    await client.aclose()


async def test_a_full_redis_is_an_outage_with_its_own_word(
    admin: ArqRedis, watched: WatchedRedis
) -> None:
    await admin.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await watched.set("a", "1")
    assert watched.outage.word == "redis_full"


async def test_a_refusal_that_is_about_the_command_is_no_outage(
    admin: ArqRedis, watched: WatchedRedis
) -> None:
    await admin.set("a", "no number")
    with pytest.raises(ResponseError):
        await watched.incr("a")
    assert not watched.outage.lasts


async def test_unsafe_settings_are_logged(admin: ArqRedis) -> None:
    assert await read_redis_settings(admin) == SAFE
    assert SAFE.unsafe == []
    await admin.config_set("appendfsync", "everysec")
    assert (await read_redis_settings(admin)).unsafe == ["append_fsync_not_always"]
    await admin.config_set("appendonly", "no")
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    assert (await read_redis_settings(admin)).unsafe == ["append_only_off", "may_evict"]


@pytest.mark.parametrize("policy", ["volatile-ttl", "allkeys-random"])
async def test_any_policy_that_evicts_is_unsafe(admin: ArqRedis, policy: str) -> None:
    await admin.config_set("maxmemory-policy", policy)
    assert (await read_redis_settings(admin)).unsafe == ["may_evict"]


async def test_where_config_is_forbidden_the_rest_is_logged_and_that_is_unknown(
    valkey: embedded.Valkey, admin: ArqRedis
) -> None:
    await admin.acl_setuser(
        "managed", enabled=True, passwords=["+word"], keys=["*"], commands=["+@all", "-config"]
    )
    parts = urlsplit(valkey.url)
    url = urlunsplit(parts._replace(netloc=f"managed:word@127.0.0.1:{valkey.port}"))
    client = connect(url)
    found = await read_redis_settings(client)
    assert (found, found.unsafe) == (RedisSettings(True, None, 0, "noeviction"), ["unknown"])
    await client.aclose()


async def test_unsafe_settings_are_logged_once_and_stored_for_status(
    admin: ArqRedis, db: Pool
) -> None:
    safety = RedisSafety(admin)
    await admin.config_set("appendonly", "no")
    with capture_logs() as logs:
        for _ in range(2):
            await record_redis_settings(db, safety)
    [line] = logs
    assert (line["event"], line["unsafe"]) == ("redis_unsafe", ["append_only_off"])
    assert "appendonly yes" in line["advice"]
    row = await db.fetchrow("SELECT * FROM pluggy_sync.redis_settings")
    assert row is not None
    assert (row["append_only"], row["append_fsync"], row["unsafe"]) == (
        False,
        "always",
        ["append_only_off"],
    )
    await admin.config_set("appendonly", "yes")
    await record_redis_settings(db, safety)
    assert await db.fetchval("SELECT unsafe FROM pluggy_sync.redis_settings") == []


async def test_a_worker_s_row_shows_its_outage_of_redis_and_since_when(
    db: Pool, valkey: embedded.Valkey, admin: ArqRedis, watched: WatchedRedis
) -> None:
    sweep = Sweep(db, ArqWaker(watched), "a-worker", 2, redis=watched.outage)
    row = "SELECT redis_outage, redis_outage_since FROM pluggy_sync.workers"
    await sweep.sweep()
    assert tuple(await db.fetchrow(row) or ()) == (None, None)
    await admin.replicaof(*NO_PRIMARY)
    found = []
    for _ in range(3):
        with pytest.raises(RedisError):
            await sweep.sweep()
        found.append(tuple(await db.fetchrow(row) or ()))
    # The first beat came before the refusal.
    assert [word for word, _ in found] == [None, "redis_read_only", "redis_read_only"]
    assert found[1] == found[2]
