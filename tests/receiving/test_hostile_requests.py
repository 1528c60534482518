"""Hostile requests: limits of the receiver and of the worker's health server."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest
from arq.connections import ArqRedis

from tests.support.receiver import (
    HEADER,
    SECRET,
    Doorway,
    ReceiverProcess,
    event_body,
    open_receiver,
    stored_bodies,
)
from tests.support.service_process import cpu_s, peak_memory_kb
from webhook_receiver.app import MAX_BODY_BYTES
from worker.health import start_health_server
from worker.infra.http_server import HttpLimits, listening_port
from worker.infra.postgres import Pool
from worker.maintenance.sweep import Sweep
from worker.wakeup.queue import ArqWaker

MIB = 1024 * 1024
PATH = b"/webhooks/pluggy"
RIGHT = f"{HEADER}: {SECRET}\r\n".encode()
WRONG = f"{HEADER}: not-the-secret-of-the-tests\r\n".encode()
# So short that a test need not wait, and so long that nobody who is served is cut off.
MAX_PIECES = 5000
SHORT = HttpLimits(head_timeout_s=0.5, unread_bytes=256 * 1024, unread_s=0.5)
PATIENT = HttpLimits(head_timeout_s=60.0, unread_bytes=256 * 1024, unread_s=60.0)
Serve = Callable[[HttpLimits], AbstractAsyncContextManager[int]]


@pytest.fixture
async def doorway(database_url: str, redis: ArqRedis, redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(database_url, redis_url, patient=True) as doorway:
        yield doorway


@pytest.fixture(params=["receiver", "worker"])
def serve(
    request: pytest.FixtureRequest, database_url: str, db: Pool, redis: ArqRedis, redis_url: str
) -> Serve:
    """Open one of our servers with limits; returns its port."""

    @asynccontextmanager
    async def receiver(limits: HttpLimits) -> AsyncIterator[int]:
        async with open_receiver(database_url, redis_url, limits=limits) as doorway:
            yield doorway.port

    @asynccontextmanager
    async def worker(limits: HttpLimits) -> AsyncIterator[int]:
        sweep = Sweep(db, ArqWaker(redis), "a-worker", 2)
        runner = await start_health_server(sweep, 0, [], limits)
        yield listening_port(runner)
        await runner.cleanup()

    return receiver if request.param == "receiver" else worker


def post(*headers: bytes, body: bytes = b"", path: bytes = PATH, version: bytes = b"1.1") -> bytes:
    head = b"POST %s HTTP/%s\r\nHost: x\r\n%s" % (path, version, b"".join(headers))
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def speak(port: int, request: bytes) -> bytes:
    """Send bytes on a new connection; returns everything up to the close by the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def bytes_of(answer: bytes | BaseException) -> bytes:
    assert isinstance(answer, bytes), answer
    return answer


# Packed bodies


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd", b"identity", b"x", b""])
async def test_a_packed_body_is_refused_by_its_head(doorway: Doorway, encoding: bytes) -> None:
    # The body never comes.
    head = post(RIGHT, b"Content-Encoding: %s\r\n" % encoding, body=b"x" * 50)[:-50]
    answer = await speak(doorway.port, head)
    assert statuses(answer) == [415]
    assert b'"unsupported_media_type"' in answer


def gzip_bomb() -> bytes:
    """2 MiB that decompress to 2 GiB."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(bytes(128 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + 16 * block


async def test_nothing_that_a_stranger_has_packed_is_unpacked(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    bomb, times = gzip_bomb(), 30
    assert len(bomb) > 1.9 * MIB
    async with ReceiverProcess(
        DATABASE_URL=database_url, REDIS_URL=redis_url, WEBHOOK_SECRET=SECRET, LOG_LEVEL="INFO"
    ) as receiver:
        port, pid = await receiver.port(), receiver.child.pid

        async def cost(*headers: bytes) -> float:
            before = cpu_s(pid)
            for _ in range(times):
                assert statuses(await speak(port, post(*headers, body=bomb))) == [401]
            return cpu_s(pid) - before

        await cost(WRONG)
        memory = peak_memory_kb(pid)
        plain = await cost(WRONG)
        packed = await cost(WRONG, b"Content-Encoding: gzip\r\n")
        # One of them unpacked costs a hundred times as much, and up to 2 GiB.
        assert packed < 5 * max(plain, 0.1)
        assert peak_memory_kb(pid) - memory < 32 * 1024


# Before the secret


async def test_a_stranger_is_not_asked_to_send_the_body(doorway: Doorway) -> None:
    head = post(WRONG, b"Expect: 100-continue\r\n", body=b"{}")[:-2]
    assert statuses(await speak(doorway.port, head)) == [401]


async def test_a_body_that_is_declared_too_large_is_not_asked_for(doorway: Doorway) -> None:
    size = b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%s%s" % (PATH, RIGHT, size)
    assert statuses(await speak(doorway.port, head)) == [413]


async def test_a_stranger_who_declares_less_than_he_sends_gets_one_answer(doorway: Doorway) -> None:
    more = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    assert statuses(await speak(doorway.port, post(WRONG, body=b"{}") + more)) == [401]


async def test_of_pipelined_requests_only_the_first_is_answered_once_refused(
    doorway: Doorway,
) -> None:
    assert statuses(await speak(doorway.port, 100 * post(WRONG))) == [401]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([RIGHT, RIGHT], 202),
        ([RIGHT, WRONG], 401),
        ([WRONG, RIGHT], 401),
        ([WRONG, WRONG], 401),
    ],
    ids=["both", "first", "second", "none"],
)
async def test_of_several_secrets_each_has_to_be_right(
    doorway: Doorway, headers: list[bytes], status: int
) -> None:
    close = b"Connection: close\r\n"
    answer = await speak(
        doorway.port, post(close, *headers, body=json.dumps(event_body()).encode())
    )
    assert statuses(answer) == [status]


# The whole of HTTP


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"TRACE /webhooks/pluggy HTTP/1.1", 405),
        (b"CONNECT pluggy.ai:443 HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"PRI * HTTP/2.0", 400),
        (b"GET /webhooks/pluggy HTTP/1.1", 405),
        (b"POST http://elsewhere/webhooks/pluggy HTTP/1.1", 401),
        (b"POST /nowhere HTTP/1.1", 404),
    ],
)
async def test_what_is_no_delivery_is_refused(doorway: Doorway, line: bytes, status: int) -> None:
    answer = await speak(doorway.port, line + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert answer.split()[1] == b"%d" % status


@pytest.mark.parametrize(
    "headers",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    ],
    ids=["websocket", "h2c"],
)
async def test_nobody_gets_another_protocol(doorway: Doorway, headers: bytes) -> None:
    answer = await speak(doorway.port, post(WRONG, headers, body=b"x" * 5000))
    assert statuses(answer) == [401]


@pytest.mark.parametrize(
    ("path", "version"),
    [(PATH, b"1.0"), (b"http://somewhere" + PATH, b"1.1"), (PATH, b"1.1")],
    ids=["1.0", "absolute", "1.1"],
)
async def test_every_form_of_a_genuine_request_is_taken(
    doorway: Doorway, db: Pool, path: bytes, version: bytes
) -> None:
    body = json.dumps(event_body()).encode()
    request = post(RIGHT, b"Connection: close\r\n", body=body, path=path, version=version)
    answer = await speak(doorway.port, request)
    assert answer.split()[1] == b"202"
    assert await stored_bodies(db) == [body]


# Heads and what is not read, of both servers


async def test_a_head_is_bounded_as_a_whole(serve: Serve) -> None:
    headers = [b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(60)]
    async with serve(PATIENT) as port:
        assert statuses(await speak(port, post(*headers))) == [431]


async def test_a_head_that_comes_in_pieces_is_bounded_as_a_whole(serve: Serve) -> None:
    async with serve(PATIENT) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n")
        for number in range(60):
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            [answer] = await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
    assert isinstance(answer, ConnectionResetError) or statuses(bytes_of(answer)) == [431]


@pytest.mark.parametrize("first", [b"", b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_has_its_time_in_all(serve: Serve, first: bytes) -> None:
    async with serve(SHORT) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_the_head_of_a_later_request_has_its_time_too(serve: Serve) -> None:
    async with serve(replace(SHORT, head_timeout_s=2.0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        async with asyncio.timeout(20):
            assert b"HTTP/1.1" not in await reader.read()
        writer.close()


async def pour(port: int, headers: bytes, piece: bytes, pause_s: float = 0.0) -> int:
    """Send an endless body; returns the number of chunks before the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /metrics HTTP/1.1\r\nHost: x\r\n%s\r\n" % headers)
    reading, pieces = asyncio.create_task(reader.read()), 0
    async with asyncio.timeout(20):
        while not reading.done():
            assert pieces < MAX_PIECES
            try:
                writer.write(piece)
                await writer.drain()
            except ConnectionError:
                break
            pieces += 1
            await asyncio.sleep(pause_s)
    [answer] = await asyncio.gather(reading, return_exceptions=True)
    assert isinstance(answer, ConnectionError) or bytes_of(answer).startswith(b"HTTP/1.1 405")
    writer.close()
    return pieces


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_nobody_wants_is_read_to_a_bound(serve: Serve, chunked: bool) -> None:
    piece = b"10000\r\n%s\r\n" % bytes(65_536) if chunked else bytes(65_536)
    size = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: 9999999999\r\n"
    async with serve(PATIENT) as port:
        # What is beyond 256 KiB is in the buffers of two sockets.
        assert await pour(port, size, piece) * len(piece) < 32 * MIB


async def test_a_body_that_nobody_wants_is_read_for_a_bounded_time(serve: Serve) -> None:
    async with serve(SHORT) as port:
        await pour(port, b"Content-Length: 9999999999\r\n", b" ", 0.01)


async def test_a_packed_body_of_a_request_without_one_is_not_unpacked(serve: Serve) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n"
    async with serve(PATIENT) as port:
        answer = await speak(port, request + b"Connection: close\r\n\r\nno gzip..")
    assert statuses(answer) == [200]


async def test_both_servers_take_a_bounded_number_of_connections(serve: Serve) -> None:
    async with serve(HttpLimits(connections=3)) as port:
        stored = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in stored:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        assert statuses(await speak(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")) == [503]
        for _, writer in stored:
            writer.close()
