"""The daily comparison with Pluggy's list of items: unknown ones, omitted ones, no list at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import structlog
from arq.connections import ArqRedis

from tests.operating.test_cli import CommandLine, complaint, with_pluggy
from tests.support.altered_pluggy import Alter, altered
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import (
    MEU_PLUGGY,
    Stack,
    build_client,
    build_worker,
    fill_budget,
)
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.maintenance import items_list
from worker.maintenance.items_list import NOT_ENABLED, ItemsList

HOUR = timedelta(hours=1)
LIST = "GET /v2/items"


@pytest.fixture
async def world(stack: Stack) -> Stack:
    """A Pluggy with the items of this test alone."""
    await stack.simulator.apost("/_simulator/reset")
    return stack


def task(stack: Stack, *, adopts: bool = False) -> ItemsList:
    return ItemsList(stack.db, stack.worker.engine.client, adopts=adopts)


async def compare(stack: Stack, *, adopts: bool = False) -> None:
    """One day's comparison, and the work that it orders."""
    await stack.db.execute(
        "UPDATE pluggy_sync.periodic_task_leases SET due_at = '-infinity' WHERE name = 'items_list'"
    )
    comparison = task(stack, adopts=adopts)
    while await comparison.compare():
        pass
    await stack.quiet()


async def asked(stack: Stack) -> dict[str, int]:
    """Requests since the last reset, but for keys."""
    return {e: n for e, n in (await stack.requests()).items() if e != "POST /auth"}


async def worklist(stack: Stack) -> list[tuple[str, str]]:
    rows = await stack.db.fetch("SELECT kind, item_id FROM pluggy_ops.worklist")
    return sorted((row["kind"], str(row["item_id"])) for row in rows)


def omitting(*item_ids: str) -> Alter:
    """Pluggy's list omits these items, though they exist."""

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/items"):
            return body
        page = json.loads(body)
        page["results"] = [row for row in page["results"] if row["id"] not in item_ids]
        return json.dumps(page).encode()

    return alter


async def test_an_item_that_is_not_held_goes_to_the_worklist(world: Stack) -> None:
    known = await world.synced_item(transactions=5)
    unknown = await world.item(transactions=5)
    await compare(world)
    assert await worklist(world) == []  # its item/created may be on its way
    await world.shift(2 * HOUR)
    assert await worklist(world) == [("item_not_registered", unknown["id"])]
    [row] = await world.db.fetch(
        "SELECT * FROM pluggy_ops.findings WHERE kind = 'item_not_registered'"
    )
    assert (row["severity"], row["blocked_on"], row["how_many"]) == ("info", "us", 1)
    assert await world.live(known["id"])
    assert not await world.live(unknown["id"])
    await world.process("item/created", unknown["id"])
    assert await worklist(world) == []


async def test_an_unknown_item_that_pluggy_no_longer_lists_is_no_longer_told(world: Stack) -> None:
    unknown = await world.item(transactions=0)
    await compare(world)
    await world.shift(2 * HOUR)
    assert len(await worklist(world)) == 1
    await world.client_deletes(unknown["id"])
    await compare(world)
    assert await worklist(world) == []


async def test_an_incomplete_list_forgets_no_unknown_item(world: Stack) -> None:
    unknown = await world.item(transactions=0)
    held = await world.synced_item(transactions=5)
    await compare(world)
    await world.shift(2 * HOUR)

    async def alter(path: str, body: bytes) -> bytes:
        return b'{"results": []}' if path.startswith("/v2/items") else body

    await world.reset_requests()
    async with altered(world, alter):
        await compare(world)
    assert await worklist(world) == [("item_not_registered", unknown["id"])]
    assert await asked(world) == {LIST: 1}
    assert await world.live(held["id"])


async def test_unknown_items_are_registered_on_request_and_so_many_a_day(
    world: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items_list, "MAX_ADOPTED", 2)
    made = [(await world.item(transactions=5))["id"] for _ in range(3)]
    await compare(world, adopts=True)
    held = [item_id for item_id in made if await world.live(item_id)]
    assert len(held) == 2
    lanes = await world.db.fetch("SELECT event, lane FROM pluggy_sync.webhook_events")
    assert {(row["event"], row["lane"]) for row in lanes} == {("sync/register", Lane.BACKFILL)}
    await compare(world, adopts=True)
    for item_id in made:
        await world.assert_equal(item_id)
    assert await worklist(world) == []


async def test_an_item_that_the_list_omits_is_asked_for_and_stays_if_it_answers(
    world: Stack,
) -> None:
    items = [(await world.synced_item(transactions=5))["id"] for _ in range(2)]
    await world.synced_item(transactions=5, connectorId=MEU_PLUGGY)  # never listed
    await world.reset_requests()
    async with altered(world, omitting(items[0])):
        await compare(world)
    assert await asked(world) == {LIST: 1, "GET /items/{id}": 1}
    assert await world.live(items[0])
    assert await worklist(world) == []


async def test_an_item_that_is_gone_without_event_goes_to_the_worklist(world: Stack) -> None:
    gone, kept = [(await world.synced_item(transactions=5))["id"] for _ in range(2)]
    await world.client_deletes(gone)
    await compare(world)
    assert ("item_not_found", gone) in await worklist(world)
    assert await world.live(gone)
    assert await world.live(kept)
    await world.reset_requests()
    await compare(world)
    assert await asked(world) == {LIST: 1}  # it has been asked for


async def test_so_many_omitted_items_are_asked_for_a_day(
    world: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items_list, "MAX_ASKED", 2)
    items = [(await world.synced_item(transactions=0))["id"] for _ in range(5)]
    named: list[str] = []
    async with altered(world, omitting(*items)):
        for _ in range(2):
            await world.shift(HOUR)
            await world.reset_requests()
            await compare(world)
            assert (await asked(world))["GET /items/{id}"] == 2
            found = (await world.simulator.aget("/_simulator/requests?last=50"))["log"]
            named += [entry["item"] for entry in found if entry["path"].startswith("/items/")]
    assert len(set(named)) == 4  # those first that were read longest ago


async def test_items_that_came_while_the_list_was_read_are_not_asked_for(world: Stack) -> None:
    comparison = task(world)
    await world.item(transactions=0)
    assert await comparison._begin()
    late = await world.synced_item(transactions=0)
    await world.reset_requests()
    async with altered(world, omitting(late["id"])):
        comparison.client = world.worker.engine.client
        assert not await comparison.compare()
        await world.quiet()
    assert await asked(world) == {LIST: 1}


async def test_one_worker_reads_the_list_once_a_day(world: Stack) -> None:
    await compare(world)
    await world.reset_requests()
    for _ in range(2):
        assert not await task(world).compare()
    assert await asked(world) == {}
    due = await world.db.fetchval(
        "SELECT due_at - now() FROM pluggy_sync.periodic_task_leases WHERE name = 'items_list'"
    )
    assert timedelta(hours=23) < due <= timedelta(days=1)


async def test_the_list_is_read_over_all_its_pages(world: Stack) -> None:
    ids = [str(uuid.uuid4()) for _ in range(5)]

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/items"):
            return body
        at = int(path.partition("connectorId=")[2] or 0)
        following = f"?connectorId={at + 1}" if at < 4 else None
        return json.dumps({"results": [{"id": ids[at]}], "next": following}).encode()

    async with altered(world, alter):
        await compare(world)
    found = await world.db.fetch("SELECT item_id FROM pluggy_sync.unknown_items")
    assert {str(row["item_id"]) for row in found} == set(ids)


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [], "next": "?connectorId=1"},
        {"results": [{"id": "x"}], "next": None},
        {"results": [{}], "next": None},
        {"results": [], "page": 1, "totalPages": 3},
        {"results": []},
        {"data": []},
    ],
)
async def test_a_list_that_is_not_whole_has_nothing_asked_for(
    world: Stack, answer: dict[str, Any]
) -> None:
    item = await world.synced_item(transactions=5)

    async def alter(path: str, body: bytes) -> bytes:
        return json.dumps(answer).encode() if path.startswith("/v2/items") else body

    await world.reset_requests()
    async with altered(world, alter):
        await compare(world)
    assert set(await asked(world)) == {LIST}
    assert await world.live(item["id"])


@pytest.fixture
async def without_list(db: Pool, redis: ArqRedis) -> AsyncIterator[Stack]:
    """A Pluggy that has not enabled the list."""
    await fill_budget(redis)
    with SimulatorProcess(list_items=False) as simulator:
        async with build_client(simulator.url, redis) as client:
            yield Stack(db, redis, simulator, client, build_worker(db, redis, client))


async def test_where_the_list_is_not_enabled_that_is_said_once(without_list: Stack) -> None:
    stack = without_list
    item = await stack.synced_item(transactions=5)
    await stack.db.execute("INSERT INTO pluggy_sync.unknown_items VALUES ($1)", uuid.uuid4())
    await stack.shift(2 * HOUR)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await compare(stack)
    said = [line["event"] for line in logs if line["event"].startswith("items_list")]
    assert said == ["items_list_not_enabled"]
    row = await stack.db.fetchrow(
        "SELECT failure_code, due_at - now() AS due_in FROM pluggy_sync.periodic_task_leases"
        " WHERE name = 'items_list'"
    )
    assert row is not None
    assert row["failure_code"] == NOT_ENABLED
    assert row["due_in"] > timedelta(hours=23)
    assert await worklist(stack) == []
    assert await stack.live(item["id"])


async def test_a_list_that_fails_is_tried_again_within_the_hour(world: Stack) -> None:
    await world.refuse(LIST, 500)
    with structlog.testing.capture_logs() as logs:
        await compare(world)
    await world.clear_faults()
    assert [line["event"] for line in logs if "items_list" in line["event"]] == [
        "items_list_failed"
    ]
    due = await world.db.fetchval(
        "SELECT due_at - now() FROM pluggy_sync.periodic_task_leases WHERE name = 'items_list'"
    )
    assert due <= HOUR


@pytest.fixture
def cli(stack: Stack, database_url: str, redis_url: str) -> CommandLine:
    return with_pluggy(stack, database_url, redis_url)


async def test_all_items_of_the_list_are_imported(world: Stack, cli: CommandLine) -> None:
    made = [(await world.item(transactions=5))["id"] for _ in range(3)]
    answer = await cli.json("items", "import", "--from-pluggy")
    assert (answer["accepted"], answer["refused"]) == (3, 0)
    assert {line["item_id"] for line in answer["lines"]} == set(made)
    await world.quiet()
    for item_id in made:
        await world.assert_equal(item_id)


async def test_an_import_says_where_the_list_is_not_enabled(
    without_list: Stack, cli: CommandLine
) -> None:
    result = await cli(
        "items", "import", "--from-pluggy", PLUGGY_BASE_URL=without_list.simulator.url
    )
    assert "has not enabled the list of items" in complaint(result)
