"""The spool: events are kept in Redis, fsynced, while Postgres is away, and drained afterwards."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.connections import ArqRedis
from click.testing import CliRunner
from msgspec.structs import replace

import embedded
from ops.cli.main import main
from ops.migrations import migrate
from tests.support.receiver import (
    HEADER,
    PATIENCE_S,
    SECRET,
    Doorway,
    Locked,
    ReceiverProcess,
    Reply,
    event_body,
    open_receiver,
)
from tests.support.shared_database import delete_events
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import now
from tests.support.waiting import until
from tests.support.wakes import woken
from tests.support.worker_process import WorkerProcess
from webhook_receiver.storage import POSTGRES_TIMEOUT_S
from worker.inbox.accept import Accepted
from worker.inbox.drain import drain
from worker.inbox.events import WebhookEvent, parse_webhook, registration
from worker.inbox.spool import SPOOL, TOTALS, Spool, SpoolRefuses
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect

ANSWER_TIMEOUT_S = 4.0
NOBODY = "postgresql://nobody@127.0.0.1:1/x"


@pytest.fixture(scope="module")
async def postgres() -> AsyncIterator[embedded.Postgres]:
    """A server to kill and to pause."""
    with embedded.Postgres(durable=True, tcp=True) as server:
        await migrate(server.url)
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    with embedded.Valkey(durable=True, tcp=True) as server:
        yield server


@pytest.fixture
def database_url(postgres: embedded.Postgres) -> str:
    return postgres.url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, max_size=4, statement_cache=100)
    await delete_events(pool)
    yield pool
    await close_pool(pool)


@pytest.fixture
async def redis(valkey: embedded.Valkey) -> AsyncIterator[ArqRedis]:
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
def patient_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a Redis that answers, however busy the machine is."""
    monkeypatch.setattr("webhook_receiver.storage.SPOOL_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
async def doorway(postgres: embedded.Postgres, valkey: embedded.Valkey) -> AsyncIterator[Doorway]:
    async with open_receiver(postgres.url, valkey.url) as doorway:
        yield doorway


@asynccontextmanager
async def away(server: embedded.Postgres | embedded.Valkey) -> AsyncIterator[None]:
    """Kill the server for the block."""
    await asyncio.to_thread(server.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@asynccontextmanager
async def still(server: embedded.Postgres | embedded.Valkey) -> AsyncIterator[None]:
    """Pause the server for the block; its connections stay open."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


def event(item_id: uuid.UUID | None = None, **fields: Any) -> WebhookEvent:
    return parse_webhook(json.dumps(event_body(item_id, **fields)).encode(), now())


async def raw(redis: ArqRedis, *command: object) -> Any:
    """Execute a command; some of redis-py's methods are not typed as awaitable."""
    send: Callable[..., Awaitable[Any]] = redis.execute_command
    return await send(*command)


async def spooled(redis: ArqRedis) -> int:
    return int(await raw(redis, "HLEN", SPOOL))


async def is_drained(redis: ArqRedis) -> bool:
    return not await redis.exists(SPOOL, TOTALS)


def assert_taken(reply: Reply, status: str = "accepted") -> None:
    assert (reply.status, reply.body) == (202, {"status": status})
    assert reply.took_s < ANSWER_TIMEOUT_S


def assert_sent_back(reply: Reply) -> None:
    assert (reply.status, reply.body["error"]) == (503, "unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.took_s < ANSWER_TIMEOUT_S


# While Postgres is away


async def test_events_are_taken_while_postgres_is_away_and_stored_when_it_is_back(
    doorway: Doorway, postgres: embedded.Postgres, redis: ArqRedis, db: Pool
) -> None:
    bodies = [json.dumps(event_body()).encode() for _ in range(40)]
    async with away(postgres):
        started = now()
        for reply in await asyncio.gather(*(doorway.deliver(body) for body in bodies)):
            assert_taken(reply)
        assert_taken(await doorway.deliver(bodies[7]), "duplicate")
        assert_taken(await doorway.deliver(event_body("17", event="item/renamed")), "kept")
        ready = await doorway.call("GET", "/readyz")
        ended = now()
        assert (ready.status, ready.body) == (
            200,
            {"status": "spooling", "postgres": "postgres_away"},
        )
        assert await spooled(redis) == 41
    await until(lambda: is_drained(redis))
    rows = await db.fetch("SELECT body, received_at, state FROM pluggy_sync.webhook_events")
    assert sorted(row["body"] for row in rows if row["state"] == "pending") == sorted(bodies)
    assert all(started <= row["received_at"] <= ended for row in rows)
    due = "SELECT count(*) FROM pluggy_sync.item_sync WHERE run_at <= now() AND generation = 1"
    assert await db.fetchval(due) == 40
    # The way back rings as the usual one does.
    await doorway.services.intake.wakeups.settle()
    assert len(await woken(redis)) == 40
    assert (await doorway.call("GET", "/readyz")).body == {"status": "ok"}


async def test_what_was_stored_before_is_not_stored_again(
    doorway: Doorway, postgres: embedded.Postgres, redis: ArqRedis, db: Pool
) -> None:
    body = json.dumps(event_body()).encode()
    assert_taken(await doorway.deliver(body))
    # A slow answer at start is taken for an outage.
    await until(lambda: is_drained(redis))
    async with away(postgres):
        assert_taken(await doorway.deliver(body))
    await until(lambda: is_drained(redis))
    assert await db.fetchval("SELECT count(*) FROM pluggy_sync.webhook_events") == 1
    assert await db.fetchval("SELECT generation FROM pluggy_sync.item_sync") == 1


async def test_a_postgres_known_to_be_away_is_not_waited_for(
    doorway: Doorway, postgres: embedded.Postgres, redis: ArqRedis, db: Pool
) -> None:
    assert_taken(await doorway.deliver(event_body()))
    async with still(postgres):
        # The second finds the first one's group on its way.
        first = asyncio.create_task(doorway.deliver(event_body()))
        await asyncio.wait([first], timeout=POSTGRES_TIMEOUT_S / 2)
        second = await doorway.deliver(event_body())
        third = await doorway.deliver(event_body())
        assert_taken(await first)
    assert_taken(second)
    assert_taken(third)
    assert third.took_s < POSTGRES_TIMEOUT_S
    await until(lambda: is_drained(redis))
    # The first may have been on its way: then it was committed when the server went on.
    assert await db.fetchval("SELECT count(*) FROM pluggy_sync.webhook_events") == 4


async def test_an_event_without_id_keeps_the_one_that_it_was_given(
    postgres: embedded.Postgres, redis: ArqRedis, db: Pool
) -> None:
    body = json.dumps({"event": "item/updated", "itemId": str(uuid.uuid4())}).encode()
    read = parse_webhook(body, now())
    spool = Spool(redis)
    await spool.add([read])
    [entry] = (await spool.take()).items()
    await drain(db, spool)
    # As after a crash between the commit and the deletion.
    await raw(redis, "HSET", SPOOL, *entry)
    await drain(db, spool)
    assert await db.fetchval("SELECT event_id FROM pluggy_sync.webhook_events") == read.event_id


async def test_a_registration_comes_back_as_one(
    doorway: Doorway, postgres: embedded.Postgres, redis: ArqRedis, db: Pool
) -> None:
    item_id, headers = uuid.uuid4(), {HEADER: SECRET}
    async with away(postgres):
        for status in ("accepted", "duplicate"):
            body = {"itemId": str(item_id)}
            assert_taken(await doorway.call("POST", "/items", json=body, headers=headers), status)
        forged = registration(item_id, now())
        assert_taken(await doorway.deliver(forged.body), "kept")
    await until(lambda: is_drained(redis))
    rows = await db.fetch("SELECT event, state, reason FROM pluggy_sync.webhook_events ORDER BY 2")
    assert [tuple(row) for row in rows] == [
        ("sync/register", "ignored", "unknown_event"),
        ("sync/register", "pending", None),
    ]


async def test_a_worker_drains_too_and_what_was_spooled_is_applied(
    postgres: embedded.Postgres, valkey: embedded.Valkey, redis: ArqRedis, db: Pool
) -> None:
    with SimulatorProcess(rate_limit=0, seed=5) as simulator:
        simulator.post("/_simulator/webhooks", {"quiet": True})
        item = simulator.post("/_simulator/items", {"transactions": 5})
        await Spool(redis).add([event(item["id"], event="item/created")])
        async with WorkerProcess(postgres.url, valkey.url, simulator.url):

            async def is_applied() -> bool:
                state = await db.fetchval("SELECT state FROM pluggy_sync.webhook_events")
                return bool(state == "applied")

            await until(is_applied)
            await until(lambda: is_drained(redis))
        truth = simulator.get(f"/_simulator/truth/{item['id']}")["transactions"]
    assert await db.fetchval("SELECT count(*) FROM pluggy.transactions") == len(truth)


# Crashes


async def test_what_was_acknowledged_outlives_a_crash_of_redis(
    doorway: Doorway,
    postgres: embedded.Postgres,
    valkey: embedded.Valkey,
    redis: ArqRedis,
    db: Pool,
) -> None:
    bodies = [json.dumps(event_body()).encode() for _ in range(60)]
    async with away(postgres):
        sent = [asyncio.create_task(doorway.deliver(body)) for body in bodies]
        # In the midst of the answers.
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        async with away(valkey):
            replies = await asyncio.gather(*sent)
    taken = {body for body, reply in zip(bodies, replies, strict=True) if reply.status == 202}
    assert taken
    assert {reply.status for reply in replies} <= {202, 503}
    await until(lambda: is_drained(redis))
    rows = await db.fetch("SELECT body FROM pluggy_sync.webhook_events")
    assert taken <= {row["body"] for row in rows}


async def test_a_receiver_killed_while_it_drains_loses_and_doubles_nothing(
    postgres: embedded.Postgres, valkey: embedded.Valkey, redis: ArqRedis, db: Pool
) -> None:
    item_id = uuid.uuid4()
    events = [event(item_id) for _ in range(30)]
    await Spool(redis).add(events)
    environment = {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": valkey.url,
        "WEBHOOK_SECRET": SECRET,
    }
    async with Locked(db, item_id) as lock:
        async with ReceiverProcess(**environment) as receiver:
            await until(lock.holds_up)
            await receiver.kill()
        assert await spooled(redis) == 30
    async with ReceiverProcess(**environment):
        await until(lambda: is_drained(redis))
    rows = await db.fetch("SELECT event_id FROM pluggy_sync.webhook_events")
    assert sorted(row["event_id"] for row in rows) == sorted(e.event_id for e in events)
    assert await db.fetchval("SELECT generation FROM pluggy_sync.item_sync") == 30


async def test_an_entry_leaves_the_spool_only_after_the_commit(redis: ArqRedis, db: Pool) -> None:
    spool, item_id = Spool(redis), uuid.uuid4()
    await spool.add([event(item_id)])
    async with Locked(db, item_id) as lock:
        draining = asyncio.create_task(drain(db, spool))
        await until(lock.holds_up)
        assert await spooled(redis) == 1
    assert (await draining).entries == 1
    assert await is_drained(redis)


async def test_an_entry_that_changed_meanwhile_stays(redis: ArqRedis, db: Pool) -> None:
    spool, one, two = Spool(redis), event(), event()
    await spool.add([one, two])
    taken = await spool.take()
    field = next(iter(taken))
    await raw(redis, "HSET", SPOOL, field, b"another")
    await spool.remove(taken)
    assert await raw(redis, "HGETALL", SPOOL) == {field: b"another"}


# What is not promised


@asynccontextmanager
async def without_postgres(redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(NOBODY, redis_url) as doorway:
        yield doorway


async def test_without_an_append_only_file_nothing_is_promised_nor_written() -> None:
    with embedded.Valkey() as forgetful:
        redis = connect(forgetful.url)
        async with without_postgres(forgetful.url) as doorway:
            for _ in range(3):
                assert_sent_back(await doorway.deliver(event_body()))
            assert (await doorway.call("GET", "/readyz")).status == 503
        assert await spooled(redis) == 0
        await redis.aclose()


async def test_an_event_is_acknowledged_only_when_redis_confirms_the_fsync(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    body = event_body()
    await redis.config_set("appendfsync", "no")
    try:
        async with without_postgres(valkey.url) as doorway:
            assert_sent_back(await doorway.deliver(body))
            # It is there, but nobody knows whether on disk.
            assert await spooled(redis) == 1
            assert_sent_back(await doorway.deliver(body))
    finally:
        await redis.config_set("appendfsync", "always")
    async with without_postgres(valkey.url) as doorway:
        assert_taken(await doorway.deliver(body), "duplicate")


async def test_a_redis_that_evicts_keys_promises_nothing(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    await redis.config_set("maxmemory", "100mb")
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        async with without_postgres(valkey.url) as doorway:
            assert_sent_back(await doorway.deliver(event_body()))
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", "0")
    assert await spooled(redis) == 0


async def test_a_redis_without_memory_left_takes_nothing(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    await redis.config_set("maxmemory", "1")
    try:
        async with without_postgres(valkey.url) as doorway:
            assert_sent_back(await doorway.deliver(event_body()))
    finally:
        await redis.config_set("maxmemory", "0")


@pytest.mark.parametrize("bound", ["entries", "bytes"])
async def test_a_full_spool_takes_nothing_more(redis: ArqRedis, db: Pool, bound: str) -> None:
    events = [event() for _ in range(5)]
    await Spool(redis).add(events[:3])
    stored = (await Spool(redis).figures()).bytes
    spool = Spool(redis, max_entries=3) if bound == "entries" else Spool(redis, max_bytes=stored)
    answers = await spool.add([events[3], events[0], events[4]])
    assert [isinstance(answer, SpoolRefuses) for answer in answers] == [True, False, True]
    assert await spooled(redis) == 3
    # There is room again when it is drained.
    await drain(db, spool)
    [answer] = await spool.add([events[3]])
    assert answer == Accepted(is_new=True, made_due=False, row_id=None)


async def test_deliveries_over_the_bound_are_sent_back(
    redis: ArqRedis, valkey: embedded.Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with without_postgres(valkey.url) as doorway:
        full = Spool(redis, max_entries=1)
        monkeypatch.setattr(doorway.services.stores, "_spool", full)
        assert_taken(await doorway.deliver(event_body()))
        assert_sent_back(await doorway.deliver(event_body()))
        ready = await doorway.call("GET", "/readyz")
    assert ready.status == 503


@pytest.mark.parametrize("how", [away, still])
async def test_with_both_away_deliveries_are_sent_back_in_time(
    postgres: embedded.Postgres,
    valkey: embedded.Valkey,
    redis: ArqRedis,
    db: Pool,
    how: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()  # by the time-outs as they are
    async with open_receiver(postgres.url, valkey.url) as doorway:
        assert_taken(await doorway.deliver(event_body()))
        async with how(postgres), how(valkey):
            sent = [asyncio.create_task(doorway.deliver(event_body())) for _ in range(5)]
            await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            sent.append(asyncio.create_task(doorway.deliver(event_body())))
            for reply in await asyncio.gather(*sent):
                assert_sent_back(reply)
            assert (await doorway.call("GET", "/livez")).status == 200
        await until(lambda: is_drained(redis))
        assert_taken(await doorway.deliver(event_body()))


# What Postgres refuses


async def refuse(db: Pool, condition: str) -> None:
    await db.execute(
        f"ALTER TABLE pluggy_sync.webhook_events ADD CONSTRAINT refused CHECK (NOT ({condition}))"
    )


@pytest.fixture
async def refusing(db: Pool) -> AsyncIterator[None]:
    """A table whose added constraints are dropped after the test."""
    yield
    await db.execute("ALTER TABLE pluggy_sync.webhook_events DROP CONSTRAINT refused")


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("state = 'pending' AND event = 'item/error'", ("item/error", True, True)),
        ("item_id IS NOT NULL AND event = 'item/error'", ("item/error", False, True)),
        ("event = 'item/error'", ("spool/unstorable", False, False)),
    ],
    ids=["as an event", "its ids", "its name"],
)
async def test_what_postgres_refuses_becomes_a_dead_letter(
    redis: ArqRedis, db: Pool, refusing: None, condition: str, kept: tuple[str, bool, bool]
) -> None:
    await refuse(db, condition)
    culprit, others = event(event="item/error"), [event() for _ in range(4)]
    spool = Spool(redis)
    await spool.add([*others[:2], culprit, *others[2:]])
    assert (await drain(db, spool)).entries == 5
    assert await is_drained(redis)
    [dead] = await db.fetch("SELECT * FROM pluggy_sync.webhook_events WHERE state <> 'pending'")
    found = (dead["event"], dead["item_id"] == culprit.item_id, dead["body"] == culprit.body)
    assert found == kept
    assert (dead["state"], dead["reason"]) == ("dead", "unstorable: CheckViolationError")
    assert await db.fetchval("SELECT count(*) FROM pluggy_ops.dead_letters") == 1
    assert await db.fetchval("SELECT died_at FROM pluggy_ops.dead_letters") is not None
    pending = await db.fetchval("SELECT count(*) FROM pluggy_sync.webhook_events") - 1
    assert (pending, await db.fetchval("SELECT sum(generation) FROM pluggy_sync.item_sync")) == (
        4,
        4,
    )


async def test_what_not_even_a_dead_letter_can_hold_stays_and_holds_nobody_up(
    redis: ArqRedis, db: Pool, refusing: None
) -> None:
    await refuse(db, "state = 'dead' OR event = 'item/error'")
    spool = Spool(redis)
    await spool.add([event(event="item/error"), event()])
    assert (await drain(db, spool)).entries == 1
    assert (await drain(db, spool)).entries == 0
    assert await spooled(redis) == 1


async def test_an_entry_that_nobody_can_read_becomes_a_dead_letter(
    redis: ArqRedis, db: Pool
) -> None:
    spool = Spool(redis)
    await spool.add([event()])
    await raw(redis, "HSET", SPOOL, "a", b"\xff not ours")
    entry = next(iter((await spool.take()).values()))
    await raw(redis, "HSET", SPOOL, "b", entry.replace(b'"event"', b'"ev_nt"'))
    while (await drain(db, spool)).entries:
        pass
    assert await is_drained(redis)
    rows = await db.fetch(
        "SELECT event, state, reason FROM pluggy_sync.webhook_events WHERE state = 'dead'"
    )
    assert [tuple(row) for row in rows] == [("spool/unreadable", "dead", "unreadable_in_spool")] * 2


# What operators see


async def test_metrics_show_how_much_is_spooled_and_since_when(
    valkey: embedded.Valkey, redis: ArqRedis
) -> None:
    events = [event() for _ in range(3)]
    async with without_postgres(valkey.url) as doorway:
        await Spool(redis).add(events)
        since = int(await raw(redis, "HGET", TOTALS, "since"))
        await raw(redis, "HSET", TOTALS, "since", since - 90)

        async def is_old() -> bool:
            return await doorway.metric("pluggy_sync_spool_oldest_age_seconds") >= 90

        await until(is_old)
        assert await doorway.metric("pluggy_sync_spool_entries") == 3
        stored = await doorway.metric("pluggy_sync_spool_bytes")
        assert stored > sum(len(e.body) for e in events)


@pytest.mark.parametrize("postgres_url", [None, NOBODY], ids=["postgres", "no postgres"])
async def test_status_shows_the_spool_also_while_postgres_is_away(
    valkey: embedded.Valkey, redis: ArqRedis, database_url: str, postgres_url: str | None
) -> None:
    await Spool(redis).add([event(), event()])
    environment = {"DATABASE_URL": postgres_url or database_url, "REDIS_URL": valkey.url}
    result = await asyncio.to_thread(CliRunner().invoke, main, ["status"], env=environment)
    assert result.stdout.startswith("entries\tbytes\toldest_age_s\n2\t")
    as_json = await asyncio.to_thread(
        CliRunner().invoke, main, ["status", "--json"], env=environment
    )
    # The light is that of the test's database, whose workers are gone.
    told = (0, 2) if postgres_url is None else (3,)
    assert result.exit_code == as_json.exit_code
    assert as_json.exit_code in told
    if postgres_url is None:
        assert json.loads(as_json.stdout)["spool"]["entries"] == 2


async def test_one_line_says_that_postgres_is_away_and_one_that_it_is_back(
    doorway: Doorway,
    postgres: embedded.Postgres,
    redis: ArqRedis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with away(postgres):
        for _ in range(4):
            assert_taken(await doorway.deliver(event_body()))
    await until(lambda: is_drained(redis))
    said = capsys.readouterr().out
    assert (said.count("postgres_away"), said.count("postgres_back")) == (1, 1)


async def test_figures_are_right_after_any_order_of_additions_and_removals(redis: ArqRedis) -> None:
    spool = Spool(redis)
    events = [event(padding="x" * n) for n in range(20)]
    await spool.add(events[:12])
    taken = await spool.take()
    half = dict(list(taken.items())[:5])
    await asyncio.gather(spool.add(events[8:]), spool.remove(half), spool.remove(half))
    left = await raw(redis, "HGETALL", SPOOL)
    found = await spool.figures()
    assert found.entries == len(left)
    assert found.bytes == sum(len(field) + len(value) for field, value in left.items())
    await spool.remove(left)
    assert await is_drained(redis)


async def test_a_portion_is_bounded_in_bytes_but_never_empty(redis: ArqRedis) -> None:
    spool = Spool(redis)
    huge = [replace(event(), body=b"x" * (3 * 1024 * 1024)) for _ in range(3)]
    await spool.add(huge)
    assert len(await spool.take()) == 1
    larger = replace(event(), body=b"x" * (5 * 1024 * 1024))
    await spool.remove(await raw(redis, "HGETALL", SPOOL))
    await spool.add([larger])
    assert len(await spool.take()) == 1
