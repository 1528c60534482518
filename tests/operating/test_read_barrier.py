"""The read barrier: a wait ends once what it asks for is stored, and never before."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from ops.web.barrier import MAX_MISSING, OTHER_CONNECTIONS
from tests.support.kept_database import execute
from tests.support.ops import OpsClient, open_ops, stage
from tests.support.stack import Stack, now
from tests.support.waiting import until
from worker.inbox.events import registration
from worker.infra.postgres import Pool

WAITS = 200
BATCH = 40
OPS = "ops_of_this_test"

SETTLE = (
    "UPDATE pluggy_sync.webhook_events SET state = $2, settled_at = clock_timestamp()"
    " WHERE item_id = ANY ($1) AND event_id LIKE $3"
)


@pytest.fixture
async def ops(database_url: str, redis_url: str, db: Pool) -> AsyncIterator[OpsClient]:
    named = f"{database_url}{'&' if '?' in database_url else '?'}application_name={OPS}"
    async with open_ops(named, redis_url) as opened:
        yield opened


async def settle(db: Pool, *items: uuid.UUID, state: str = "applied", event_id: str = "%") -> None:
    await db.execute(SETTLE, items, state, event_id)


def come_to_time_out(ops: OpsClient) -> None:
    """Let the next poll that begins be the last one of all waits: one under way has read before."""
    for wait in ops.services.barrier._waits:
        wait.deadline = asyncio.get_running_loop().time()


async def begun(ops: OpsClient, count: int = 1) -> None:
    """Wait until there are so many waits and all have begun: what was open then is noted."""

    async def known() -> bool:
        waits = ops.services.barrier._waits
        return len(waits) == count and all(wait.open_events is not None for wait in waits)

    await until(known, f"{count} waits")


def waiting(ops: OpsClient, item_id: object, **parameters: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(ops.wait(item_id, timeout=300, **parameters))


def missing(reply: Any) -> list[tuple[str, str]]:
    """What a wait of 202 names, with its state."""
    assert (reply.status, reply.body["status"]) == (202, "waiting"), reply
    return sorted((m.get("event") or m["product"], m["state"]) for m in reply.body["missing"])


async def test_two_hundred_waits_end_each_after_its_commit_on_one_connection(
    ops: OpsClient, db: Pool
) -> None:
    items = await stage(db, WAITS)
    ended: set[uuid.UUID] = set()

    async def wait(item_id: uuid.UUID) -> None:
        assert (await ops.wait(item_id, timeout=300)).status == 200
        ended.add(item_id)

    tasks = [asyncio.create_task(wait(item_id)) for item_id in items]
    await begun(ops, WAITS)
    for first in range(0, WAITS, BATCH):
        assert ended == set(items[:first])
        await settle(db, *items[first : first + BATCH])
        await asyncio.gather(*tasks[first : first + BATCH])
    opened = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    assert await db.fetchval(opened, OPS) == 1


async def test_a_connected_item_is_ready_once_all_of_it_is_stored(
    ops: OpsClient, stack: Stack
) -> None:
    made = await stack.item(transactions=30)
    assert (await ops.wait(made["id"])).status == 404
    await stack.accept(registration(uuid.UUID(made["id"]), now()))
    wait = waiting(ops, made["id"])
    await begun(ops)
    first = await ops.wait(made["id"], timeout=0)
    assert ("sync/register", "pending") in missing(first)
    await stack.quiet()
    reply = await wait
    assert (reply.status, reply.body["light"]) == (200, "green")
    assert {p["product"] for p in reply.body["products"]} >= {"items", "accounts", "transactions"}
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_live.transactions") == 30


async def test_an_event_that_came_later_holds_no_wait_up(ops: OpsClient, db: Pool) -> None:
    [item] = await stage(db)
    wait = waiting(ops, item)
    await begun(ops)
    later = (
        "INSERT INTO pluggy_sync.webhook_events"
        " (event_id, body_sha256, event, item_id, body, received_at, lane, state)"
        " VALUES ('later', '', 'item/updated', $1, '', now(), 0, 'pending')"
    )
    await db.execute(later, item)
    await settle(db, item, event_id="event-1")
    come_to_time_out(ops)
    assert (await wait).status == 200
    assert missing(await ops.wait(item, timeout=0)) == [("item/updated", "pending")]


@pytest.mark.parametrize("state", ["dead", "walking"])
async def test_an_event_that_dies_or_waits_for_a_walk_is_not_applied(
    ops: OpsClient, db: Pool, state: str
) -> None:
    [item] = await stage(db)
    wait = waiting(ops, item)
    await begun(ops)
    await settle(db, item, state=state)
    come_to_time_out(ops)
    assert missing(await wait) == [("item/updated", state)]


async def test_what_was_given_up_on_before_is_shown_and_holds_no_wait_up(
    ops: OpsClient, db: Pool
) -> None:
    [item] = await stage(db)
    await settle(db, item, state="dead")
    assert (await ops.wait(item, timeout=0)).status == 200


@pytest.mark.parametrize("product", ["items", "accounts", "loans"])
async def test_an_item_is_not_ready_before_the_first_read_of_each_product(
    ops: OpsClient, db: Pool, product: str
) -> None:
    [item] = await stage(db)
    await settle(db, item)
    await db.execute(
        "INSERT INTO pluggy_sync.product_sync AS p (item_id, product) VALUES ($1, $2)"
        " ON CONFLICT (item_id, product, scope_id) DO UPDATE SET complete_read_at = NULL",
        item,
        product,
    )
    assert missing(await ops.wait(item, timeout=0)) == [(product, "unread")]


async def test_an_account_without_a_read_of_its_transactions_holds_waits_up(
    ops: OpsClient, db: Pool
) -> None:
    [item] = await stage(db)
    await settle(db, item)
    await db.execute(
        "INSERT INTO pluggy.accounts (item_id, id, payload, row_hash, row_version, run_id)"
        " VALUES ($1, gen_random_uuid(), '{}', '', 1, 1)",
        item,
    )
    before = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for parameters in ({}, {"since": before}):
        reply = await ops.wait(item, timeout=0, **parameters)
        assert missing(reply) == [("transactions", "unread")]


async def test_a_wait_for_an_event_id_is_for_all_that_is_stored_under_it(
    ops: OpsClient, db: Pool
) -> None:
    first, second = await stage(db, 2)
    assert missing(await ops.wait(first, timeout=0, event_id="event-1")) == [
        ("item/updated", "pending")
    ]
    # Stored under another item, or not at all.
    for event_id in ("event-2", "unheard"):
        [found] = (await ops.wait(first, timeout=0, event_id=event_id)).body["missing"]
        assert (found["event_id"], found["state"]) == (event_id, "not_received")
    await db.execute(
        "INSERT INTO pluggy_sync.webhook_events"
        " (event_id, body_sha256, event, item_id, body, received_at, lane, state)"
        " VALUES ('event-1', 'other', 'item/updated', $1, '', now(), 0, 'dead')",
        first,
    )
    await db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = 'applied' WHERE state <> 'dead'"
    )
    assert missing(await ops.wait(first, timeout=0, event_id="event-1")) == [
        ("item/updated", "dead")
    ]
    assert (await ops.wait(second, timeout=0, event_id="event-2")).status == 200


async def test_since_waits_for_a_later_complete_read_of_every_product(
    ops: OpsClient, db: Pool
) -> None:
    [item] = await stage(db)
    since = await db.fetchval("SELECT clock_timestamp()")
    wait = waiting(ops, item, since=since.isoformat())
    await begun(ops)
    later = "UPDATE pluggy_sync.product_sync SET complete_read_at = $2 WHERE product = $1"
    await db.execute(later, "items", since + timedelta(microseconds=1))
    await db.execute(later, "accounts", since)
    reply = await ops.wait(item, timeout=0, since=since.isoformat())
    assert missing(reply) == [("accounts", "unread")]
    await db.execute(later, "accounts", since + timedelta(microseconds=1))
    # The event that is pending is not asked about.
    assert (await wait).status == 200


async def test_a_deleted_item_ends_its_waits(ops: OpsClient, db: Pool) -> None:
    deleted, purged = await stage(db, 2)
    waits = [waiting(ops, item) for item in (deleted, purged)]
    await begun(ops, 2)
    await db.execute("UPDATE pluggy.items SET deleted_at = now() WHERE id = $1", deleted)
    await db.execute(
        "INSERT INTO pluggy_sync.purge_receipts"
        " (item_id, item_deleted_at, purge_begun_at, deleted, run_id, last_event_id)"
        " VALUES ($1, now(), now(), '{}', 1, 1)",
        purged,
    )
    await db.execute("DELETE FROM pluggy.items WHERE id = $1", purged)
    # Not before: its wait would have been for an item that is read completely.
    await settle(db, purged)
    for item, wait in zip((deleted, purged), waits, strict=True):
        for reply in (await wait, await ops.call("GET", f"/v1/items/{item}")):
            assert (reply.status, reply.body["error"]) == (410, "item_deleted")


async def test_an_item_that_pluggy_does_not_know_ends_its_waits(
    ops: OpsClient, stack: Stack
) -> None:
    typo = uuid.uuid4()
    await stack.accept(registration(typo, now()))
    wait = waiting(ops, typo)
    await begun(ops)
    await stack.quiet()
    reply = await wait
    assert (reply.status, reply.body["error"]) == (404, "item_not_found")


@pytest.mark.parametrize(
    "query",
    [
        *(
            "timeout=-1",
            "timeout=301",
            "timeout=soon",
            "timeout=1e2",
            "timeout=",
            "timeout=1&timeout=2",
        ),
        *(
            "since=yesterday",
            "since=2026-01-31",
            "since=2026-01-31T12:00:00",
            "since=0001-01-01T00:00:00Z",
        ),
        *("event_id=", "event_id=" + "x" * 201, "event_id=x&since=2026-01-31T12:00:00Z", "until=1"),
    ],
)
async def test_a_wait_with_wrong_parameters_is_refused(ops: OpsClient, query: str) -> None:
    reply = await ops.call("GET", f"/v1/items/{uuid.uuid4()}/wait?{query}")
    assert (reply.status, reply.body["error"]) == (400, "malformed_parameter"), reply.body


async def test_what_is_missing_is_named_up_to_a_bound(ops: OpsClient, db: Pool) -> None:
    [item] = await stage(db)
    await db.execute(
        "INSERT INTO pluggy_sync.product_sync (item_id, product, scope_id)"
        " SELECT $1, 'transactions', gen_random_uuid() FROM generate_series(1, 60)",
        item,
    )
    assert len((await ops.wait(item, timeout=0)).body["missing"]) == MAX_MISSING


async def test_a_client_that_goes_away_is_waited_for_no_more(ops: OpsClient, db: Pool) -> None:
    [item] = await stage(db)
    async with aiohttp.ClientSession() as session:
        url = f"{ops.url}/v1/items/{item}/wait?timeout=300"
        request = asyncio.create_task(session.get(url))
        await begun(ops)
        request.cancel()
        await begun(ops, 0)


async def test_waits_leave_room_for_probes_and_metrics(
    database_url: str, redis_url: str, db: Pool
) -> None:
    [item] = await stage(db)
    async with open_ops(database_url, redis_url, connections=OTHER_CONNECTIONS + 1) as ops:
        first = waiting(ops, item)
        await begun(ops)
        refused = await ops.wait(item)
        assert (refused.status, refused.body["error"]) == (503, "too_many_waits")
        assert "Retry-After" in refused.headers
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await ops.call("GET", path)).status == 200
        await settle(db, item)
        assert (await first).status == 200
        assert (await ops.wait(item)).status == 200


async def test_while_postgres_is_away_waits_go_on_until_their_time_out(
    ops: OpsClient, db: Pool, postgres_url: str
) -> None:
    [item] = await stage(db)
    wait = waiting(ops, item)
    await begun(ops)
    name = await db.fetchval("SELECT quote_ident(current_database())")
    async with db.acquire() as conn:
        await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = $1",
                OPS,
            )
            reply = await ops.wait(item, timeout=0)
            assert (reply.status, reply.body["error"]) == (503, "postgres_away")
            assert "Retry-After" in reply.headers
            assert not wait.done()
            await conn.execute(SETTLE, [item], "applied", "%")
        finally:
            await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert (await wait).status == 200
