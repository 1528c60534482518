"""The receiver while Postgres or Redis is down, paused or cut off."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

import embedded
from ops.migrations import migrate
from tests.support.proxy import Proxy
from tests.support.receiver import (
    PATIENCE_S,
    Doorway,
    Reply,
    event_body,
    open_receiver,
    stored_bodies,
)
from tests.support.waiting import until
from webhook_receiver.app import ANSWER_TIMEOUT_S
from worker.infra.postgres import close_pool, open_pool

# Pluggy waits five seconds for an answer; we promise four.
PLUGGY_WAITS_S = 5.0


@pytest.fixture(scope="module")
async def postgres() -> AsyncIterator[embedded.Postgres]:
    """A server to kill and to pause, on TCP because of the proxy."""
    with embedded.Postgres(durable=True, tcp=True) as server:
        await migrate(server.url)
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[embedded.Valkey]:
    with embedded.Valkey() as server:
        yield server


@pytest.fixture
async def doorway(postgres: embedded.Postgres, valkey: embedded.Valkey) -> AsyncIterator[Doorway]:
    async with open_receiver(postgres.url, valkey.url) as doorway:
        yield doorway


@asynccontextmanager
async def proxied_receiver(
    postgres: embedded.Postgres, valkey: embedded.Valkey
) -> AsyncIterator[tuple[Doorway, Proxy]]:
    """A receiver that reaches Postgres through a proxy."""
    assert postgres.port is not None
    async with Proxy(postgres.port) as proxy:
        parts = urlsplit(postgres.url)
        netloc = parts.netloc.replace(f":{postgres.port}", f":{proxy.port}")
        async with open_receiver(urlunsplit(parts._replace(netloc=netloc)), valkey.url) as doorway:
            yield doorway, proxy


def assert_sent_back(reply: Reply) -> None:
    assert (reply.status, reply.body["error"]) == (503, "unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.took_s < PLUGGY_WAITS_S


async def is_ready(doorway: Doorway) -> bool:
    return (await doorway.call("GET", "/readyz")).status == 200


async def bodies_at(url: str) -> list[bytes]:
    db = await open_pool(url, max_size=1, statement_cache=0)
    bodies = await stored_bodies(db)
    await close_pool(db)
    return bodies


async def test_without_postgres_deliveries_are_sent_back_and_with_it_they_are_taken_again(
    doorway: Doorway, postgres: embedded.Postgres
) -> None:
    assert (await doorway.deliver(event_body())).status == 202
    body = json.dumps(event_body()).encode()
    await asyncio.to_thread(postgres.kill)
    try:
        for _ in range(3):
            assert_sent_back(await doorway.deliver(body))
        ready, live = await doorway.call("GET", "/readyz"), await doorway.call("GET", "/livez")
        assert (ready.status, ready.body["error"], live.status) == (
            503,
            "postgres_away",
            200,
        )
    finally:
        await asyncio.to_thread(postgres.start)
    await until(lambda: is_ready(doorway))
    assert (await doorway.deliver(body)).body == {"status": "accepted"}
    assert (await bodies_at(postgres.url)).count(body) == 1


async def test_while_postgres_stands_still_deliveries_are_sent_back_in_time(
    doorway: Doorway, postgres: embedded.Postgres
) -> None:
    bodies = [json.dumps(event_body()).encode() for _ in range(6)]
    await doorway.deliver(event_body())
    postgres.pause()
    try:
        # Also those that find a group on its way already.
        sent = [asyncio.create_task(doorway.deliver(body)) for body in bodies[:5]]
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        sent.append(asyncio.create_task(doorway.deliver(bodies[5])))
        ready = await doorway.call("GET", "/readyz")
        replies = await asyncio.gather(*sent)
    finally:
        postgres.resume()
    for reply in replies:
        assert_sent_back(reply)
    assert (ready.status, ready.took_s < PLUGGY_WAITS_S) == (503, True)
    await until(lambda: is_ready(doorway))
    again = [await doorway.deliver(body) for body in bodies]
    # What was on its way may have been committed by the server when it went on.
    assert {reply.body["status"] for reply in again} <= {"accepted", "duplicate"}
    stored = await bodies_at(postgres.url)
    assert [stored.count(body) for body in bodies] == [1] * 6


async def test_a_receiver_that_was_cut_off_goes_on_by_a_new_connection(
    postgres: embedded.Postgres, valkey: embedded.Valkey
) -> None:
    async with proxied_receiver(postgres, valkey) as (doorway, proxy):
        assert (await doorway.deliver(event_body())).status == 202
        proxy.cut_off()
        deaf = proxy.connections
        while (reply := await doorway.deliver(event_body())).status != 202:
            assert_sent_back(reply)
            # Each session that was cut off is found out once.
            deaf -= 1
            assert deaf >= 0
        assert proxy.connections > 1


async def test_however_many_ask_for_readiness_one_session_checks(
    postgres: embedded.Postgres, valkey: embedded.Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_receiver.storage.READY_TIMEOUT_S", PATIENCE_S)
    async with proxied_receiver(postgres, valkey) as (doorway, proxy):
        asked = await asyncio.gather(*(doorway.call("GET", "/readyz") for _ in range(50)))
        assert {reply.status for reply in asked} == {200}
        # The check at start may have had one of its own.
        assert proxy.connections <= 2


async def test_a_stopped_receiver_does_not_wait_for_a_postgres_that_stands_still(
    postgres: embedded.Postgres, valkey: embedded.Valkey
) -> None:
    clock = asyncio.get_running_loop().time
    async with open_receiver(postgres.url, valkey.url) as doorway:
        await doorway.deliver(event_body())
        postgres.pause()
        try:
            assert_sent_back(await doorway.deliver(event_body()))
        except BaseException:
            postgres.resume()
            raise
        started = clock()
    # Closing has a group, the counts and the pool to give up: Kubernetes waits 30 s.
    took_s = clock() - started
    postgres.resume()
    assert took_s < 25


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_without_redis_deliveries_are_taken_all_the_same(
    doorway: Doorway, postgres: embedded.Postgres, valkey: embedded.Valkey, how: str
) -> None:
    assert (await doorway.deliver(event_body())).status == 202
    if how == "killed":
        await asyncio.to_thread(valkey.kill)
    else:
        valkey.pause()
    try:
        replies = await asyncio.gather(*(doorway.deliver(event_body()) for _ in range(50)))
        later = await doorway.deliver(event_body())
    finally:
        if how == "killed":
            await asyncio.to_thread(valkey.start)
        else:
            valkey.resume()
    assert {reply.status for reply in [*replies, later]} == {202}
    # No answer has waited for a ring's time-out.
    assert later.took_s < ANSWER_TIMEOUT_S / 2


async def test_an_outage_of_redis_is_one_line_in_the_log(
    doorway: Doorway, valkey: embedded.Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(valkey.kill)
    try:
        for _ in range(5):
            await doorway.deliver(event_body())
            await doorway.services.intake.wakeups.settle()
    finally:
        await asyncio.to_thread(valkey.start)
    said = capsys.readouterr().out
    assert said.count("redis_away") == 1
    assert "redis_back" not in said
