"""Batches, counts and wake-ups of the receiver."""

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace
from structlog.testing import capture_logs

from tests.support.receiver import (
    HEADER,
    SECRET,
    Doorway,
    Locked,
    event_body,
    open_receiver,
    stored_bodies,
)
from tests.support.shared_database import database_from, delete_events
from tests.support.waiting import until
from tests.support.wakes import woken
from webhook_receiver.delivery_counts import DISTINCT_EVENTS, LOG_INTERVAL_S, DeliveryCounts
from webhook_receiver.intake import MAX_WAITING, MAX_WAITING_BYTES, NotTaken
from worker.inbox.events import parse_webhook
from worker.infra.postgres import Pool
from worker.wakeup.queue import SLOTS_KEY


@pytest.fixture(scope="module")
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    async with database_from(template, postgres_url) as url:
        yield url


@pytest.fixture(autouse=True)
async def nothing_accepted_yet(db: Pool) -> None:
    await delete_events(db)


@pytest.fixture
async def doorway(database_url: str, redis: ArqRedis, redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(database_url, redis_url, patient=True) as doorway:
        yield doorway


# Groups


@pytest.mark.parametrize(
    ("waiting", "quick_s", "groups"),
    [(40, 0.0, [1, 40]), (40, math.inf, [1, 21, 19]), (16, math.inf, [1, 16])],
    ids=["all after a slow group", "half after a quick one", "few are not split"],
)
async def test_what_arrives_while_a_group_is_stored_is_the_next_one_or_two(
    database_url: str,
    redis: ArqRedis,
    redis_url: str,
    db: Pool,
    waiting: int,
    quick_s: float,
    groups: list[int],
) -> None:
    item_id = uuid.uuid4()
    async with open_receiver(database_url, redis_url, patient=True, quick_s=quick_s) as doorway:
        async with Locked(db, item_id) as lock:
            first = asyncio.create_task(doorway.deliver(event_body(item_id)))
            await until(lock.holds_up)
            others = [asyncio.create_task(doorway.deliver(event_body())) for _ in range(waiting)]
            await doorway.waiting(waiting)
        replies = await asyncio.gather(first, *others)
    assert {reply.status for reply in replies} == {202}
    assert await events_of_commits(db) == groups


async def test_what_arrives_together_while_nothing_is_stored_is_one_commit(
    doorway: Doorway, db: Pool
) -> None:
    bodies = [json.dumps(event_body()).encode() for _ in range(40)]
    now = datetime.now(UTC)
    await asyncio.gather(
        *(doorway.services.intake.accept(parse_webhook(body, now)) for body in bodies)
    )
    assert await events_of_commits(db) == [40]


async def events_of_commits(db: Pool) -> list[int]:
    """How many events each commit has stored, in their order."""
    rows = await db.fetch(
        "SELECT count(*) AS n FROM pluggy_sync.webhook_events GROUP BY xmin::text ORDER BY min(id)"
    )
    return [row["n"] for row in rows]


async def test_a_client_that_goes_away_takes_no_neighbour_along(doorway: Doorway, db: Pool) -> None:
    item_id, bodies = uuid.uuid4(), [json.dumps(event_body()).encode() for _ in range(3)]
    async with Locked(db, item_id) as lock:
        first = asyncio.create_task(doorway.deliver(event_body(item_id)))
        await until(lock.holds_up)
        others = [asyncio.create_task(doorway.deliver(body)) for body in bodies]
        await doorway.waiting(3)
        others[1].cancel()
        await asyncio.gather(others[1], return_exceptions=True)
    replies = await asyncio.gather(first, others[0], others[2])
    assert {reply.status for reply in replies} == {202}
    # What had arrived was an event, whether or not its sender heard so.
    assert set(bodies) <= set(await stored_bodies(db))


async def test_a_sender_that_gave_up_within_the_intake_harms_no_group(
    doorway: Doorway, db: Pool
) -> None:
    intake, item_id = doorway.services.intake, uuid.uuid4()
    events = [
        parse_webhook(
            json.dumps(event_body(item_id if n == 0 else None)).encode(), datetime.now(UTC)
        )
        for n in range(4)
    ]
    async with Locked(db, item_id) as lock:
        waits = [asyncio.create_task(intake.accept(event)) for event in events[:1]]
        await until(lock.holds_up)
        waits += [asyncio.create_task(intake.accept(event)) for event in events[1:]]
        await doorway.waiting(3)
        waits[0].cancel()
        waits[2].cancel()
    taken = await asyncio.gather(*waits, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in taken] == [
        True,
        False,
        True,
        False,
    ]
    # The first was being stored already; the third was not, and its sender was answered so.
    assert await stored_bodies(db) == [
        event.body
        for event in [events[0], *sorted((events[1], events[3]), key=lambda e: e.event_id)]
    ]


async def test_who_waits_too_long_for_a_commit_gets_a_503_and_harms_no_group(
    database_url: str, redis: ArqRedis, redis_url: str, db: Pool
) -> None:
    item_id, bodies = uuid.uuid4(), [json.dumps(event_body()).encode() for _ in range(2)]
    async with (
        open_receiver(database_url, redis_url, patient=True, answer_timeout_s=0.3) as doorway,
        Locked(db, item_id) as lock,
    ):
        first = asyncio.create_task(doorway.deliver(event_body(item_id)))
        await until(lock.holds_up)
        replies = await asyncio.gather(first, *map(doorway.deliver, bodies))
    assert {(reply.status, reply.headers["Retry-After"]) for reply in replies} == {(503, "5")}
    async with open_receiver(database_url, redis_url, patient=True) as doorway:
        again = await asyncio.gather(*map(doorway.deliver, bodies))
    # What waited in the intake was not stored: its sender was answered so.
    assert [reply.body["status"] for reply in again] == ["accepted", "accepted"]
    assert len(await stored_bodies(db)) == 3


async def test_copies_in_one_group_are_one_event(doorway: Doorway, db: Pool) -> None:
    item_id, body = uuid.uuid4(), json.dumps(event_body()).encode()
    async with Locked(db, item_id) as lock:
        first = asyncio.create_task(doorway.deliver(event_body(item_id)))
        await until(lock.holds_up)
        copies = [asyncio.create_task(doorway.deliver(body)) for _ in range(3)]
        await doorway.waiting(3)
    replies = await asyncio.gather(first, *copies)
    assert sorted(reply.body["status"] for reply in replies) == [
        *["accepted"] * 2,
        *["duplicate"] * 2,
    ]
    assert (await stored_bodies(db)).count(body) == 1


@pytest.mark.parametrize(
    ("padding", "most"), [(0, MAX_WAITING), (MAX_WAITING_BYTES // 20, 20)], ids=["number", "bytes"]
)
async def test_deliveries_wait_in_bounded_memory(
    doorway: Doorway, db: Pool, padding: int, most: int
) -> None:
    intake, item_id = doorway.services.intake, uuid.uuid4()
    body = json.dumps(event_body(item_id)).encode()
    # The size is all that counts; a body is not read again.
    events = [
        replace(parse_webhook(body, datetime.now(UTC)), event_id=str(n), body=body + b" " * padding)
        for n in range(most + 1)
    ]
    async with Locked(db, item_id) as lock:
        first = asyncio.create_task(intake.accept(parse_webhook(body, datetime.now(UTC))))
        await until(lock.holds_up)
        waits = [asyncio.create_task(intake.accept(event)) for event in events]
        await doorway.waiting(most)
        with pytest.raises(NotTaken):
            await waits[-1]
        for wait in waits:
            wait.cancel()
    assert (await first).is_new
    # There is room again for whoever comes next.
    assert (await doorway.deliver(event_body())).status == 202
    await doorway.waiting(0)


async def test_a_client_that_goes_away_within_its_body_is_counted_and_leaves_no_trace(
    doorway: Doorway, db: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", doorway.port)
    writer.write(
        b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: 100\r\n\r\n{"
        % (HEADER.encode(), SECRET.encode())
    )
    await writer.drain()
    writer.close()

    async def is_counted() -> bool:
        await doorway.services.counts.flush(db)
        return bool(await db.fetchval("SELECT count(*) FROM pluggy_sync.delivery_counts"))

    await until(is_counted)
    assert await stored_bodies(db) == []
    assert "Traceback" not in caplog.text


# Wakes


async def test_only_what_makes_an_item_due_wakes_a_worker(
    doorway: Doorway, redis: ArqRedis, db: Pool
) -> None:
    item_id, other_id = uuid.uuid4(), uuid.uuid4()
    for target in (item_id, item_id, other_id, item_id):
        await doorway.deliver(event_body(target))

    async def has_woken() -> bool:
        return bool(len(await woken(redis)) >= 2)

    await until(has_woken)
    await doorway.services.intake.wakeups.settle()
    assert await woken(redis) == [str(item_id), str(other_id)]


async def test_a_full_queue_gets_no_more_wake_ups(doorway: Doorway, redis: ArqRedis) -> None:
    await redis.set(SLOTS_KEY, 3)
    replies = await asyncio.gather(*(doorway.deliver(event_body()) for _ in range(30)))
    await doorway.services.intake.wakeups.settle()
    assert {reply.status for reply in replies} == {202}
    assert len(await woken(redis)) == 6


# Counts


async def test_deliveries_are_counted_by_minute_event_and_answer(
    database_url: str, redis: ArqRedis, redis_url: str, db: Pool
) -> None:
    async with open_receiver(database_url, redis_url, patient=True) as doorway:
        body = event_body()
        for _ in range(2):
            await doorway.deliver(body)
        await doorway.deliver(event_body(event="item/renamed"))
        await doorway.deliver(b"[]")
        await doorway.deliver(event_body(), secret="wrong")  # noqa: S106 - meant to be wrong
    rows = await db.fetch(
        "SELECT event, answer, sum(deliveries)::integer AS n FROM pluggy_sync.delivery_counts"
        " WHERE minute = date_trunc('minute', minute) GROUP BY 1, 2"
    )
    assert {tuple(row) for row in rows} == {
        ("item/updated", "accepted", 1),
        ("item/updated", "duplicate", 1),
        ("item/renamed", "kept", 1),
        ("", "malformed", 1),
        ("", "unauthorized", 1),
    }


async def test_counts_are_added_to_those_of_other_receivers_and_kept_without_postgres(
    db: Pool,
) -> None:
    counts = [DeliveryCounts(), DeliveryCounts()]
    for count in counts:
        count.add("item/updated", "accepted")
    await db.execute("ALTER TABLE pluggy_sync.delivery_counts RENAME TO elsewhere")
    await counts[0].flush(db)
    await db.execute("ALTER TABLE pluggy_sync.elsewhere RENAME TO delivery_counts")
    for count in [*counts, *counts]:
        await count.flush(db)
    assert await db.fetchval("SELECT sum(deliveries) FROM pluggy_sync.delivery_counts") == 2


async def test_refused_deliveries_are_one_line_a_minute_with_their_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts, now = DeliveryCounts(), 1000.0
    monkeypatch.setattr("webhook_receiver.delivery_counts.time.monotonic", lambda: now)
    with capture_logs() as logs:
        for answer in [*["unauthorized"] * 60, "malformed", "accepted", "unavailable"]:
            counts.add("", answer)
        counts.log_refused()
        for answer in ("unauthorized", "too_large", "slow_body", "encoded"):
            counts.add("", answer)
        now += LOG_INTERVAL_S - 1
        counts.log_refused()
        reported_within_the_minute = len(logs)
        now += 1
        counts.log_refused()
        now += LOG_INTERVAL_S
        counts.log_refused()
    assert reported_within_the_minute == 1
    line = {"event": "deliveries_refused", "log_level": "warning"}
    assert logs == [
        line | {"count": 61, "unauthorized": 60, "malformed": 1},
        line | {"count": 4, "unauthorized": 1, "too_large": 1, "slow_body": 1, "encoded": 1},
    ]


async def test_refusals_are_counted_when_the_receiver_stops(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    with capture_logs() as logs:
        async with open_receiver(database_url, redis_url, patient=True) as doorway:
            await doorway.deliver(event_body(), secret=None)
            doorway.services.counts.log_refused()
            await doorway.deliver(b"[]")
    found = [line for line in logs if line["event"] == "deliveries_refused"]
    assert [line["count"] for line in found] == [1, 1]


async def test_many_different_names_are_counted_together(db: Pool) -> None:
    counts = DeliveryCounts()
    for number in range(DISTINCT_EVENTS + 50):
        counts.add(f"name-{number}", "kept")
    await counts.flush(db)
    rows = await db.fetch("SELECT event, deliveries FROM pluggy_sync.delivery_counts")
    assert len(rows) == DISTINCT_EVENTS + 1
    assert {row["event"]: row["deliveries"] for row in rows}["other"] == 50
