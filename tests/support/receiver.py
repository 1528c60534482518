"""The receiver inside a test on a free port, and as a separate process."""

from __future__ import annotations

import asyncio
import io
import json
import math
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web

from ops.demo.processes import WEBHOOK_RECEIVER, receiver_port
from tests.support.service_process import ServiceProcess
from tests.support.waiting import is_blocked, until
from webhook_receiver.app import ANSWER_TIMEOUT_S, BODY_TIMEOUT_S, ReceiverServices, receiver_runner
from webhook_receiver.delivery_counts import DeliveryCounts
from webhook_receiver.intake import QUICK_S, Intake
from webhook_receiver.origins import Authenticator, Origins
from webhook_receiver.storage import POSTGRES_TIMEOUT_S, Stores
from worker.inbox.spool import Spool
from worker.infra.http_server import HttpLimits
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect
from worker.wakeup.queue import ArqWaker

SECRET = "a-secret-of-the-tests"  # noqa: S105 - of the tests
HEADER = "X-Webhook-Secret"
PATIENCE_S = 60.0
TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Reply:
    """took_s: seconds without those that the loop of the test was held up by a busy machine."""

    status: int
    body: Any
    headers: Mapping[str, str]
    took_s: float


class Delay:
    """How long this loop was held up: the sum of how late its timers came, in seconds."""

    def __init__(self) -> None:
        self._passed_s = 0.0
        self._due_at = math.inf

    @property
    def total_s(self) -> float:
        """The sum up to now, with a timer that is overdue."""
        return self._passed_s + max(0.0, asyncio.get_running_loop().time() - self._due_at)

    async def watch(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self._due_at = clock() + TICK_S
            await asyncio.sleep(TICK_S)
            self._passed_s += max(0.0, clock() - self._due_at)


NO_DELAY = Delay()
"""Where nothing measures it."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client of a running receiver."""

    url: str
    session: aiohttp.ClientSession
    delay: Delay = field(default=NO_DELAY, kw_only=True)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        clock = asyncio.get_running_loop().time
        started, delay_s = clock(), self.delay.total_s
        async with self.session.request(method, self.url + path, **options) as answer:
            text = await answer.text()
            body = json.loads(text) if answer.content_type == "application/json" else text
            took_s = clock() - started - (self.delay.total_s - delay_s)
            return Reply(answer.status, body, answer.headers, took_s)

    async def deliver(
        self, body: object, *, secret: str | None = SECRET, path: str = "", **headers: str
    ) -> Reply:
        """POST a body (bytes as they are) to /webhooks/pluggy[path]."""
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        sent = {HEADER: secret, **headers} if secret is not None else headers
        return await self.call("POST", f"/webhooks/pluggy{path}", data=data, headers=sent)

    async def metric(self, series: str) -> float:
        """A value of /metrics; 0 if it does not exist yet."""
        text = str((await self.call("GET", "/metrics")).body)
        found = [line for line in text.splitlines() if line.startswith(f"{series} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    async def waiting(self, deliveries: int) -> None:
        """Wait until that many deliveries wait for the next commit."""

        async def wait() -> bool:
            return await self.metric("pluggy_sync_deliveries_waiting") == deliveries

        await until(wait)

    async def speak(self, request: bytes) -> bytes:
        """Send bytes on a new connection; returns the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


@dataclass(frozen=True, slots=True)
class Doorway(Client):
    """A client of a receiver in this process."""

    services: ReceiverServices


def event_body(item_id: uuid.UUID | str | None = None, **fields: Any) -> dict[str, Any]:
    """An item/updated as Pluggy sends it."""
    return {
        "event": "item/updated",
        "eventId": str(uuid.uuid4()),
        "itemId": str(item_id or uuid.uuid4()),
    } | fields


@asynccontextmanager
async def open_receiver(
    database_url: str,
    redis_url: str,
    *,
    secrets: Sequence[str] = (SECRET,),
    header: str = HEADER,
    origins: Origins | None = None,
    body_timeout_s: float = BODY_TIMEOUT_S,
    answer_timeout_s: float | None = None,
    patient: bool = False,
    quick_s: float = QUICK_S,
    limits: HttpLimits | None = None,
) -> AsyncIterator[Doorway]:
    """The receiver as `python -m webhook_receiver` builds it, on a free port.

    patient: its time-out for Postgres is longer than any test blocks it.
    """
    db, redis = await open_pool(database_url, max_size=4, statement_cache=100), connect(redis_url)
    stores = Stores(
        db, Spool(redis), postgres_timeout_s=PATIENCE_S if patient else POSTGRES_TIMEOUT_S
    )
    services = ReceiverServices(
        authenticator=Authenticator(secrets),
        secret_header=header,
        origins=origins or Origins(),
        stores=stores,
        intake=Intake(stores, ArqWaker(redis), quick_s=quick_s),
        counts=DeliveryCounts(),
        db=db,
        body_timeout_s=body_timeout_s,
        answer_timeout_s=answer_timeout_s or (PATIENCE_S if patient else ANSWER_TIMEOUT_S),
    )
    runner = receiver_runner(services, limits)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    delay = Delay()
    measuring = asyncio.create_task(delay.watch())
    async with aiohttp.ClientSession() as session:
        yield Doorway(f"http://127.0.0.1:{port}", session, services, delay=delay)
    measuring.cancel()
    await runner.cleanup()
    await redis.aclose()
    await close_pool(db)


class Locked:
    """Locks the row that every bump of an item needs, so that deliveries wait."""

    def __init__(self, db: Pool, item_id: uuid.UUID) -> None:
        self._db, self._item_id = db, item_id

    async def __aenter__(self) -> Self:
        await self._db.execute(
            "INSERT INTO pluggy_sync.item_sync (item_id, generation, lane) VALUES ($1, 0, 3)",
            self._item_id,
        )
        self._conn = await self._db.acquire()
        self._transaction = self._conn.transaction()
        await self._transaction.start()
        await self._conn.execute("SELECT FROM pluggy_sync.item_sync FOR UPDATE")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transaction.rollback()
        await self._db.release(self._conn)

    async def holds_up(self) -> bool:
        """Whether a session waits for the lock."""
        return await is_blocked(self._db)


async def stored_bodies(db: Pool) -> list[bytes]:
    rows = await db.fetch("SELECT body FROM pluggy_sync.webhook_events ORDER BY id")
    return [row["body"] for row in rows]


class ReceiverProcess(ServiceProcess):
    """`python -m webhook_receiver` on a free port."""

    arguments = WEBHOOK_RECEIVER

    def __init__(self, **environment: str) -> None:
        super().__init__(**{"PORT": "0", "LOG_LEVEL": "DEBUG"} | environment)

    async def port(self) -> int:
        """The port that it listens on."""
        return await self.child.wait_for_log(receiver_port)


class PatientReceiverProcess(ReceiverProcess):
    """The same with time-outs that are longer than any test holds it up."""

    arguments = ("tests.support.patient_receiver",)
