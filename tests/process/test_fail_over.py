"""Fail-overs of Postgres: read-only sessions, and URLs with several hosts."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest

import embedded
from ops.migrations import migrate
from tests.support.kept_database import Session, execute, session, with_database
from tests.support.receiver import (
    PATIENCE_S,
    SECRET,
    Client,
    Doorway,
    ReceiverProcess,
    event_body,
    open_receiver,
    stored_bodies,
)
from tests.support.service import Service, open_service
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.infra.outage_words import Outage, postgres_outage
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.postgres_hosts import Hosts, check_url, single_hosts

READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on"
# For whoever changes it back.
WRITES = {"default_transaction_read_only": "off"}
READ_WRITE = "ALTER SYSTEM RESET default_transaction_read_only"


@pytest.fixture(autouse=True)
def patient_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a receiver in this process wait for stores that answer, however busy the machine is."""
    for name in ("READY_TIMEOUT_S", "SPOOL_TIMEOUT_S"):
        monkeypatch.setattr(f"webhook_receiver.storage.{name}", PATIENCE_S)


@pytest.fixture(scope="module")
def postgres() -> Iterator[embedded.Postgres]:
    # What a killed server has written is kept by the system: it need not wait for the disk.
    with embedded.Postgres(tcp=True) as server:
        yield server


@pytest.fixture(scope="module")
async def migrated(postgres: embedded.Postgres) -> str:
    """A database to copy."""
    await execute(postgres.url, "CREATE DATABASE migrated")
    await migrate(with_database(postgres.url, "migrated"))
    return "migrated"


@pytest.fixture(scope="module")
def other_postgres() -> Iterator[embedded.Postgres]:
    """A second host."""
    with embedded.Postgres(durable=True, tcp=True) as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    """Without an append-only file, so that the spool refuses events."""
    with embedded.Valkey() as server:
        yield server


@pytest.fixture(scope="module")
def durable_valkey() -> Iterator[embedded.Valkey]:
    with embedded.Valkey(durable=True) as server:
        yield server


@pytest.fixture
async def url(postgres: embedded.Postgres, migrated: str) -> AsyncIterator[str]:
    """A migrated database of its own."""
    name = f"fail_over_{uuid.uuid4().hex[:8]}"
    await execute(postgres.url, f"CREATE DATABASE {name} TEMPLATE {migrated}")
    yield with_database(postgres.url, name)
    await execute(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def db(url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(url, max_size=4, statement_cache=0)
    yield pool
    await close_pool(pool)


async def begin_read_only(url: str, read_only: bool) -> None:
    """Make new sessions read-only or not; existing sessions stay as they are."""
    name = urlsplit(url).path[1:]
    change = "SET default_transaction_read_only = on" if read_only else "RESET ALL"
    conn = await asyncpg.connect(url, server_settings=WRITES)
    await conn.execute(f"ALTER DATABASE {name} {change}")
    await conn.close()


@asynccontextmanager
async def standby(server: embedded.Postgres, url: str = "") -> AsyncIterator[None]:
    """Make all sessions of a server read-only, as on a standby. url: if its own has changed."""
    conn = await asyncpg.connect(url or server.url, server_settings=WRITES)
    try:
        await conn.execute(READ_ONLY)
        await reload(conn, url or server.url, read_only=True)
        yield
    finally:
        await conn.execute(READ_WRITE)
        await reload(conn, url or server.url, read_only=False)
        await conn.close()


async def reload(conn: Session, url: str, *, read_only: bool) -> None:
    """Have the settings read again, and wait until every session is told."""
    await conn.execute("SELECT pg_reload_conf()")

    async def is_known() -> bool:
        async with session(url) as new:
            shown = await new.fetchval("SHOW default_transaction_read_only")
            return bool(shown == "on") is read_only

    # Postgres tells the sessions that there are before it begins another.
    await until(is_known)


async def is_read_only(db: Pool) -> bool:
    return bool(await db.fetchval("SHOW transaction_read_only") == "on")


# Sessions


async def test_a_session_that_is_left_read_only_is_replaced(url: str) -> None:
    await begin_read_only(url, True)
    pool = await open_pool(url, max_size=3, statement_cache=100)
    stored = [await pool.acquire() for _ in range(3)]
    for conn in stored:
        await pool.release(conn)
    await begin_read_only(url, False)
    assert await is_read_only(pool)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await pool.execute("CREATE TABLE proof ()")
    # Not only the one that was found out: none of the others is used again.
    for _ in range(3):
        async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
            for conn in (one, two, three):
                assert await conn.fetchval("SHOW transaction_read_only") == "off"
    await pool.execute("CREATE TABLE proof ()")
    await close_pool(pool)


async def test_a_session_that_is_found_read_only_within_a_transaction_is_replaced(url: str) -> None:
    await begin_read_only(url, True)
    pool = await open_pool(url, max_size=1, statement_cache=100)
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await begin_read_only(url, False)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await conn.executemany("INSERT INTO pluggy_sync.workers VALUES ($1, 1)", [("a",)])
        await transaction.rollback()
    assert not await is_read_only(pool)
    await close_pool(pool)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (asyncpg.ReadOnlySQLTransactionError("x"), Outage.POSTGRES_READ_ONLY),
        (asyncpg.TargetServerAttributeNotMatched("x"), Outage.POSTGRES_READ_ONLY),
        (asyncpg.UndefinedTableError("x"), Outage.POSTGRES_NOT_MIGRATED),
        (asyncpg.UndefinedColumnError("x"), Outage.POSTGRES_NOT_MIGRATED),
        (asyncpg.InvalidPasswordError("x"), Outage.POSTGRES_ACCESS_DENIED),
        (asyncpg.InsufficientPrivilegeError("x"), Outage.POSTGRES_ACCESS_DENIED),
        (asyncpg.DiskFullError("x"), Outage.POSTGRES_FULL),
        (asyncpg.TooManyConnectionsError("x"), Outage.POSTGRES_FULL),
        (asyncpg.AdminShutdownError("x"), Outage.POSTGRES_AWAY),
        (asyncpg.CannotConnectNowError("x"), Outage.POSTGRES_AWAY),
        (ConnectionRefusedError(), Outage.POSTGRES_AWAY),
        (TimeoutError(), Outage.POSTGRES_AWAY),
    ],
)
def test_each_outage_of_postgres_has_its_word(error: Exception, word: Outage) -> None:
    assert postgres_outage(error) is word


# The receiver


@asynccontextmanager
async def receiver_client(url: str, redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(url, redis_url) as opened:
        yield opened


async def readiness(client: Client) -> tuple[int, Any]:
    reply = await client.call("GET", "/readyz")
    return reply.status, reply.body.get("error", reply.body.get("postgres"))


async def test_a_session_whose_server_has_gone_is_closed_without_a_word(url: str) -> None:
    pool = await open_pool(url, max_size=1, statement_cache=0)
    async with pool.acquire() as session:
        stored: Any = session
        # Nothing can be sent any more, and the loop has not heard of it yet.
        stored._con._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await session.close()
    assert await pool.fetchval("SELECT 1") == 1
    await close_pool(pool)


async def test_a_receiver_takes_deliveries_again_once_the_primary_is_back(
    url: str, valkey: embedded.Valkey
) -> None:
    await begin_read_only(url, True)
    async with receiver_client(url, valkey.url) as doorway:
        replies = await asyncio.gather(*(doorway.deliver(event_body()) for _ in range(5)))
        assert {reply.status for reply in replies} == {503}
        assert await readiness(doorway) == (503, "postgres_read_only")
        await begin_read_only(url, False)

        async def is_ready() -> bool:
            return (await readiness(doorway))[0] == 200

        await until(is_ready)
        assert (await doorway.deliver(event_body())).status == 202


async def test_while_postgres_is_read_only_deliveries_are_spooled_and_then_stored(
    url: str, db: Pool, postgres: embedded.Postgres, durable_valkey: embedded.Valkey
) -> None:
    body = json.dumps(event_body()).encode()
    async with receiver_client(url, durable_valkey.url) as doorway:
        assert (await doorway.deliver(event_body())).status == 202
        async with standby(postgres):
            assert (await doorway.deliver(body)).status == 202
            assert await readiness(doorway) == (200, "postgres_read_only")
            assert await stored_bodies(db) != []

        async def is_stored() -> bool:
            return body in await stored_bodies(db)

        await until(is_stored)


async def test_a_receiver_says_at_start_that_postgres_and_redis_are_away() -> None:
    async with ReceiverProcess(
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/x",
        REDIS_URL="redis://127.0.0.1:1/0",
        WEBHOOK_SECRET=SECRET,
        LOG_LEVEL="INFO",
    ) as receiver:
        await receiver.port()

        async def has_said() -> bool:
            said = "".join(receiver.lines)
            return '"postgres_away"' in said and '"redis_away"' in said

        await until(has_said)


async def test_a_receiver_names_at_start_a_database_that_is_not_migrated(
    postgres: embedded.Postgres, valkey: embedded.Valkey
) -> None:
    name = f"unmigrated_{uuid.uuid4().hex[:8]}"
    await execute(postgres.url, f"CREATE DATABASE {name}")
    async with (
        ReceiverProcess(
            DATABASE_URL=with_database(postgres.url, name),
            REDIS_URL=valkey.url,
            WEBHOOK_SECRET=SECRET,
            LOG_LEVEL="INFO",
        ) as receiver,
        aiohttp.ClientSession() as session,
    ):
        client = Client(f"http://127.0.0.1:{await receiver.port()}", session)

        async def has_said() -> bool:
            said = "".join(receiver.lines)
            return '"postgres_not_migrated"' in said and '"redis_unsafe"' in said

        await until(has_said)
        assert await readiness(client) == (503, "postgres_not_migrated")
        assert '"postgres_away"' not in "".join(receiver.lines)
    await execute(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_password_that_is_refused_is_named(
    url: str, postgres: embedded.Postgres, valkey: embedded.Valkey
) -> None:
    parts = urlsplit(url)
    wrong = urlunsplit(parts._replace(netloc=f"postgres:wrong@127.0.0.1:{postgres.port}"))
    async with receiver_client(wrong, valkey.url) as doorway:
        assert await readiness(doorway) == (503, "postgres_access_denied")


# The worker


@pytest.fixture
async def service(
    url: str, db: Pool, valkey: embedded.Valkey, quiet_simulator: SimulatorProcess
) -> AsyncIterator[Service]:
    async with open_service(url, db, valkey.url, quiet_simulator) as opened:
        yield opened


async def worker_readiness(worker: WorkerProcess) -> tuple[int, str, float]:
    """Its answer, and how long that took in seconds."""
    [line] = worker.said("health_server_started")
    clock = asyncio.get_running_loop().time
    started = clock()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{line['port']}/readyz") as answer,
    ):
        body = await answer.json()
    return answer.status, body.get("error", ""), clock() - started


async def test_a_worker_goes_on_once_the_primary_is_back_and_spends_no_attempt(
    service: Service, postgres: embedded.Postgres
) -> None:
    item = await service.stack.item(transactions=30)
    async with service.worker() as worker:
        await service.deliver(item["id"])
        await service.quiet()
        async with standby(postgres):

            async def names_it() -> bool:
                return (await worker_readiness(worker))[:2] == (503, "postgres_read_only")

            await until(names_it)
            # Its first sweep since.
            await until(lambda: said(worker, "postgres_read_only"))

        async def is_ready() -> bool:
            return (await worker_readiness(worker))[0] == 200

        await until(is_ready)

        async def takes() -> bool:
            return (await service.receiver_client.deliver(event_body(item["id"]))).status == 202

        await until(takes)
        await service.quiet()
        assert await service.attempts() == 0
        assert not worker.said("sweep_crashed")
        assert not worker.said("sync_crashed")


async def said(worker: WorkerProcess, event: str) -> bool:
    return bool(worker.said(event))


@pytest.mark.parametrize("how", ["killed", "paused"])
@pytest.mark.parametrize("which", ["postgres", "redis"])
async def test_a_worker_is_not_ready_as_soon_as_a_server_is_of_no_use(
    service: Service,
    postgres: embedded.Postgres,
    valkey: embedded.Valkey,
    which: str,
    how: str,
) -> None:
    server: embedded.Postgres | embedded.Valkey = postgres if which == "postgres" else valkey
    async with service.worker() as worker:

        async def is_ready() -> bool:
            return (await worker_readiness(worker))[0] == 200

        await until(is_ready)
        await asyncio.to_thread(server.kill if how == "killed" else server.pause)
        try:
            # The very next probe shows it, well within the five seconds that a probe may take.
            status, word, took_s = await worker_readiness(worker)
        finally:
            await asyncio.to_thread(server.start if how == "killed" else server.resume)
        assert (status, word) == (503, f"{which}_away")
        assert took_s < 5
        await until(is_ready)


async def test_a_worker_whose_redis_became_a_replica_names_it(
    service: Service, valkey: embedded.Valkey
) -> None:
    redis = service.stack.redis
    async with service.worker() as worker:
        await redis.replicaof("127.0.0.1", 1)
        try:

            async def names_it() -> bool:
                return (await worker_readiness(worker))[:2] == (503, "redis_read_only")

            await until(names_it)
        finally:
            await redis.replicaof("NO", "ONE")

        async def is_ready() -> bool:
            return (await worker_readiness(worker))[0] == 200

        await until(is_ready)


# Several hosts


def both(first: embedded.Postgres, second: embedded.Postgres, url: str, more: str = "") -> str:
    """A URL of two hosts with the password of the second; the first needs none."""
    login = urlsplit(second.url).netloc.partition("@")[0]
    hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    return urlunsplit(urlsplit(url)._replace(netloc=f"{login}@{hosts}", query=more))


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_of_two_hosts_the_one_that_lives_is_used(
    url: str,
    postgres: embedded.Postgres,
    other_postgres: embedded.Postgres,
    valkey: embedded.Valkey,
    how: str,
) -> None:
    address = both(other_postgres, postgres, url, "target_session_attrs=read-write")
    await asyncio.to_thread(other_postgres.kill if how == "killed" else other_postgres.pause)
    try:
        assert await migrate(address) == []
        async with (
            ReceiverProcess(
                DATABASE_URL=address, REDIS_URL=valkey.url, WEBHOOK_SECRET=SECRET
            ) as receiver,
            aiohttp.ClientSession() as session,
        ):
            client = Client(f"http://127.0.0.1:{await receiver.port()}", session)

            async def is_ready() -> bool:
                return (await readiness(client))[0] == 200

            await until(is_ready)
            assert (await client.deliver(event_body())).status == 202
    finally:
        await asyncio.to_thread(other_postgres.start if how == "killed" else other_postgres.resume)


async def test_of_two_hosts_the_one_that_takes_writes_is_used(
    url: str, postgres: embedded.Postgres, other_postgres: embedded.Postgres
) -> None:
    # Two clusters with one password, as a primary and its standby have.
    conn = await asyncpg.connect(other_postgres.url)
    password = urlsplit(postgres.url).password
    await conn.execute(f"ALTER ROLE postgres PASSWORD '{password}'")
    await conn.close()
    address = both(other_postgres, postgres, with_database(url, "postgres"))
    pool = await open_pool(address, max_size=2, statement_cache=0)
    port = "SELECT inet_server_port()"
    same = urlsplit(other_postgres.url)
    login = f"postgres:{password}"
    other = urlunsplit(same._replace(netloc=f"{login}@127.0.0.1:{other_postgres.port}"))
    assert await pool.fetchval(port) == other_postgres.port
    async with standby(other_postgres, other):
        # The session that is there is found out by its first write, and then the other host asked.
        async def has_moved() -> bool:
            try:
                await pool.execute("CREATE TEMP TABLE t ()")
                await pool.execute("CREATE TABLE IF NOT EXISTS moved ()")
            except asyncpg.ReadOnlySQLTransactionError:
                return False
            return True

        await until(has_moved)
        assert await pool.fetchval(port) == postgres.port
    await close_pool(pool)


async def test_where_no_host_takes_writes_that_is_the_word(url: str) -> None:
    await begin_read_only(url, True)
    host = urlsplit(url).netloc.partition("@")[2]
    twice = url.replace(host, f"{host},{host}")
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched) as refused:
        await Hosts(twice).connect(timeout=10)
    assert postgres_outage(refused.value) is Outage.POSTGRES_READ_ONLY
    await begin_read_only(url, False)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@a/db", ["postgresql://u:p@a/db"]),
        (
            "postgresql://u:p@a:1,b:2/db?x=y",
            ["postgresql://u:p@a:1/db?x=y", "postgresql://u:p@b:2/db?x=y"],
        ),
        ("postgres://[::1]:1,b/db", ["postgres://[::1]:1/db", "postgres://b/db"]),
        ("postgresql://u@/db?host=/run/pg", ["postgresql://u@/db?host=/run/pg"]),
        (
            "postgresql://u@/db?host=a,b&port=1,2",
            ["postgresql://u@/db?host=a&port=1", "postgresql://u@/db?host=b&port=2"],
        ),
        (
            "postgresql:///db?host=a,b&port=1",
            ["postgresql:///db?host=a&port=1", "postgresql:///db?host=b&port=1"],
        ),
        ("postgresql:///db?host=a,b", ["postgresql:///db?host=a", "postgresql:///db?host=b"]),
    ],
)
def test_each_host_of_an_address_has_its_own(url: str, hosts: list[str]) -> None:
    assert single_hosts(url) == hosts
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@a/db",
        "postgresql://u@a:0/db",
        "postgresql://u@a:1,b:0/db",
        "postgresql://u@a:1,b:x/db",
        "postgresql://u@a,b/db?target_session_attrs=readwrite",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - settings word it
        check_url(url)


async def test_a_session_goes_back_to_the_pool_without_a_further_statement(db: Pool) -> None:
    ours = "SELECT 'the last that this session was asked'"
    async with db.acquire() as conn:
        pid = conn.get_server_pid()
        await conn.execute(ours)
    async with db.acquire() as one, db.acquire() as other:
        asking = one if other.get_server_pid() == pid else other
        last = "SELECT query FROM pg_stat_activity WHERE pid = $1"
        assert await asking.fetchval(last, pid) == ours


async def test_an_open_transaction_does_not_go_back_to_the_pool(db: Pool) -> None:
    async with db.acquire() as conn:
        pid = conn.get_server_pid()
        await conn.execute("BEGIN; SET LOCAL lock_timeout = '7s'")
    async with db.acquire() as conn:
        assert conn.get_server_pid() == pid
        assert not conn.is_in_transaction()
        assert await conn.fetchval("SHOW lock_timeout") == "0"
