"""Connectors and categories: one request for all, at most one a minute, by one worker at a time."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.support.altered_pluggy import altered
from tests.support.stack import Stack, now
from tests.support.waiting import until
from worker.inbox.accept import Accepted
from worker.inbox.events import parse_webhook
from worker.maintenance.reference_data import refresh_reference_data

MINUTE = timedelta(minutes=1, seconds=1)
ITAU, NUBANK = 201, 612


async def shift(stack: Stack, by: timedelta) -> None:
    """Let time pass, for the reference data too."""
    await stack.shift(by)
    await stack.db.execute(
        "UPDATE pluggy_sync.reference_data_sync SET until = until - $1::interval,"
        " started_at = started_at - $1, complete_read_at = complete_read_at - $1,"
        " absences_asked_at = absences_asked_at - $1, failing_since = failing_since - $1,"
        " failed_at = failed_at - $1, next_try_at = next_try_at - $1, dead_at = dead_at - $1",
        by,
    )


async def refresh(stack: Stack, *, most: int = 5) -> int:
    """Refresh whatever is due; returns how many refreshes that took."""
    done = 0
    while await refresh_reference_data(stack.db, stack.client):
        done += 1
        assert done <= most, "work never ends"
    return done


async def refreshed(stack: Stack) -> None:
    """Both are mirrored, and time has passed in which they may be read again."""
    await refresh(stack)
    await shift(stack, MINUTE)
    await stack.reset_requests()


async def tell_connector(stack: Stack, connector_id: int, **fields: Any) -> int:
    """Deliver a webhook as Pluggy sends it; returns the id of the event's row."""
    body = {
        "event": "connector/status_updated",
        "eventId": str(uuid.uuid4()),
        "id": str(connector_id),
        "data": {"status": "OFFLINE"},
    } | fields
    [accepted] = await stack.accept(parse_webhook(json.dumps(body).encode(), now()))
    assert isinstance(accepted, Accepted)
    assert accepted.row_id is not None
    return accepted.row_id


async def event(stack: Stack, row_id: int) -> asyncpg.Record:
    found = await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.webhook_events WHERE id = $1", row_id
    )
    assert found is not None
    return found


async def outcome(stack: Stack, row_id: int) -> tuple[str, str | None]:
    found = await event(stack, row_id)
    return found["state"], found["reason"]


async def progress(stack: Stack, product: str = "connectors") -> asyncpg.Record:
    found = await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.reference_data_sync WHERE product = $1", product
    )
    assert found is not None
    return found


async def last_run(stack: Stack) -> asyncpg.Record:
    found = await stack.db.fetchrow("SELECT * FROM pluggy_sync.runs ORDER BY seq DESC LIMIT 1")
    assert found is not None
    return found


async def row_versions(stack: Stack, table: str) -> list[tuple[Any, ...]]:
    found = await stack.db.fetch(
        f"SELECT id, xmin::text, ctid::text FROM pluggy.{table} ORDER BY id"  # noqa: S608 - constants
    )
    return [tuple(r) for r in found]


@asynccontextmanager
async def health(stack: Stack, connector_id: int, status: str) -> AsyncIterator[None]:
    """A connector's health at the simulator, which other tests use too."""
    await stack.simulator.apost(f"/_simulator/connectors/{connector_id}", {"status": status})
    yield
    await stack.simulator.apost(f"/_simulator/connectors/{connector_id}", {"status": "ONLINE"})


async def test_connectors_and_categories_are_mirrored_at_the_start(stack: Stack) -> None:
    await stack.reset_requests()
    assert await refresh(stack) == 2
    truth = await stack.simulator.aget("/_simulator/truth")
    for table in ("connectors", "categories"):
        stored = await stack.db.fetch(f"SELECT id, payload FROM pluggy_live.{table}")  # noqa: S608 - constants
        assert {r["id"]: json.loads(r["payload"]) for r in stored} == {
            r["id"]: r for r in truth[table]
        }
    requests = await stack.requests()
    assert (requests["GET /connectors"], requests["GET /categories"]) == (1, 1)
    [itau] = await stack.db.fetch("SELECT * FROM pluggy_live.connectors WHERE id = $1", ITAU)
    assert (itau["name"], itau["is_open_finance"], itau["health_status"]) == (
        "Itaú",
        False,
        "ONLINE",
    )
    [category] = await stack.db.fetch("SELECT * FROM pluggy_live.categories WHERE id = '07010001'")
    assert (category["parent_id"], category["description"]) == ("07010000", "Internet")


async def test_every_row_names_the_run_that_wrote_it_and_the_run_says_what_it_did(
    stack: Stack,
) -> None:
    await refresh(stack)
    runs = await stack.db.fetch("SELECT * FROM pluggy_sync.runs ORDER BY seq")
    assert [(r["kind"], r["item_id"], r["outcome"]) for r in runs] == [
        ("reference_data", None, "done")
    ] * 2
    for run in runs:
        [product] = json.loads(run["plan"])
        written = await stack.db.fetchval(
            f"SELECT count(*) FROM pluggy.{product} WHERE run_id = $1",  # noqa: S608 - constants
            run["id"],
        )
        assert run["inserted"] == run["seen"] == written > 10
        assert run["api_requests"] >= 1


async def test_an_unchanged_refresh_writes_no_row(stack: Stack) -> None:
    await refreshed(stack)
    before = await row_versions(stack, "connectors"), await row_versions(stack, "categories")
    await shift(stack, timedelta(days=1))
    assert await refresh(stack) == 2
    assert (
        await row_versions(stack, "connectors"),
        await row_versions(stack, "categories"),
    ) == before
    run = await last_run(stack)
    assert (run["inserted"], run["changed"], run["deleted"]) == (0, 0, 0)
    assert run["unchanged"] == run["seen"] > 10


async def test_a_status_event_brings_the_connectors_new_status(stack: Stack) -> None:
    await refreshed(stack)
    async with health(stack, ITAU, "OFFLINE"):
        row_id = await tell_connector(stack, ITAU)
        assert (await event(stack, row_id))["connector_id"] == ITAU
        assert await refresh(stack) == 1
        stored = await stack.db.fetchrow("SELECT * FROM pluggy_live.connectors WHERE id = $1", ITAU)
    assert stored is not None
    assert stored["health_status"] == "OFFLINE"
    settled, run = await event(stack, row_id), await last_run(stack)
    assert (settled["state"], settled["run_id"]) == ("applied", stored["run_id"])
    assert (run["id"], run["changed"], run["event_ids"]) == (stored["run_id"], 1, [row_id])
    assert await stack.requests() == {"GET /connectors": 1}


async def test_any_number_of_events_costs_one_request_a_minute(stack: Stack) -> None:
    await refreshed(stack)
    first = [await tell_connector(stack, n) for n in (ITAU, NUBANK, ITAU)]
    assert await refresh(stack) == 1
    later = await tell_connector(stack, NUBANK)
    assert await refresh(stack) == 0
    assert [await outcome(stack, i) for i in (*first, later)] == [("applied", None)] * 3 + [
        ("pending", None)
    ]
    assert await stack.requests() == {"GET /connectors": 1}
    await shift(stack, MINUTE)
    assert await refresh(stack) == 1
    assert await outcome(stack, later) == ("applied", None)


async def test_an_event_that_comes_while_the_list_is_read_waits_for_the_next(stack: Stack) -> None:
    await refreshed(stack)
    early = await tell_connector(stack, ITAU)
    await stack.fault("GET /connectors", kind="slow", seconds=1.0, times=1)
    task = asyncio.create_task(refresh_reference_data(stack.db, stack.client))

    async def is_asked() -> bool:
        return bool((await stack.requests()).get("GET /connectors"))

    await until(is_asked)
    late = await tell_connector(stack, ITAU)
    assert await task
    assert await outcome(stack, early) == ("applied", None)
    assert await outcome(stack, late) == ("pending", None)


async def test_two_workers_at_once_ask_once(stack: Stack) -> None:
    await refreshed(stack)
    await tell_connector(stack, ITAU)
    turns = [refresh_reference_data(stack.db, stack.client) for _ in range(4)]
    assert sorted(await asyncio.gather(*turns)) == [False, False, False, True]
    assert await stack.requests() == {"GET /connectors": 1}


async def test_a_worker_whose_lease_another_has_taken_writes_nothing(stack: Stack) -> None:
    await refreshed(stack)
    row_id = await tell_connector(stack, ITAU)
    is_asked, goes_on = asyncio.Event(), asyncio.Event()

    async def hold_the_first(path: str, body: bytes) -> bytes:
        if path.startswith("/connectors") and not is_asked.is_set():
            is_asked.set()
            await goes_on.wait()
        return body

    async with altered(stack, hold_the_first):
        client = stack.worker.engine.client
        stalled = asyncio.create_task(refresh_reference_data(stack.db, client))
        await is_asked.wait()
        await shift(stack, timedelta(minutes=2))
        assert await refresh_reference_data(stack.db, client)
        run = await last_run(stack)
        goes_on.set()
        assert await stalled
    assert await last_run(stack) == run
    assert (await event(stack, row_id))["run_id"] == run["id"]
    open_runs = "SELECT count(*) FROM pluggy_sync.runs WHERE finished_at IS NULL"
    assert await stack.db.fetchval(open_runs) == 0


async def test_both_are_read_again_after_a_day_without_any_event(stack: Stack) -> None:
    await refreshed(stack)
    await shift(stack, timedelta(hours=23))
    assert await refresh(stack) == 0
    await shift(stack, timedelta(hours=1))
    assert await refresh(stack) == 2
    assert await stack.requests() == {"GET /connectors": 1, "GET /categories": 1}


async def test_an_items_unknown_connector_is_fetched(stack: Stack) -> None:
    await stack.synced_item(transactions=5, connectorId=NUBANK)
    await refreshed(stack)
    assert await refresh(stack) == 0
    await stack.db.execute("DELETE FROM pluggy.connectors WHERE id = $1", NUBANK)
    assert await refresh(stack) == 1
    found = await stack.db.fetchval("SELECT name FROM pluggy_live.connectors WHERE id = $1", NUBANK)
    assert found == "Nubank"


async def test_a_connector_that_pluggy_does_not_know_is_asked_for_once(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    await refreshed(stack)
    await stack.db.execute("UPDATE pluggy.items SET connector_id = 99 WHERE id = $1", item["id"])
    assert await refresh(stack) == 1
    assert await stack.requests() == {"GET /connectors": 1, "GET /connectors/{id}": 1}
    await shift(stack, MINUTE)
    assert await refresh(stack) == 0


async def test_an_event_about_an_unknown_connector_costs_no_further_request(stack: Stack) -> None:
    await refreshed(stack)
    row_id = await tell_connector(stack, 987654)
    await refresh(stack)
    assert await outcome(stack, row_id) == ("ignored", "connector_unknown")
    assert await stack.requests() == {"GET /connectors": 1}


async def test_a_connector_is_tombstoned_when_a_404_proves_it(stack: Stack) -> None:
    await refreshed(stack)
    for connector_id in (31, 32):
        await stack.db.execute(
            "INSERT INTO pluggy.connectors (id, payload, row_hash, row_version, run_id)"
            " VALUES ($1, '{}', '', 1, 0)",
            connector_id,
        )
    await tell_connector(stack, 31)
    await refresh(stack)
    stored = "SELECT id FROM pluggy_live.connectors WHERE id IN (31, 32)"
    # Named by an event, 31 is asked for at once; 32 with the absences of the day.
    assert [r["id"] for r in await stack.db.fetch(stored)] == [32]
    await shift(stack, timedelta(days=1))
    await refresh(stack)
    assert await stack.db.fetch(stored) == []
    kept = await stack.db.fetchval("SELECT count(*) FROM pluggy.connectors WHERE id IN (31, 32)")
    assert kept == 2


async def test_an_empty_list_tombstones_nothing(stack: Stack) -> None:
    await refreshed(stack)
    before = await row_versions(stack, "connectors")
    row_id = await tell_connector(stack, ITAU)
    await stack.fault("GET /connectors", kind="empty", times=1)
    await refresh(stack)
    assert await row_versions(stack, "connectors") == before
    assert (await progress(stack))["failure_code"] == "empty_answer"
    assert await outcome(stack, row_id) == ("pending", None)
    await shift(stack, timedelta(hours=1))
    await refresh(stack)
    assert await outcome(stack, row_id) == ("applied", None)
    assert (await progress(stack))["attempts"] == 0


@pytest.mark.parametrize("kind", ["garbage", "reset", "status"])
async def test_what_fails_is_tried_again_after_a_growing_pause(stack: Stack, kind: str) -> None:
    await refreshed(stack)
    row_id = await tell_connector(stack, ITAU)
    await stack.fault("GET /connectors", kind=kind, status=503, times=4)
    for attempts in range(1, 5):
        assert await refresh(stack) == 1
        state = await progress(stack)
        assert (state["attempts"], state["dead_at"], state["token"]) == (attempts, None, None)
        assert state["next_try_at"] > state["failed_at"]
        assert await refresh(stack) == 0
        await shift(stack, timedelta(hours=2))
    await refresh(stack)
    assert await outcome(stack, row_id) == ("applied", None)


async def test_a_refusal_is_a_dead_letter_and_the_next_event_tries_again(stack: Stack) -> None:
    await refreshed(stack)
    first = await tell_connector(stack, ITAU)
    await stack.fault("GET /connectors", kind="status", status=422, times=1)
    await refresh(stack)
    state, reason = await outcome(stack, first)
    assert state == "dead"
    assert reason is not None
    assert reason.startswith("422:")
    assert (await event(stack, first))["error_id"] == (await progress(stack))["error_id"]
    shown = await stack.db.fetchval(
        "SELECT reason FROM pluggy_ops.dead_letters WHERE id = $1", first
    )
    assert shown == reason
    await shift(stack, MINUTE)
    assert await refresh(stack) == 0
    second = await tell_connector(stack, ITAU)
    assert await refresh(stack) == 1
    assert await outcome(stack, second) == ("applied", None)


async def test_a_failure_of_three_days_is_given_up(stack: Stack) -> None:
    await refreshed(stack)
    row_id = await tell_connector(stack, ITAU)
    await stack.fault("GET /connectors", kind="status", status=500, times=2)
    await refresh(stack)
    await shift(stack, timedelta(days=3))
    assert await outcome(stack, row_id) == ("pending", None)
    await refresh(stack)
    assert (await outcome(stack, row_id))[0] == "dead"


async def test_refused_keys_halt_everything_until_a_probe_answers(stack: Stack) -> None:
    await stack.fault("POST /auth", kind="status", status=401, rate=1.0)
    assert await refresh(stack) == 1
    halted = "SELECT failure_code FROM pluggy_sync.halts WHERE halted_at IS NOT NULL"
    assert await stack.db.fetchval(halted) == "auth:401"
    assert (await progress(stack))["attempts"] == 0
    await stack.clear_faults()
    assert await refresh(stack) == 0
    await shift(stack, MINUTE)
    assert await refresh(stack) == 0, "a halt is probed apart"
    await stack.tend()
    assert await stack.db.fetchval(halted) is None
    assert await refresh(stack) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_list_halts_nothing_and_is_tried_again(stack: Stack, status: int) -> None:
    await stack.fault("GET /connectors", kind="status", status=status, rate=1.0)
    await refresh(stack)
    item = await stack.synced_item(transactions=5)
    assert await stack.states(item["id"]) == ["applied"]
    assert (await stack.requests())["POST /auth"] == 1
    await stack.clear_faults()
    await shift(stack, timedelta(hours=1))
    await refresh(stack)
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy.connectors") > 0


async def test_a_retired_endpoint_does_not_halt_the_items(stack: Stack) -> None:
    await stack.fault("GET /connectors", kind="status", status=410, times=1)
    await refresh(stack)
    item = await stack.synced_item(transactions=5)
    assert await stack.states(item["id"]) == ["applied"]
    assert (await progress(stack))["dead_at"] is not None


async def test_a_row_that_postgres_refuses_is_set_aside_and_the_others_are_stored(
    stack: Stack,
) -> None:
    await stack.db.execute("ALTER TABLE pluggy.connectors ADD CHECK (name <> 'Nubank')")
    assert await refresh(stack) == 2
    truth = await stack.simulator.aget("/_simulator/truth")
    stored = await stack.db.fetch("SELECT id FROM pluggy_live.connectors")
    assert {r["id"] for r in stored} == {r["id"] for r in truth["connectors"]} - {NUBANK}
    rejected = await stack.db.fetch("SELECT product, row_id, reason FROM pluggy_sync.rejected_rows")
    assert [tuple(r) for r in rejected] == [("connectors", str(NUBANK), "CheckViolationError")]


async def incomplete(stack: Stack) -> list[asyncpg.Record]:
    return await stack.db.fetch(
        "SELECT * FROM pluggy_ops.findings WHERE kind = 'reference_data_incomplete'"
    )


async def test_both_lists_are_read_by_cursor_to_their_last_page(stack: Stack) -> None:
    await stack.simulator.apost("/_simulator/lists", {"model": "cursor", "pageSize": 7})
    try:
        await refresh(stack)
    finally:
        await stack.simulator.apost("/_simulator/lists", {"model": "page"})
    truth = await stack.simulator.aget("/_simulator/truth")
    for table in ("connectors", "categories"):
        rows = await stack.db.fetch(f"SELECT id FROM pluggy_live.{table}")  # noqa: S608
        assert {row["id"] for row in rows} == {row["id"] for row in truth[table]}
    assert await incomplete(stack) == []


async def test_nothing_is_missing_from_a_list_that_may_go_on(stack: Stack) -> None:
    await refreshed(stack)
    await stack.simulator.apost("/_simulator/lists", {"model": "cursor", "pageSize": 2})
    await stack.fault("GET /connectors", kind="no_paging", query="sandbox=")
    try:
        await shift(stack, timedelta(days=2))
        await stack.reset_requests()
        await refresh(stack)
    finally:
        await stack.simulator.apost("/_simulator/lists", {"model": "page"})
    assert "GET /connectors/{id}" not in await stack.requests()
    [found] = await incomplete(stack)
    assert (found["severity"], found["blocked_on"]) == ("yellow", "us")
    assert "connectors" in found["what"]
    await shift(stack, timedelta(days=2))
    await refresh(stack)
    assert await incomplete(stack) == []
