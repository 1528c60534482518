"""`python -m webhook_receiver`: start, stop and log."""

import asyncio
import json
import uuid

import aiohttp
import pytest
from arq.connections import ArqRedis

from tests.support.receiver import (
    SECRET,
    Client,
    Locked,
    PatientReceiverProcess,
    ReceiverProcess,
    event_body,
    stored_bodies,
)
from tests.support.waiting import listens, until
from tests.support.wakes import woken
from worker.infra.postgres import Pool

OTHER_SECRET = "another-secret-while-rotating"  # noqa: S105 - of the tests


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "WEBHOOK_SECRET is not set"),
        ({"WEBHOOK_SECRET": ""}, "WEBHOOK_SECRET is not set"),
        ({"WEBHOOK_SECRET": "fifteen-letters"}, "WEBHOOK_SECRET: each secret has at least 16"),
        ({"WEBHOOK_SECRET": f"{SECRET},short"}, "WEBHOOK_SECRET: each secret has at least 16"),
        ({"WEBHOOK_SECRET": " , ,"}, "WEBHOOK_SECRET: each secret has at least 16"),
        ({"WEBHOOK_SECRET": SECRET, "PORT": "web"}, "PORT: "),
        ({"WEBHOOK_SECRET": SECRET, "WEBHOOK_SECRET_HEADER": "X Secret"}, "WEBHOOK_SECRET_HEADER:"),
        ({"WEBHOOK_SECRET": SECRET, "WEBHOOK_ALLOW_FROM": "pluggy.ai"}, "WEBHOOK_ALLOW_FROM: "),
    ],
)
async def test_a_receiver_without_a_needed_setting_refuses_to_start(
    environment: dict[str, str], complaint: str
) -> None:
    async with ReceiverProcess(DATABASE_URL="postgresql://x/y", **environment) as receiver:
        assert await receiver.ended() == 1
        [line] = receiver.lines
    assert line.startswith(f"pluggy-sync: {complaint}")
    assert not any(value and value in line for value in environment.values())


async def test_a_port_that_is_taken_is_reported_and_ends_the_receiver(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "WEBHOOK_SECRET": SECRET}
    async with ReceiverProcess(**servers) as first:
        port = await first.port()
        async with ReceiverProcess(**servers, PORT=str(port)) as second:
            assert await second.ended() == 1
    assert second.lines[-1].startswith(f"pluggy-sync: PORT: {port} cannot be listened on: Address")
    assert "Traceback" not in "".join(second.lines)


async def test_secrets_are_in_no_line_of_the_log_whatever_is_sent(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    secret = "sesame-0815-sesame"  # noqa: S105 - of the tests
    start = f"POST /webhooks/pluggy/{secret}"
    requests = [
        f"{start} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}",
        f"{start} HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n{{}}",
        f"{start} HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        f"{start} HTTP/9.9\r\nHost: x\r\n\r\n",
        f"{start} and more HTTP/1.1\r\nHost: x\r\n\r\n",
        f"{start}\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        f"{start}?{'q' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"BREW /webhooks/pluggy/{secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        f"GET http://[/webhooks/pluggy/{secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        f"POST //{secret} HTTP/1.1\r\nHost: {secret}\r\nConnection: close\r\n\r\n",
        f"{secret}\r\n\r\n",
        f"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret: {secret}\x00\r\n\r\n",
        f"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret {secret}\r\n\r\n",
        f"{start} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        f"{start} HTTP/1.1\r\nHost: x\r\nExpect: {secret}\r\nContent-Length: 2\r\n\r\n{{}}",
        f"POST /{secret} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n"
        f"\r\nno gzip..",
        f"{start} HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ]
    async with ReceiverProcess(
        DATABASE_URL=database_url, REDIS_URL=redis_url, WEBHOOK_SECRET=secret, PYTHONDEVMODE="1"
    ) as receiver:
        port = await receiver.port()
        for request in requests:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request.encode())
            writer.write_eof()
            async with asyncio.timeout(60):
                answer = await reader.read()
            writer.close()
            # Nothing ends in the answer for a failure of ours.
            assert not answer.startswith(b"HTTP/1.1 5")
        receiver.stop()
        assert await receiver.ended() == 0
        log = "".join(receiver.lines)
    assert '"receiver_stopped"' in log
    assert secret not in log
    assert "Traceback" not in log


async def test_a_receiver_that_is_stopped_answers_what_it_has_taken(
    database_url: str, redis: ArqRedis, redis_url: str, db: Pool
) -> None:
    item_id, bodies = uuid.uuid4(), [json.dumps(event_body()).encode() for _ in range(20)]
    async with (
        PatientReceiverProcess(
            DATABASE_URL=database_url, REDIS_URL=redis_url, WEBHOOK_SECRET=SECRET
        ) as receiver,
        aiohttp.ClientSession() as session,
    ):
        doorway = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        async with Locked(db, item_id) as lock:
            sent = [asyncio.create_task(doorway.deliver(event_body(item_id)))]
            await until(lock.holds_up)
            sent += [asyncio.create_task(doorway.deliver(body)) for body in bodies]
            await doorway.waiting(20)
            receiver.stop()
            await until(lambda: refuses(doorway.port))
        replies = await asyncio.gather(*sent)
        assert await receiver.ended() == 0
    assert {reply.status for reply in replies} == {202}
    assert set(bodies) <= set(await stored_bodies(db))
    assert len(await woken(redis)) == 21
    assert await db.fetchval("SELECT sum(deliveries) FROM pluggy_sync.delivery_counts") == 21


async def refuses(port: int) -> bool:
    return not await listens(port)


async def test_the_process_serves_the_contract(
    database_url: str, redis: ArqRedis, redis_url: str, db: Pool
) -> None:
    async with (
        ReceiverProcess(
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            WEBHOOK_SECRET=f"{OTHER_SECRET},{SECRET}",
            WEBHOOK_SECRET_HEADER="X-Ours",  # noqa: S106 - a header's name
            WEBHOOK_ALLOW_FROM="127.0.0.1",
            LOG_LEVEL="INFO",
        ) as receiver,
        aiohttp.ClientSession() as session,
    ):
        doorway = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        reply = await doorway.deliver(event_body(), secret=None, **{"X-Ours": SECRET})
        assert (reply.status, (await doorway.call("GET", "/readyz")).status) == (202, 200)
        receiver.stop()
        assert await receiver.ended() == 0
    assert len(await stored_bodies(db)) == 1


async def test_a_receiver_starts_while_postgres_and_redis_are_away() -> None:
    async with (
        ReceiverProcess(
            DATABASE_URL="postgresql://nobody@127.0.0.1:1/x",
            REDIS_URL="redis://127.0.0.1:1/0",
            WEBHOOK_SECRET=SECRET,
        ) as receiver,
        aiohttp.ClientSession() as session,
    ):
        doorway = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        assert (await doorway.call("GET", "/livez")).status == 200
        assert (await doorway.call("GET", "/readyz")).status == 503
        reply = await doorway.deliver(event_body())
        assert (reply.status, "Retry-After" in reply.headers) == (503, True)
        receiver.stop()
        assert await receiver.ended() == 0
