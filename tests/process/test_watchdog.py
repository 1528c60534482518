"""No callback blocks the event loop: long work is sliced, or runs in a thread."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest
from arq.connections import ArqRedis

from tests.support.pluggy_stub import PluggyStub, Said, reading
from tests.support.receiver import event_body, open_receiver
from tests.support.stack import Stack
from tests.support.watchdog import MAX_CALLBACK_S, watched
from tests.syncing.test_by_id import one_account, tell_updated, unknown_ids
from worker.infra.postgres import Pool
from worker.maintenance.reference_data import refresh_reference_data
from worker.pluggy_api.payloads import decode_envelope


async def busy(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_the_watchdog_sees_a_callback_that_takes_long() -> None:
    with watched() as found:
        await asyncio.create_task(busy(2 * MAX_CALLBACK_S))
    with pytest.raises(AssertionError):
        found.assert_quick()
    with watched() as found:
        await asyncio.create_task(busy(MAX_CALLBACK_S / 10))
    found.assert_quick()


async def test_pages_of_500_rows_hold_up_nothing(stack: Stack) -> None:
    item = await stack.item(transactions=2000, accounts=1)
    await stack.tell("item/created", item["id"])
    with watched() as found:
        await stack.quiet()
    assert len(await stack.live(item["id"])) == 2000
    found.assert_quick()


async def test_30_000_ids_hold_up_nothing(stack: Stack) -> None:
    item_id, account, _ = await one_account(stack)
    ids = unknown_ids(30_000)
    for start in range(0, 30_000, 5_000):
        await tell_updated(stack, item_id, account, ids[start : start + 5_000])
    with watched() as found:
        await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    found.assert_quick()


async def test_60_events_of_5_000_ids_hold_up_no_other_delivery(
    database_url: str, db: Pool, redis_url: str
) -> None:
    ids = unknown_ids(5_000)
    bodies = [
        json.dumps(
            event_body(
                event="transactions/updated", accountId=str(uuid.uuid4()), transactionIds=ids
            )
        ).encode()
        for _ in range(60)
    ]
    async with open_receiver(database_url, redis_url, patient=True) as receiver_client:
        with watched() as found:
            # In groups, so that the client in this loop is not what is measured.
            for start in range(0, 60, 20):
                replies = await asyncio.gather(
                    *map(receiver_client.deliver, bodies[start : start + 20])
                )
                assert {reply.status for reply in replies} == {202}
    assert await db.fetchval("SELECT count(*) FROM pluggy_sync.webhook_events") == 60
    found.assert_quick()


def wide(rows: int, size: int) -> bytes:
    """A list answer of many rows, each with many fields."""
    fields = {f"field{n}": "\u2713 text" for n in range(size)}
    return json.dumps({"results": [{"id": n} | fields for n in range(rows)]}).encode()


async def test_an_answer_of_many_mib_is_decoded_beside_the_loop(redis: ArqRedis) -> None:
    body = wide(rows=1000, size=300)
    assert len(decode_envelope(body).results) == 1000
    async with PluggyStub(Said(body=body)) as pluggy, reading(pluggy.url, redis) as reader:
        with watched() as found:
            assert len((await reader.transactions(uuid.UUID(int=1))).rows) == 1000
    found.assert_quick()


async def test_a_large_list_of_connectors_holds_up_nothing(db: Pool, redis: ArqRedis) -> None:
    rows = json.loads(wide(rows=400, size=200))["results"]
    page = {"results": rows, "page": 1, "total": 400, "totalPages": 1}
    body = json.dumps(page).encode()
    async with PluggyStub(Said(body=body)) as pluggy, reading(pluggy.url, redis) as reader:
        with watched() as found:
            await refresh_reference_data(db, reader.client)
    assert await db.fetchval("SELECT count(*) FROM pluggy.connectors") == 400
    found.assert_quick()
