"""Two hundred thousand hostile inputs: never a 5xx, never a crash, never a wrong row."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import pytest
from arq.connections import ArqRedis

from embedded.ports import free_port
from tests.fuzz import checks, inputs
from tests.fuzz.campaign import SEED, Campaign
from tests.support.receiver import ReceiverProcess, event_body
from tests.support.stack import Stack
from worker.entities.accounts import ENTITY as ACCOUNTS
from worker.entities.bills import ENTITY as BILLS
from worker.entities.consents import ENTITY as CONSENTS
from worker.entities.declaration import Entity
from worker.entities.identities import ENTITY as IDENTITIES
from worker.entities.investments import ENTITY as INVESTMENTS
from worker.entities.loans import ENTITY as LOANS
from worker.entities.transactions import ENTITY as TRANSACTIONS
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.lease.lease import SyncSession
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import PluggyUnavailable
from worker.pluggy_api.payloads import Unreadable, clean_json, decode_envelope
from worker.sync.page_rows import read_rows
from worker.sync.store_rows import store_rows

LISTINGS: Final = (ACCOUNTS, BILLS, CONSENTS, IDENTITIES, INVESTMENTS, LOANS)
ENTITIES: Final = {"transactions": TRANSACTIONS} | {
    listing.product: listing for listing in LISTINGS
}

DELIVERIES: Final = 100_000
ANSWERS: Final = 50_000
ROWS: Final = 20_000
OVER_HTTP: Final = 30_000
BROKEN_HTTP: Final = 6_000
STREAMS: Final = 8
PAGE: Final = 40
ANSWER_TIMEOUT_S: Final = 300.0
SILENT_AFTER_S: Final = 0.3
"""A request that is not whole is not answered for a while; it is given up once another one, sent
after so long, is answered."""
HTTP_ANSWERS: Final = {202, 400, 401}

pytestmark = pytest.mark.timeout(1800)


def test_there_are_two_hundred_thousand() -> None:
    assert DELIVERIES + ANSWERS + ROWS + OVER_HTTP + BROKEN_HTTP >= 200_000


def test_any_delivery_is_an_event_or_malformed() -> None:
    Campaign("delivery", inputs.webhook).run(DELIVERIES, checks.delivery)


async def test_any_answer_of_pluggy_is_read_or_refused(stack: Stack) -> None:
    true_rows = await samples(stack)
    make = partial(inputs.answer, true_rows=[row for rows in true_rows.values() for row in rows])
    Campaign("answer", make).run(ANSWERS, checks.pluggy_answer)


async def samples(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    """Rows as the simulator has them, by table."""
    item = await stack.item(transactions=30, connectorId=600)
    truth = await stack.simulator.aget(f"/_simulator/truth/{item['id']}")
    return {table: truth[table] for table in checks.MAPPERS if truth[table]}


@pytest.fixture
async def session(stack: Stack) -> SyncSession:
    """A sync session of an item, its run open."""
    await stack.tell("item/updated", str(uuid.uuid4()))
    lease = await stack.claim()
    session = SyncSession(
        stack.db,
        PluggyReader(stack.client, Lane.LIVE),
        lease,
        await stack.db.fetchval("SELECT now()"),
        ZoneInfo("America/Sao_Paulo"),
        (),
    )
    await session.open_run("sync")
    return session


async def test_any_row_is_stored_as_it_was_sent_or_set_aside(
    stack: Stack, session: SyncSession
) -> None:
    true_rows = await samples(stack)
    counts: Counter[str] = Counter()
    seen: set[uuid.UUID] = set()
    for table, rows in true_rows.items():
        share = ROWS // 2 if table == "transactions" else ROWS // 2 // (len(true_rows) - 1)
        entity = ENTITIES[table]
        campaign = Campaign(table, partial(own_row, true_rows=rows))
        print(f"fuzz rows of {table}: {share:,} inputs, FUZZ_SEED={SEED}", flush=True)
        for begin in range(0, share, PAGE):
            numbers = range(begin, min(begin + PAGE, share))
            bodies = {n: campaign.input(n) for n in numbers}
            try:
                counts += await store_page(session, entity, list(bodies.values()), seen)
            except Exception as error:
                raise campaign.broken(begin, b"\n".join(bodies.values()), error) from error
    print(f"fuzz rows: {dict(counts)}")
    assert counts["stored"] > ROWS // 3
    assert counts["set aside"] > ROWS // 100


def own_row(rng: Random, true_rows: Sequence[dict[str, Any]]) -> bytes:
    """A row that a page may hold: JSON, if strange."""
    while True:
        raw = inputs.row(rng, true_rows)
        with suppress(Unreadable):
            decode_envelope(b'{"results":[' + raw + b"]}")
            return raw


async def store_page(
    session: SyncSession, entity: Entity, bodies: Sequence[bytes], seen: set[uuid.UUID]
) -> Counter[str]:
    """One page by the worker's own code; every row of it is looked up afterwards.

    seen: ids of pages before, of which an older version may be stored.
    """
    page = decode_envelope(b'{"results":[' + b",".join(bodies) + b"]}").results
    owner = uuid.UUID(int=1)
    try:
        rows, rejected = await read_rows(page, owner_key="no key of theirs", owner=owner)
    except PluggyUnavailable:
        return Counter({"pages refused": 1})
    async with session.page() as conn:
        columns = {"account_id": owner} if entity.product == "bills" else None
        await store_rows(conn, session, entity, rows, rejected, owner_columns=columns)
    stored = await session.db.fetch(
        f"SELECT *, payload::text AS document FROM pluggy.{entity.product}"  # noqa: S608 - constants
        " WHERE item_id = $1 AND id = ANY ($2)",
        session.item_id,
        [row.id for row in rows],
    )
    by_id = {record["id"]: record for record in stored}
    aside = await session.db.fetch(
        "SELECT row_id, reason FROM pluggy_sync.rejected_rows WHERE item_id = $1 AND product = $2"
        " AND row_id = ANY ($3)",
        session.item_id,
        entity.product,
        [str(row.id) for row in rows],
    )
    reasons = {record["row_id"]: record["reason"] for record in aside}
    for row in rows:
        record, is_aside = by_id.get(row.id), str(row.id) in reasons
        assert record is not None or is_aside, f"{row.id} is lost"
        if row.id in seen:
            continue
        assert record is None or not is_aside, f"{row.id} is both"
        if record is not None:
            checks.stored(row.raw, record["document"], dict(record))
    seen.update(row.id for row in rows)
    assert all(0 < len(reason) < 60 for reason in reasons.values())
    return Counter({"stored": len(by_id), "set aside": len(reasons) + len(rejected)})


@pytest.fixture
async def receiver(
    database_url: str, redis: ArqRedis, redis_url: str
) -> AsyncIterator[ReceiverProcess]:
    async with ReceiverProcess(
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        WEBHOOK_SECRET=inputs.SECRET,
        LOG_LEVEL="WARNING",
        PORT=str(free_port()),
    ) as child:
        yield child


async def listening(receiver: ReceiverProcess) -> int:
    """The port, once somebody answers there."""
    port = int(receiver.environment["PORT"])
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        while True:
            with suppress(OSError):
                async with connection(port):
                    return port
            await asyncio.sleep(0.05)


async def test_any_body_over_http_is_answered_and_what_is_accepted_is_stored(
    receiver: ReceiverProcess, db: Pool
) -> None:
    campaign = Campaign("http", inputs.webhook)
    print(f"fuzz http: {OVER_HTTP:,} inputs, FUZZ_SEED={SEED}", flush=True)
    port = await listening(receiver)
    taken: list[str] = []

    async def stream(numbers: Iterable[int]) -> None:
        bodies = ((number, campaign.input(number)) for number in numbers)
        while await one_connection(bodies):
            pass

    async def one_connection(bodies: Iterator[tuple[int, bytes]]) -> bool:
        """Deliver until none is left, or the receiver has said that it closes; False: none left."""
        async with connection(port) as (reader, writer):
            for number, body in bodies:
                status, answer, closes = await deliver(reader, writer, body)
                if status not in HTTP_ANSWERS:
                    raise campaign.broken(number, body, f"answered {status}")
                if status == 202:
                    taken.append(hashlib.sha256(body).hexdigest())
                    assert answer["status"] in ("accepted", "kept", "duplicate")
                if closes:
                    return True
        return False

    await asyncio.gather(*[stream(range(n, OVER_HTTP, STREAMS)) for n in range(STREAMS)])
    stored = await db.fetch(
        "SELECT encode(body_sha256, 'hex') AS digest, body FROM pluggy_sync.webhook_events"
    )
    assert len(taken) > OVER_HTTP // 3
    assert {record["digest"] for record in stored} == set(taken)
    assert all(hashlib.sha256(r["body"]).hexdigest() == r["digest"] for r in stored)
    assert_no_fault_of_ours(receiver)


@asynccontextmanager
async def connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def deliver(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, dict[str, Any], bool]:
    """Status, answer, and whether the receiver says that it closes the connection."""
    writer.write(
        b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (inputs.SECRET.encode(), len(body), body)
    )
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        answer: dict[str, Any] = json.loads(await reader.readexactly(length))
    return int(head.split()[1]), answer, b"connection: close" in head


async def test_whatever_is_no_http_is_refused(receiver: ReceiverProcess) -> None:
    campaign = Campaign("wire", inputs.request)
    print(f"fuzz wire: {BROKEN_HTTP:,} inputs, FUZZ_SEED={SEED}", flush=True)
    port = await listening(receiver)
    answers: Counter[bytes] = Counter()

    async def stream(numbers: Iterable[int]) -> None:
        for number in numbers:
            wire = campaign.input(number)
            async with connection(port) as (reader, writer):
                with suppress(ConnectionError):
                    writer.write(wire)
                    answer = await anything(reader, port)
                    answers[answer[:12]] += 1
                    if answer[9:10] == b"5" or b"Traceback" in answer:
                        raise campaign.broken(number, wire, answer[:200])

    many = 4 * STREAMS
    await asyncio.gather(*[stream(range(n, BROKEN_HTTP, many)) for n in range(many)])
    print(f"fuzz wire: {dict(answers)}")
    statuses: Counter[bytes] = Counter()
    for begins, times in answers.items():
        statuses[begins[9:]] += times
    assert statuses[b"400"] > BROKEN_HTTP // 50
    assert statuses[b"202"] > BROKEN_HTTP // 50
    assert_no_fault_of_ours(receiver)


async def anything(reader: asyncio.StreamReader, port: int) -> bytes:
    """What comes back until the end or until nothing comes any more."""
    answer = await until_silent(reader)
    if answer is None:
        async with connection(port) as another:
            await deliver(*another, json.dumps(event_body()).encode())
        answer = await until_silent(reader)
    return answer or b""


async def until_silent(reader: asyncio.StreamReader) -> bytes | None:
    """What comes until the end or a silence; None: not even an end."""
    answer = b""
    while True:
        try:
            async with asyncio.timeout(SILENT_AFTER_S):
                got = await reader.read(65536)
        except TimeoutError:
            return answer or None
        if not got:
            return answer
        answer += got


def assert_no_fault_of_ours(receiver: ReceiverProcess) -> None:
    """It is alive, and nothing in its log is about a fault."""
    assert receiver.child.running
    said = [json.loads(line) for line in receiver.lines]
    faults = [line for line in said if line["level"] in ("error", "critical")]
    assert faults == []
    assert "Traceback" not in "".join(receiver.lines)


def test_cleaned_bytes_stay_what_they_say() -> None:
    """Where Python's reader and ours both read, they read the same."""

    def same(body: bytes) -> None:
        with suppress(ValueError, RecursionError):
            ours = msgspec.json.decode(clean_json(body))
            assert ours == json.loads(clean_json(body)) or ours != ours

    Campaign("cleaned", inputs.webhook).run(4_000, same)
