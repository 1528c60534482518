"""Real-time balances: Pluggy changes an account outside of any collection, unannounced."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from arq.connections import ArqRedis

from ops.demo.processes import ZONE
from tests.operating.test_resync import environment, resync
from tests.support.altered_pluggy import altered
from tests.support.receiver import HEADER, SECRET, Client, open_receiver
from tests.support.simulator_tools import Caller
from tests.support.stack import Stack
from worker.infra.lanes import Lane

__all__ = ["environment"]

OPEN_FINANCE = 600
ACCOUNTS = ["accounts"]
HOUR = timedelta(hours=1)


@pytest.fixture
async def doorway(database_url: str, redis: ArqRedis, redis_url: str) -> AsyncIterator[Client]:
    async with open_receiver(database_url, redis_url, patient=True) as running:
        yield running


async def bank_account(stack: Stack) -> tuple[str, str]:
    """An item with a bank account, and that account."""
    item = await stack.synced_item(transactions=20, accounts=2, connectorId=OPEN_FINANCE)
    rows = (await stack.live(item["id"], "accounts")).items()
    return item["id"], next(i for i, row in rows if row["type"] == "BANK")


async def read_balance(stack: Stack, account_id: str) -> None:
    """Ask Pluggy as the company's own code does."""
    Caller(stack.simulator).get(f"/accounts/{account_id}/balance")
    await stack.reset_requests()


async def balances(stack: Stack, item_id: str, account_id: str) -> tuple[Any, Any]:
    """Of the mirror and of Pluggy."""
    stored = (await stack.live(item_id, "accounts"))[account_id]["balance"]
    true = (await stack.truth(item_id, "accounts"))[account_id]["balance"]
    return float(stored), true


async def drift(stack: Stack) -> list[tuple[str, int]]:
    rows = await stack.db.fetch("SELECT product, changed FROM pluggy_ops.drift")
    return [(row["product"], row["changed"]) for row in rows]


async def test_a_refresh_reads_the_accounts_at_once_for_one_request(stack: Stack) -> None:
    item_id, account_id = await bank_account(stack)
    await stack.shift(5 * HOUR)
    await read_balance(stack, account_id)
    stored, true = await balances(stack, item_id, account_id)
    assert stored != true
    await stack.order("sync/accounts", item_id, Lane.LIVE)
    await stack.quiet()
    assert await stack.requests() == {"GET /accounts": 1}
    await stack.assert_equal(item_id)
    assert set(await stack.states(item_id)) == {"applied"}


async def test_refreshes_that_wait_together_cost_one_request(stack: Stack) -> None:
    item_id, account_id = await bank_account(stack)
    await read_balance(stack, account_id)
    for _ in range(3):
        await stack.order("sync/accounts", item_id, Lane.LIVE)
    await stack.quiet()
    assert await stack.requests() == {"GET /accounts": 1}
    await stack.assert_equal(item_id)


async def test_a_refresh_of_an_item_that_is_collected_reads_its_accounts_too(stack: Stack) -> None:
    item_id, account_id = await bank_account(stack)
    await stack.collect(item_id, status="UPDATING")
    await stack.process("item/login_succeeded", item_id)
    await read_balance(stack, account_id)
    await stack.order("sync/accounts", item_id, Lane.LIVE)
    await stack.quiet()
    stored, true = await balances(stack, item_id, account_id)
    assert stored == true


async def test_a_refresh_of_an_unknown_item_registers_it(stack: Stack) -> None:
    item = await stack.item(transactions=10, connectorId=OPEN_FINANCE)
    await stack.process_order("sync/accounts", item["id"], Lane.LIVE)
    await stack.assert_equal(item["id"])
    looks = await stack.db.fetch("SELECT webhook_check_at FROM pluggy_sync.item_reconciliations")
    assert len(looks) == 1


async def test_an_account_that_a_refresh_finds_is_read_whole(stack: Stack) -> None:
    item_id, _ = await bank_account(stack)
    await stack.collect(item_id, products={"accounts": {"created": 1}})
    await stack.process_order("sync/accounts", item_id, Lane.LIVE)
    await stack.assert_equal(item_id, ["accounts", "transactions"])


async def test_a_refresh_does_not_put_off_the_missed_webhook_check(stack: Stack) -> None:
    """It fetches no item, so nothing new is known of the next collection."""
    item_id, _ = await bank_account(stack)
    await stack.shift(26 * HOUR)
    query = "SELECT webhook_check_at FROM pluggy_sync.item_reconciliations"
    before = await stack.db.fetchval(query)
    await stack.process_order("sync/accounts", item_id, Lane.LIVE)
    assert await stack.db.fetchval(query) == before


async def test_a_verify_calls_a_balance_alone_no_drift(stack: Stack) -> None:
    item_id, account_id = await bank_account(stack)
    await stack.shift(HOUR)
    await read_balance(stack, account_id)
    await stack.process_order("sync/verify", item_id)
    await stack.assert_equal(item_id)
    assert await drift(stack) == []


@pytest.mark.parametrize(
    "change", [{"name": "another"}, {"balance": 17.5, "number": "1"}, {"bankData": {"x": 1}}]
)
async def test_a_verify_calls_any_other_change_of_an_account_drift(
    stack: Stack, change: dict[str, Any]
) -> None:
    item_id, account_id = await bank_account(stack)

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith("/accounts?"):
            return body
        page = json.loads(body)
        page["results"] = [r | change if r["id"] == account_id else r for r in page["results"]]
        return json.dumps(page).encode()

    await stack.shift(HOUR)
    async with altered(stack, alter):
        await stack.process_order("sync/verify", item_id)
    assert await drift(stack) == [("accounts", 1)]


async def test_a_resync_of_the_accounts_alone_asks_once_for_each_item(
    stack: Stack, environment: dict[str, str]
) -> None:
    item_id, account_id = await bank_account(stack)
    await read_balance(stack, account_id)
    announced = await resync(environment, item_id, "--product", "accounts")
    assert (announced["ordered"], announced["requests"]) == (1, 1)
    lanes = await stack.db.fetch(
        "SELECT lane FROM pluggy_sync.webhook_events WHERE event = 'sync/accounts'"
    )
    assert [row["lane"] for row in lanes] == [Lane.LIVE]
    await stack.quiet()
    assert await stack.requests() == {"GET /accounts": 1}
    await stack.assert_equal(item_id)


async def test_all_accounts_are_read_behind_live_work(
    stack: Stack, environment: dict[str, str]
) -> None:
    await bank_account(stack)
    assert (await resync(environment, "--all", "--product", "accounts"))["ordered"] == 1
    lane = await stack.db.fetchval(
        "SELECT lane FROM pluggy_sync.webhook_events WHERE event = 'sync/accounts'"
    )
    assert lane == Lane.BACKFILL


async def post(doorway: Client, body: object) -> tuple[int, Any]:
    reply = await doorway.call("POST", "/items", json=body, headers={HEADER: SECRET})
    return reply.status, reply.body


async def test_the_receiver_takes_a_refresh(doorway: Client, stack: Stack) -> None:
    item_id, account_id = await bank_account(stack)
    await read_balance(stack, account_id)
    body = {"itemId": item_id, "refresh": ACCOUNTS}
    for _ in range(2):
        assert await post(doorway, body) == (202, {"status": "accepted"})
    await stack.quiet()
    assert await stack.requests() == {"GET /accounts": 1}
    await stack.assert_equal(item_id)


@pytest.mark.parametrize("refresh", [[], ["loans"], ["accounts", "loans"], "accounts", None])
async def test_the_receiver_refuses_what_it_cannot_refresh(
    doorway: Client, refresh: object
) -> None:
    status, answer = await post(doorway, {"itemId": str(uuid.uuid4()), "refresh": refresh})
    detail = 'refresh can only be ["accounts"]'
    assert (status, answer) == (400, {"error": "malformed_event", "detail": detail})


async def snapshots(stack: Stack, account_id: str) -> list[tuple[Any, Any]]:
    """Day and balance of each snapshot of an account, by day."""
    rows = await stack.db.fetch(
        "SELECT day, balance FROM pluggy_sync.balance_snapshots WHERE account_id = $1 ORDER BY day",
        uuid.UUID(account_id),
    )
    return [(row["day"], float(row["balance"])) for row in rows]


async def reported(stack: Stack, item_id: str, account_id: str) -> tuple[Any, Any]:
    """The day of the account's updatedAt in the workers' zone, and its balance, at Pluggy."""
    row = (await stack.truth(item_id, "accounts"))[account_id]
    return datetime.fromisoformat(row["updatedAt"]).astimezone(ZoneInfo(ZONE)).date(), row[
        "balance"
    ]


async def test_a_day_s_snapshot_is_its_last_balance_and_stays_when_later_ones_come(
    late_stack: Stack,
) -> None:
    stack = late_stack
    item_id, account_id = await bank_account(stack)
    said = [await reported(stack, item_id, account_id)]
    for passed in (0, 24 * 3600):
        await stack.simulator.apost("/_simulator/clock", {"advance": passed})
        await read_balance(stack, account_id)
        await stack.process_order("sync/accounts", item_id)
        said.append(await reported(stack, item_id, account_id))
        assert await snapshots(stack, account_id) == sorted(dict(said).items())
    assert len(set(said)) == 3
    await stack.process_order("sync/verify", item_id)
    assert await snapshots(stack, account_id) == sorted(dict(said).items())


@pytest.mark.parametrize(
    ("updated_at", "days_ago"), [("2999-01-01T00:00:00.000Z", 0), ("1999-01-01T00:00:00Z", 365)]
)
async def test_a_snapshot_is_of_no_day_to_come_and_at_most_a_year_old(
    stack: Stack, updated_at: str, days_ago: int
) -> None:
    def a_day() -> date:
        return datetime.now(ZoneInfo(ZONE)).date() - timedelta(days_ago)

    await stack.fault("GET /accounts", kind="fields", fields={"updatedAt": updated_at}, rate=1.0)
    before = a_day()
    _, account_id = await bank_account(stack)
    [(day, _)] = await snapshots(stack, account_id)
    leap_day = timedelta(days=1 if days_ago else 0)
    assert before - leap_day <= day <= a_day()
