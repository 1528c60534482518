"""Limits of the receiver for one client: connections, time, and bytes of headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from resource import RLIM_INFINITY

import pytest
from aiohttp import web
from arq.connections import ArqRedis

from tests.support.receiver import HEADER, SECRET, Doorway, Reply, event_body, open_receiver
from tests.support.waiting import until
from worker.infra.http_server import BoundedRunner, HttpLimits, connection_limit

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LIMITS = HttpLimits(connections=5, head_timeout_s=60.0)
HASTY = HttpLimits(connections=5, head_timeout_s=0.5, idle_s=0.5)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
async def doorway(database_url: str, redis: ArqRedis, redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(database_url, redis_url, limits=LIMITS, patient=True) as doorway:
        yield doorway


@pytest.fixture
async def hasty(database_url: str, redis: ArqRedis, redis_url: str) -> AsyncIterator[Doorway]:
    """One that is soon tired of waiting."""
    async with open_receiver(database_url, redis_url, limits=HASTY) as doorway:
        yield doorway


@asynccontextmanager
async def connection(doorway: Doorway) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", doorway.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """The status of one request."""
    writer.write(LIVEZ + b"\r\n")
    status = int((await reader.readuntil(b"\r\n")).split()[1])
    await reader.readuntil(b"}")
    return status


async def test_a_connection_too_many_is_answered_and_closed(doorway: Doorway) -> None:
    stored = [await asyncio.open_connection("127.0.0.1", doorway.port) for _ in range(5)]
    for reader, writer in stored:
        assert await answer(reader, writer) == 200
    async with connection(doorway) as (reader, _):
        announced_so = await reader.read()
    assert announced_so.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5\r\n" in announced_so
    # Those who were there first are served all the same.
    assert await answer(*stored[0]) == 200
    for _, writer in stored:
        writer.close()

    async def served() -> bool:
        async with connection(doorway) as (reader, writer):
            writer.write(LIVEZ + b"Connection: close\r\n\r\n")
            return b" 200 " in await reader.read()

    await until(served)


async def test_silent_connections_keep_nobody_out(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    limits = HttpLimits(connections=5, head_timeout_s=60.0)
    async with open_receiver(database_url, redis_url, limits=limits) as doorway:
        stored = [await asyncio.open_connection("127.0.0.1", doorway.port) for _ in range(5)]
        for _, writer in stored[1:]:
            writer.write(b"GET /livez HTTP/1.1\r\nX-Slow: ")
            await writer.drain()
        for _ in range(3):
            async with connection(doorway) as (reader, writer):
                assert await answer(reader, writer) == 200
        # The oldest made way.
        async with asyncio.timeout(20):
            assert await stored[0][0].read() == b""
        for _, writer in stored:
            writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /webh", LIVEZ], ids=["nothing", "line", "headers"])
async def test_a_connection_that_says_nothing_whole_is_closed(hasty: Doorway, sent: bytes) -> None:
    async with connection(hasty) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(60):
            assert await reader.read() == b""


async def test_headers_that_drip_in_without_end_are_cut_off(hasty: Doorway) -> None:
    async with connection(hasty) as (reader, writer), asyncio.timeout(60):
        writer.write(LIVEZ)
        reading = asyncio.create_task(reader.read())
        for number in range(100_000):
            if reading.done():
                break
            writer.write(b"X-%d: y\r\n" % number if number < 50 else b"")
            await asyncio.sleep(0.01)
        # It may be cut off in the middle of what it sends.
        [outcome] = await asyncio.gather(reading, return_exceptions=True)
        assert outcome == b"" or isinstance(outcome, ConnectionResetError)


async def test_a_connection_that_is_idle_after_its_answer_is_closed(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    limits = HttpLimits(head_timeout_s=60.0, idle_s=0.5)
    async with (
        open_receiver(database_url, redis_url, limits=limits) as doorway,
        connection(doorway) as (reader, writer),
        asyncio.timeout(60),
    ):
        assert await answer(reader, writer) == 200
        assert await reader.read() == b""


async def test_a_body_that_is_read_before_its_request_begins_is_no_head() -> None:
    """uvloop reads a socket several times in a row, before the task of the request runs."""
    connections: list[asyncio.Protocol] = []

    async def length(request: web.Request) -> web.Response:
        return web.Response(text=f"length {len(await request.read())}!")

    app = web.Application()
    app.router.add_post("/", length)
    runner = BoundedRunner(app, HttpLimits())
    await runner.setup()

    def accept() -> asyncio.Protocol:
        assert runner.server is not None
        connections.append(runner.server())
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    async with asyncio.timeout(60):
        writer.write(head % 1 + b"x")
        assert (await reader.readuntil(b"!")).endswith(b"length 1!")
        for piece in (head % 100_000, b"x" * 60_000, b"x" * 40_000):
            connections[0].data_received(piece)
        assert (await reader.readuntil(b"!")).endswith(b"length 100000!")
    writer.close()
    server.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Long: " + b"x" * 9000 + b"\r\n",
        b"".join(b"X-%d: x\r\n" % number for number in range(200)),
        HEADER.encode() + b": " + b"x" * 20_000 + b"\r\n",
    ],
    ids=["long", "many", "secret"],
)
async def test_more_headers_than_anyone_needs_are_refused(doorway: Doorway, headers: bytes) -> None:
    spoken = await doorway.speak(LIVEZ + headers + b"\r\n")
    assert spoken.split()[1] in (b"400", b"431")


async def test_what_is_no_http_is_counted_and_fills_no_log(
    doorway: Doorway, caplog: pytest.LogCaptureFixture
) -> None:
    counted = await doorway.metric("pluggy_sync_bad_requests_total")
    for _ in range(5):
        await doorway.speak(LIVEZ + b"Bad Header: 1\r\n\r\n")
    assert await doorway.metric("pluggy_sync_bad_requests_total") == counted + 5
    assert "bad" not in caplog.text.lower()


async def test_a_path_that_is_too_long_is_refused(doorway: Doorway) -> None:
    spoken = await doorway.speak(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 9000))
    assert spoken.split()[1] in (b"400", b"414")


@pytest.mark.parametrize("path", [b"/webhooks/pluggy", b"/livez", b"/nowhere", b"/%00"])
@pytest.mark.parametrize("expected", [b"\xed\xa0\x80", b"200-ok", b"\xff 100-continue"])
async def test_an_expectation_of_any_bytes_is_refused_not_stumbled_over(
    doorway: Doorway, path: bytes, expected: bytes
) -> None:
    spoken = await doorway.speak(
        b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: %s\r\n"
        b"Content-Length: 0\r\n\r\n" % (path, expected)
    )
    assert spoken.split()[1] == b"417"
    assert b"expectation_failed" in spoken


async def test_a_sender_that_asks_whether_to_go_on_is_answered_yes(doorway: Doorway) -> None:
    body = json.dumps(event_body()).encode()
    async with connection(doorway) as (reader, writer):
        writer.write(
            b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"%s: %s\r\nContent-Length: %d\r\n\r\n" % (HEADER.encode(), SECRET.encode(), len(body))
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 202 ")


async def test_a_flood_without_the_secret_leaves_the_door_open(doorway: Doorway) -> None:
    replies = await asyncio.gather(
        *[doorway.deliver(event_body(), secret=None) for _ in range(200)], return_exceptions=True
    )
    statuses = {reply.status for reply in replies if isinstance(reply, Reply)}
    assert statuses <= {401, 503}

    async def accepted() -> bool:
        return (await doorway.deliver(event_body(), secret=SECRET)).status == 202

    await until(accepted)
    assert (
        await doorway.services.db.fetchval("SELECT count(*) FROM pluggy_sync.webhook_events") == 1
    )


@pytest.mark.parametrize(
    ("soft", "hard", "files", "connections"),
    [
        (1024, 1024, 1024, 900),
        (1024, 4096, 4096, 3972),
        (1024, 1_048_576, 10_364, 10_240),
        (1024, RLIM_INFINITY, 10_364, 10_240),
        (65_536, 65_536, 65_536, 10_240),
        (RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY, 10_240),
        (64, 64, 64, 1),
    ],
)
def test_there_are_as_many_connections_as_open_files_less_those_for_other_things(
    soft: int, hard: int, files: int, connections: int
) -> None:
    assert connection_limit(soft, hard) == (files, connections)


def test_the_limits_are_those_of_a_usual_process_and_of_usual_balancers() -> None:
    assert HttpLimits().connections < 1024
    assert HttpLimits().idle_s > 60
