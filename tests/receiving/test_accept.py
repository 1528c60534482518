"""Accepting events: rows that a delivery writes, and that its duplicate does not."""

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from tests.support.shared_database import database_from, delete_events
from worker.inbox.accept import Accepted, UnstorableEvent, accept_events
from worker.inbox.events import WebhookEvent, own_event, parse_webhook, registration
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool, close_pool, connection_within, open_pool

ACCOUNT = "aaaaaaaa-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    async with database_from(template, postgres_url) as url:
        yield url


@pytest.fixture(autouse=True)
async def nothing_accepted_yet(db: Pool) -> None:
    await delete_events(db)


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


@pytest.fixture
def item() -> uuid.UUID:
    return uuid.uuid4()


def event(item_id: uuid.UUID | None, name: str = "item/updated", **fields: Any) -> WebhookEvent:
    body = {"event": name, "eventId": str(uuid.uuid4()), "itemId": str(item_id)} | fields
    return parse_webhook(json.dumps(body).encode(), datetime.now(UTC))


def odd_event(item_id: uuid.UUID, odd: bytes) -> WebhookEvent:
    body = b'{"event": "item/updated", "itemId": "%s", "odd": %s}' % (str(item_id).encode(), odd)
    return parse_webhook(body, datetime.now(UTC))


async def accept(db: Pool, *events: WebhookEvent) -> list[Accepted]:
    answers = await accept_events(db, events, timeout_s=60.0)
    taken = [answer for answer in answers if isinstance(answer, Accepted)]
    assert len(taken) == len(events)
    return taken


async def item_row(db: Pool, item_id: uuid.UUID) -> asyncpg.Record:
    row = await db.fetchrow("SELECT * FROM pluggy_sync.item_sync WHERE item_id = $1", item_id)
    assert row is not None
    return row


async def generation(db: Pool, item_id: uuid.UUID) -> int:
    return int((await item_row(db, item_id))["generation"])


async def stored(db: Pool) -> list[asyncpg.Record]:
    return await db.fetch("SELECT * FROM pluggy_sync.webhook_events ORDER BY id")


async def settle(db: Pool, state: str, reason: str | None = None) -> None:
    """Set the state of all events and make no item due, as after a sync."""
    await db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = $1, reason = $2, error_id = 'e',"
        " settled_at = clock_timestamp()",
        state,
        reason,
    )
    await rest(db)


async def rest(db: Pool) -> None:
    await db.execute(
        "UPDATE pluggy_sync.item_sync SET run_at = NULL, lane = 3, done_generation = generation"
    )


async def test_an_accepted_event_is_stored_and_makes_its_item_due(
    db: Pool, item: uuid.UUID
) -> None:
    announced = event(item, "transactions/updated", accountId=ACCOUNT, transactionIds=[ACCOUNT])
    [answer] = await accept(db, announced)
    [row] = await stored(db)
    assert (answer.is_new, answer.made_due, answer.row_id) == (True, True, row["id"])
    assert (row["event"], row["state"], row["body"]) == (announced.event, "pending", announced.body)
    assert (row["item_id"], row["account_id"]) == (item, uuid.UUID(ACCOUNT))
    assert row["transaction_ids"] == [uuid.UUID(ACCOUNT)]
    assert await db.fetchval(
        "SELECT run_at <= now() AND lane = 0 AND generation = 1 AND done_generation = 0"
        " FROM pluggy_sync.item_sync WHERE item_id = $1",
        item,
    )
    assert await db.fetchval("SELECT until < now() FROM pluggy_sync.item_leases")


async def test_a_redelivery_stores_nothing_and_bumps_nothing(db: Pool, item: uuid.UUID) -> None:
    announced = event(item)
    await accept(db, announced)
    before = await item_row(db, item), await stored(db)
    [again] = await accept(db, replace(announced, received_at=datetime.now(UTC)))
    assert (again.is_new, again.made_due) == (False, False)
    assert (await item_row(db, item), await stored(db)) == before


async def test_a_redelivery_of_what_is_applied_does_not_make_its_item_due(
    db: Pool, item: uuid.UUID
) -> None:
    announced = event(item)
    await accept(db, announced)
    await settle(db, "applied")
    [again] = await accept(db, announced)
    assert (again.is_new, again.made_due) == (False, False)
    assert (await item_row(db, item))["run_at"] is None


async def test_a_redelivery_of_what_waits_for_its_walks_bumps_nothing(
    db: Pool, item: uuid.UUID
) -> None:
    announced = event(item)
    await accept(db, announced)
    await settle(db, "walking")
    [again] = await accept(db, announced)
    assert not again.is_new
    assert await generation(db, item) == 1


async def test_the_same_id_with_another_body_is_another_event(db: Pool, item: uuid.UUID) -> None:
    first, second = event(item, eventId="same"), event(item, eventId="same", triggeredBy="SYNC")
    answers = await accept(db, first) + await accept(db, second)
    assert [answer.is_new for answer in answers] == [True, True]
    assert (len(await stored(db)), await generation(db, item)) == (2, 2)


async def test_the_same_body_without_id_twice_is_two_events(db: Pool, item: uuid.UUID) -> None:
    body = json.dumps({"event": "item/updated", "itemId": str(item)}).encode()
    for _ in range(2):
        [answer] = await accept(db, parse_webhook(body, datetime.now(UTC)))
        assert answer.is_new
    assert (len(await stored(db)), await generation(db, item)) == (2, 2)


async def test_twins_in_one_group_are_one_event(db: Pool, item: uuid.UUID) -> None:
    announced = event(item)
    answers = await accept(
        db, announced, replace(announced, received_at=datetime.now(UTC)), announced
    )
    assert [answer.is_new for answer in answers] == [True, False, False]
    assert [answer.made_due for answer in answers] == [True, False, False]
    assert (len(await stored(db)), await generation(db, item)) == (1, 1)


async def test_two_events_of_one_item_in_one_group_bump_by_two(db: Pool, item: uuid.UUID) -> None:
    await accept(db, event(item), event(uuid.uuid4()), event(item))
    assert await generation(db, item) == 2
    assert await db.fetchval("SELECT count(*) FROM pluggy_sync.item_leases") == 2


async def test_answers_come_in_the_order_of_the_events(db: Pool) -> None:
    known = [event(uuid.uuid4()) for _ in range(5)]
    await accept(db, *known)
    mixed = [*known, *(event(uuid.uuid4()) for _ in range(5))]
    dice(4).shuffle(mixed)
    answers = await accept(db, *mixed)
    assert [answer.is_new for answer in answers] == [announced not in known for announced in mixed]


async def test_a_registration_is_a_duplicate_the_second_time(db: Pool, item: uuid.UUID) -> None:
    for expected in (True, False):
        [answer] = await accept(db, registration(item, datetime.now(UTC)))
        assert answer.is_new is expected
    assert await generation(db, item) == 1


@pytest.mark.parametrize("state", ["dead", "ignored"])
async def test_a_redelivery_brings_what_had_no_effect_back(
    db: Pool, item: uuid.UUID, state: str
) -> None:
    announced = event(item)
    [first] = await accept(db, announced)
    await settle(db, state, "404:ITEM_NOT_FOUND")
    await db.execute("UPDATE pluggy_sync.webhook_events SET pending_since = 'epoch'")
    [again] = await accept(db, announced)
    [row] = await stored(db)
    assert (again.is_new, again.made_due, again.row_id) == (True, True, first.row_id)
    assert (row["state"], row["reason"], row["error_id"], row["settled_at"]) == (
        "pending",
        None,
        None,
        None,
    )
    assert row["pending_since"] > row["accepted_at"]
    assert await generation(db, item) == 2


async def test_what_an_older_release_could_not_read_comes_back_as_it_is_read_now(
    db: Pool, item: uuid.UUID
) -> None:
    announced = event(item, "transactions/updated", accountId=ACCOUNT, transactionIds=[ACCOUNT])
    kept = replace(
        announced, item_id=None, account_id=None, transaction_ids=None, state="ignored", kept=True
    )
    await accept(db, kept)
    [again] = await accept(db, announced)
    [row] = await stored(db)
    assert again.is_new
    assert again.made_due
    assert (row["state"], row["item_id"], row["account_id"]) == (
        "pending",
        item,
        uuid.UUID(ACCOUNT),
    )
    assert row["transaction_ids"] == [uuid.UUID(ACCOUNT)]
    assert await generation(db, item) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [("boleto/updated", "payment_event"), ("sync/verify", "unknown_event")],
)
async def test_what_asks_nothing_of_us_is_stored_ignored_and_stays_so(
    db: Pool, item: uuid.UUID, name: str, reason: str
) -> None:
    announced = event(item, name)
    assert [a.is_new for a in await accept(db, announced) + await accept(db, announced)] == [
        True,
        False,
    ]
    [row] = await stored(db)
    assert (row["state"], row["reason"]) == ("ignored", reason)
    assert row["settled_at"] is not None
    assert not await db.fetchval("SELECT count(*) FROM pluggy_sync.item_sync")


@pytest.mark.parametrize(
    ("present", "announced", "expected"),
    [
        (Lane.AUDIT, Lane.LIVE, Lane.LIVE),
        (Lane.LIVE, Lane.AUDIT, Lane.LIVE),
        (Lane.BACKFILL, Lane.AUDIT, Lane.BACKFILL),
        (Lane.BACKFILL, Lane.RETRY, Lane.RETRY),
    ],
)
async def test_a_bump_leaves_the_better_of_two_lanes(
    db: Pool, item: uuid.UUID, present: Lane, announced: Lane, expected: Lane
) -> None:
    for lane in (present, announced):
        await accept(db, own_event("sync/verify", item, lane=lane, now=datetime.now(UTC)))
    assert (await item_row(db, item))["lane"] == expected


async def test_a_group_bumps_into_the_best_of_its_lanes(db: Pool, item: uuid.UUID) -> None:
    order = own_event("sync/verify", item, lane=Lane.AUDIT, now=datetime.now(UTC))
    await accept(db, order, event(item))
    assert (await item_row(db, item))["lane"] == Lane.LIVE


@pytest.mark.parametrize(
    ("run_in", "made_due"), [(None, True), (timedelta(hours=1), True), (timedelta(hours=-1), False)]
)
async def test_a_bump_makes_due_only_what_was_not_due(
    db: Pool, item: uuid.UUID, run_in: timedelta | None, made_due: bool
) -> None:
    await accept(db, event(item))
    before = await db.fetchval(
        "UPDATE pluggy_sync.item_sync SET run_at = now() + $1::interval RETURNING run_at", run_in
    )
    [answer] = await accept(db, event(item))
    after = (await item_row(db, item))["run_at"]
    assert answer.made_due is made_due
    assert await db.fetchval("SELECT $1::timestamptz <= now()", after)
    assert made_due or after == before


@pytest.mark.parametrize(
    ("present", "announced", "worth_a_wake_up"),
    [
        (Lane.BACKFILL, Lane.LIVE, True),
        (Lane.AUDIT, Lane.LIVE, True),
        (Lane.LIVE, Lane.LIVE, False),
        (Lane.AUDIT, Lane.BACKFILL, False),
        (Lane.LIVE, Lane.AUDIT, False),
    ],
)
async def test_a_bump_that_lifts_a_due_item_into_the_live_lane_wakes_a_worker(
    db: Pool, item: uuid.UUID, present: Lane, announced: Lane, worth_a_wake_up: bool
) -> None:
    await accept(db, own_event("sync/verify", item, lane=present, now=datetime.now(UTC)))
    answers = [
        (await accept(db, own_event("sync/verify", item, lane=announced, now=datetime.now(UTC))))[0]
        for _ in range(2)
    ]
    # Once: the second finds it there.
    assert [answer.made_due for answer in answers] == [worth_a_wake_up, False]


async def test_a_bump_does_not_touch_the_lease_of_a_running_sync(db: Pool, item: uuid.UUID) -> None:
    await accept(db, event(item))
    present = await db.fetchrow(
        "UPDATE pluggy_sync.item_leases SET token = gen_random_uuid(), until = now() + '30 s'"
        " RETURNING *"
    )
    await accept(db, event(item))
    assert await db.fetchrow("SELECT * FROM pluggy_sync.item_leases") == present


async def test_bumps_of_a_due_item_are_hot(database_url: str, item: uuid.UUID) -> None:
    async with single_connection(database_url) as db:
        await accept(db, event(item))
        before = await updates(db, "item_sync")
        for _ in range(40):
            await accept(db, event(item))
        after = await updates(db, "item_sync")
    assert (after[0] - before[0], after[1] - before[1]) == (40, 40)


async def test_a_redelivery_writes_no_row_version(database_url: str, item: uuid.UUID) -> None:
    tables = ("item_sync", "webhook_events", "item_leases")
    async with single_connection(database_url) as db:
        announced = event(item)
        await accept(db, announced)
        before = [await writes(db, table) for table in tables]
        for _ in range(5):
            await accept(db, announced)
        assert [await writes(db, table) for table in tables] == before


@asynccontextmanager
async def single_connection(url: str) -> AsyncIterator[Pool]:
    """A pool of one: the statistics of a session are sent when that session says so."""
    pool = await open_pool(url, max_size=1, statement_cache=100)
    yield pool
    await close_pool(pool)


async def updates(db: Pool, table: str) -> tuple[int, int]:
    """Updates of a table, and how many of them were HOT."""
    row = await statistics(db, table)
    return row["n_tup_upd"], row["n_tup_hot_upd"]


async def writes(db: Pool, table: str) -> tuple[int, int, int]:
    row = await statistics(db, table)
    return row["n_tup_ins"], row["n_tup_upd"], row["n_tup_del"]


async def statistics(db: Pool, table: str) -> asyncpg.Record:
    await db.fetchval("SELECT pg_stat_force_next_flush()")
    row = await db.fetchrow(
        "SELECT * FROM pg_stat_user_tables WHERE schemaname = 'pluggy_sync' AND relname = $1", table
    )
    assert row is not None
    return row


@pytest.mark.parametrize(
    "odd",
    [
        b'"\\u0000"',
        b'"\\ud800 \\udfff"',
        b"1e200000",
        b"1" * 5000,
        b'{"a": 1, "a": 2}',
        '"\u2028 \U0001f9ff"'.encode(),
        b'"\xed\xa0\x80"',
    ],
)
async def test_odd_bodies_are_stored_byte_for_byte(db: Pool, item: uuid.UUID, odd: bytes) -> None:
    announced, neighbour = odd_event(item, odd), event(item)
    await accept(db, announced, neighbour)
    assert [row["body"] for row in await stored(db)] == [
        announced.body for announced in sorted((announced, neighbour), key=lambda e: e.event_id)
    ]


async def test_odd_names_and_ids_are_stored_cleaned(db: Pool, item: uuid.UUID) -> None:
    announced = event(item, "odd\u0000\ud800", eventId="\u0000\udfff")
    assert [a.is_new for a in await accept(db, announced, announced)] == [True, False]
    [row] = await stored(db)
    assert (row["event"], row["event_id"]) == ("odd\ufffd\ufffd", "\ufffd\ufffd")


@pytest.mark.parametrize(
    "created_at_from", ["0001-01-01T00:00:00.001Z", "9999-12-31T23:59:59.999Z", "2026-03-15"]
)
async def test_any_time_that_is_one_can_be_stored(
    db: Pool, item: uuid.UUID, created_at_from: str
) -> None:
    announced = event(
        item,
        "transactions/created",
        accountId=ACCOUNT,
        transactionsCreatedAtFrom=created_at_from,
        transactionsCount=2**31 - 1,
    )
    await accept(db, announced)
    assert (await stored(db))[0]["created_at_from"] == announced.created_at_from


async def test_an_event_of_many_and_long_values_can_be_stored(db: Pool, item: uuid.UUID) -> None:
    announced = event(
        item,
        "transactions/updated",
        accountId=ACCOUNT,
        eventId="\U0001f9ff" * 200,
        transactionIds=[str(uuid.uuid4()) for _ in range(5000)],
        padding=dice(1).randbytes(1_500_000).hex(),
    )
    await accept(db, announced)
    [row] = await stored(db)
    assert len(row["transaction_ids"]) == 5000
    assert row["body"] == announced.body


@pytest.mark.parametrize(
    "culprit",
    [
        {"event": "nul\x00"},  # 22021, by the server
        {"expected_rows": 2**31},  # by asyncpg's encoder
        {"state": "lost"},  # 23514, a check
        {"event_id": dice(2).randbytes(50_000).hex()},  # 54000, an index entry's size
        {"lane": 7},
    ],
    ids=["nul", "integer", "check", "index", "lane"],
)
async def test_a_group_that_fails_on_data_loses_only_the_culprit(
    db: Pool, culprit: dict[str, Any]
) -> None:
    events = [event(uuid.uuid4()) for _ in range(5)]
    events[2] = replace(events[2], **culprit)
    answers = await accept_events(db, events)
    assert [isinstance(answer, UnstorableEvent) for answer in answers] == [
        announced is events[2] for announced in events
    ]
    assert {row["event_id"] for row in await stored(db)} == {
        announced.event_id for announced in events if announced is not events[2]
    }
    items = await db.fetch("SELECT item_id FROM pluggy_sync.item_sync WHERE generation = 1")
    assert {row["item_id"] for row in items} == {e.item_id for e in events} - {events[2].item_id}


async def test_the_reason_of_an_unstorable_event_holds_no_value_of_it(db: Pool) -> None:
    announced = replace(event(uuid.uuid4()), event="private\x00")
    [answer] = await accept_events(db, [announced])
    assert isinstance(answer, UnstorableEvent)
    assert "private" not in str(answer)


async def test_a_failure_that_is_not_about_the_data_is_nobody_s_fault(db: Pool) -> None:
    await db.execute("ALTER TABLE pluggy_sync.item_sync RENAME TO elsewhere")
    try:
        with pytest.raises(asyncpg.UndefinedTableError):
            await accept_events(db, [event(uuid.uuid4()), event(uuid.uuid4())])
    finally:
        await db.execute("ALTER TABLE pluggy_sync.elsewhere RENAME TO item_sync")
    assert await stored(db) == []


async def test_unsorted_groups_that_four_receivers_get_at_once_never_deadlock(
    database_url: str, db: Pool
) -> None:
    items = [uuid.uuid4() for _ in range(300)]
    rounds = [[event(item) for item in items] for _ in range(8)]
    pools = [await open_pool(database_url, max_size=1, statement_cache=100) for _ in range(4)]
    for number, announced in enumerate(rounds, 1):
        new = await deliver_at_once(pools, [announced] * 4, seed=number)
        assert new == len(items)
        await settle(db, "dead")
        # Everything so far comes back, each event by one receiver, in groups that overlap.
        known = [e for earlier in rounds[:number] for e in earlier]
        revived = await deliver_at_once(pools, [known, known[::2], known[1::2], known], seed=number)
        assert revived == len(known)
        fresh = [[event(item) for item in items] for _ in pools]
        assert await deliver_at_once(pools, fresh, seed=number) == 4 * len(items)
    for pool in pools:
        await close_pool(pool)


async def deliver_at_once(
    pools: Sequence[Pool], groups: Sequence[Sequence[WebhookEvent]], seed: int
) -> int:
    """Each receiver gets its group in another order; returns the number of new events."""
    order = dice(seed)
    answers = await asyncio.gather(
        *(
            accept(pool, *order.sample(group, len(group)))
            for pool, group in zip(pools, groups, strict=True)
        )
    )
    return sum(answer.is_new for answered in answers for answer in answered)


async def test_a_statement_that_waits_too_long_is_given_up_with_its_connection(
    database_url: str, db: Pool, item: uuid.UUID
) -> None:
    await accept(db, event(item))
    async with single_connection(database_url) as pool, db.acquire() as blocker:
        async with blocker.transaction():
            await blocker.execute("SELECT FROM pluggy_sync.item_sync FOR UPDATE")
            before = await pool.fetchval("SELECT pg_backend_pid()")
            with pytest.raises(TimeoutError):
                await accept_events(pool, [event(item)], timeout_s=0.2)
            assert await pool.fetchval("SELECT pg_backend_pid()") != before
        [answer] = await accept(pool, event(item))
        assert answer.is_new


async def backend_pid(pool: Pool) -> int:
    async with connection_within(pool, 30.0) as conn:
        return int(await conn.fetchval("SELECT pg_backend_pid()"))


async def test_a_statement_within_its_time_keeps_its_connection(database_url: str) -> None:
    async with single_connection(database_url) as pool:
        pids = [await backend_pid(pool) for _ in range(2)]
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection_within(pool, 30.0) as conn:
                await conn.fetchval("SELECT 1 / 0")
        pids.append(await backend_pid(pool))
    assert pids[0] == pids[1] == pids[2]
