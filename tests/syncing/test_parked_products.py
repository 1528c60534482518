"""Refusals of a single account or item fail their step; refusals of a product park it alone."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.support.stack import Stack, now
from worker.inbox.events import parse_webhook
from worker.store import halts

HOUR = timedelta(hours=1)
OTHERS = ("accounts", "transactions", "bills", "investments", "identities")
FORBIDDEN = {"code": 403, "message": "Forbidden"}


async def mend(stack: Stack) -> None:
    await stack.clear_faults()


async def halted(stack: Stack) -> str | None:
    code: str | None = await stack.db.fetchval("SELECT failure_code FROM pluggy_sync.halts")
    return code


async def parked(stack: Stack) -> list[asyncpg.Record]:
    return await stack.db.fetch("SELECT * FROM pluggy_sync.parked_products ORDER BY product")


async def parked_products(stack: Stack) -> list[str]:
    return [record["product"] for record in await parked(stack)]


async def synced(stack: Stack, number: int, **options: Any) -> list[str]:
    options = {"transactions": 20, "accounts": 2} | options
    return [(await stack.synced_item(**options))["id"] for _ in range(number)]


async def update(stack: Stack, item_ids: list[str], **changes: Any) -> None:
    """A collection of each with its webhook."""
    for item_id in item_ids:
        await stack.collect(item_id, **({"created": 2} | changes))
        await stack.tell("item/updated", item_id)


async def last_states(stack: Stack, item_ids: list[str]) -> set[str]:
    return {(await stack.states(item_id))[-1] for item_id in item_ids}


async def freshness(stack: Stack, item_id: str, product: str) -> tuple[str, str | None]:
    row = await stack.db.fetchrow(
        "SELECT state, reason FROM pluggy_ops.freshness WHERE item_id = $1 AND product = $2",
        item_id,
        product,
    )
    assert row is not None
    return row["state"], row["reason"]


# One thing


@pytest.mark.parametrize("status", [401, 403, 410])
@pytest.mark.parametrize("code", [None, "CONSENT_EXPIRED", "API_KEY_MISSING_OR_INVALID"])
async def test_a_refused_list_of_one_item_is_that_step_s_failure(
    stack: Stack, status: int, code: str | None
) -> None:
    bad, good = await synced(stack, 2)
    await stack.reset_requests()
    more = {} if code is None else {"codeDescription": code}
    await stack.refuse("GET /loans", status, query=f"itemId={bad}", **more)
    await update(stack, [bad, good])
    await stack.quiet()
    assert (await halted(stack), await parked(stack)) == (None, [])
    assert await last_states(stack, [good]) == {"applied"}
    assert await last_states(stack, [bad]) == {"pending"}
    await stack.assert_equal(bad, OTHERS)
    await stack.assert_equal(good)
    step = await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.product_sync WHERE item_id = $1 AND product = 'loans'", bad
    )
    assert step is not None
    name = f"{status}:{code or 'no_code'}"
    assert (step["failure_class"], step["failure_code"]) == ("refused", name)
    assert step["failure_endpoint"] == "GET /loans"
    assert await freshness(stack, bad, "loans") == ("stale", name)
    assert (await stack.requests()).get("POST /auth", 0) == 0, "an answered key is not renewed"
    await mend(stack)
    await stack.after(HOUR)
    assert await last_states(stack, [bad]) == {"applied"}
    await stack.assert_equal(bad)


async def test_a_refused_account_is_that_account_s_failure(stack: Stack) -> None:
    [item_id] = await synced(stack, 1)
    bad, good = await stack.live(item_id, "accounts")
    announced = {"query": f"accountId={bad}", "codeDescription": "CONSENT_EXPIRED"}
    await stack.refuse("GET /v2/transactions", 401, **announced)
    await stack.collect(item_id, created=4)
    for account_id in (bad, good):
        await stack.tell("transactions/created", item_id, accountId=account_id, transactionsCount=2)
    await stack.quiet()
    assert (await halted(stack), await parked(stack)) == (None, [])
    assert (await stack.states(item_id))[-2:] == ["pending", "applied"]


async def test_a_refused_step_is_dead_after_three_days(stack: Stack) -> None:
    bad, _ = await synced(stack, 2)
    await stack.refuse("GET /loans", 403, query=f"itemId={bad}")
    await update(stack, [bad])
    for _ in range(80):
        await stack.quiet()
        await stack.shift(timedelta(hours=1, seconds=1))
    event = (await stack.events(bad))[-1]
    assert (event["state"], event["reason"]) == ("dead", "403:no_code")


async def test_a_limit_of_one_account_defers_that_step_alone(stack: Stack) -> None:
    [item_id] = await synced(stack, 1)
    bad, good = await stack.live(item_id, "accounts")
    limit = {"retryAfter": 85092, "codeDescription": "ACCOUNT_OPEN_FINANCE_RATE_LIMIT"}
    await stack.refuse("GET /v2/transactions", 429, query=f"accountId={bad}", **limit)
    await stack.collect(item_id, created=4)
    for account_id in (bad, good):
        await stack.tell("transactions/created", item_id, accountId=account_id, transactionsCount=2)
    await stack.quiet()
    assert (await stack.states(item_id))[-2:] == ["pending", "applied"]
    due = await stack.db.fetchrow(
        "SELECT extract(epoch FROM next_try_at - now()) AS wait_s, attempts, stale_reason,"
        " failure_endpoint FROM pluggy_sync.product_sync"
        " WHERE item_id = $1 AND product = 'transactions' AND scope_id = $2",
        item_id,
        uuid.UUID(bad),
    )
    assert due is not None
    assert 85000 < due["wait_s"] < 85200
    assert (due["attempts"], due["stale_reason"], due["failure_endpoint"]) == (
        0,
        "429:ACCOUNT_OPEN_FINANCE_RATE_LIMIT",
        "GET /v2/transactions",
    )


# A product


@pytest.mark.parametrize("code", [None, "FORBIDDEN_FOR_YOUR_PLAN"])
async def test_a_product_refused_for_several_items_is_parked_alone(
    stack: Stack, code: str | None
) -> None:
    items = await synced(stack, 7)
    more = {} if code is None else {"codeDescription": code}
    await stack.refuse("GET /loans", 403, **more)
    await update(stack, items)
    await stack.quiet()
    assert await halted(stack) is None
    [park] = await parked(stack)
    name = f"403:{code or 'no_code'}"
    assert (park["product"], park["endpoint"], park["failure_code"]) == (
        "loans",
        "GET /loans",
        name,
    )
    assert f"GET /loans ({name})" in park["advice"]
    assert await last_states(stack, items) == {"applied"}, "parked steps hold no event"
    for item_id in items:
        await stack.assert_equal(item_id, OTHERS)
        assert await freshness(stack, item_id, "loans") == ("stale", "product_parked")
    assert await stack.db.fetchval("SELECT sum(attempts) FROM pluggy_sync.product_sync") == 0, (
        "no attempts of what is parked"
    )


async def test_a_parked_product_is_not_asked_for_until_its_hourly_probe(stack: Stack) -> None:
    items = await synced(stack, 7)
    await stack.refuse("GET /loans", 403)
    await update(stack, items)
    await stack.quiet()
    await stack.reset_requests()
    await update(stack, items)
    await stack.after(timedelta(minutes=50))
    assert "GET /loans" not in await stack.requests()
    assert await last_states(stack, items) == {"applied"}
    await stack.after(timedelta(minutes=11))
    assert (await stack.requests())["GET /loans"] <= 3
    assert await parked_products(stack) == ["loans"]
    await mend(stack)
    await stack.after(timedelta(hours=1, seconds=1))
    assert await parked(stack) == []
    for item_id in items:
        await stack.assert_equal(item_id)
        assert await freshness(stack, item_id, "loans") == ("fresh", None)


async def test_parked_transactions_hold_no_event_and_lose_none(stack: Stack) -> None:
    items = await synced(stack, 6)
    await stack.refuse("GET /v2/transactions", 403, codeDescription="NOT_ALLOWED")
    for item_id in items:
        announced = await stack.collect(item_id, created=2, updated=1, deleted=1)
        for event in announced["events"]:
            await tell(stack, event)
    await stack.quiet()
    assert await parked_products(stack) == ["transactions"]
    states = {state for item_id in items for state in await stack.states(item_id)}
    assert states <= {"applied", "ignored"}
    await mend(stack)
    await stack.after(timedelta(hours=1, seconds=1))
    for item_id in items:
        await stack.assert_equal(item_id)
        assert set(await stack.states(item_id)) == {"applied"}


async def tell(stack: Stack, event: dict[str, Any]) -> None:
    body = json.dumps(event | {"eventId": str(uuid.uuid4())}).encode()
    await stack.accept(parse_webhook(body, now()))


async def test_items_first_read_while_a_product_is_parked_get_it_later(stack: Stack) -> None:
    items = await synced(stack, 6)
    await stack.refuse("GET /v2/transactions", 403)
    await update(stack, items)
    await stack.quiet()
    [new] = await synced(stack, 1)
    assert await stack.states(new) == ["applied"]
    assert await stack.live(new) == {}
    await mend(stack)
    await stack.after(timedelta(hours=1, seconds=1))
    await stack.assert_equal(new)


async def test_walks_under_way_wait_and_go_on(stack: Stack) -> None:
    items = [(await stack.item(transactions=20, accounts=1))["id"] for _ in range(6)]
    await stack.refuse("GET /v2/transactions", 403)
    for item_id in items:
        await stack.tell("item/created", item_id)
    await stack.quiet()
    assert await parked_products(stack) == ["transactions"]
    pending = "SELECT count(*) FROM pluggy_sync.webhook_events WHERE state = 'pending'"
    assert await stack.db.fetchval(pending) == 0
    await mend(stack)
    await stack.after(timedelta(hours=1, seconds=1))
    for item_id in items:
        await stack.assert_equal(item_id)
        assert set(await stack.states(item_id)) == {"applied"}


@pytest.mark.parametrize("match", ["GET /loans", "GET /v2/transactions", "GET /accounts"])
async def test_a_retired_list_is_parked_by_the_first_item_that_meets_it(
    stack: Stack, match: str
) -> None:
    [item_id] = await synced(stack, 1)
    await stack.refuse(match, 410, codeDescription="ENDPOINT_DEPRECATED")
    await update(stack, [item_id])
    await stack.quiet()
    assert await halted(stack) is None
    [park] = await parked(stack)
    assert "newer release" in park["advice"]
    assert f"{match} (410:ENDPOINT_DEPRECATED)" in park["advice"]
    assert await last_states(stack, [item_id]) == {"applied"}
    # A newer release starts.
    await mend(stack)
    await halts.probe_soon(stack.db)
    await stack.quiet()
    assert await parked(stack) == []
    await stack.assert_equal(item_id)


async def test_a_cursor_that_is_gone_parks_nothing(stack: Stack) -> None:
    item = await stack.item(transactions=1200, accounts=1)
    await stack.refuse("GET /v2/transactions", 410, query="after=")
    await stack.process("item/created", item["id"])
    assert await parked(stack) == []


async def test_what_some_items_are_refused_and_others_not_is_not_parked(stack: Stack) -> None:
    bad, good = await synced(stack, 6), await synced(stack, 2)
    for item_id in bad:
        await stack.refuse("GET /loans", 403, query=f"itemId={item_id}")
    await stack.shift(timedelta(minutes=10))
    await update(stack, bad)
    await stack.quiet()
    await update(stack, good)
    await stack.quiet()
    assert (await halted(stack), await parked(stack)) == (None, [])
    assert await last_states(stack, good) == {"applied"}
    for item_id in good:
        await stack.assert_equal(item_id)


async def test_what_all_items_are_answered_unexpectedly_is_parked_and_revived(
    stack: Stack,
) -> None:
    items = await synced(stack, 6)
    await stack.refuse("GET /loans", 400)
    await update(stack, items)
    await stack.quiet()
    assert (await halted(stack), await parked_products(stack)) == (None, ["loans"])
    assert await last_states(stack, items) == {"applied"}
    await mend(stack)
    await stack.after(timedelta(hours=1, seconds=1))
    for item_id in items:
        await stack.assert_equal(item_id)


async def test_several_products_are_parked_and_freed_apart(stack: Stack) -> None:
    items = await synced(stack, 6)
    await stack.refuse("GET /loans", 403)
    await stack.refuse("GET /identity", 401)
    await update(stack, items)
    await stack.quiet()
    assert await parked_products(stack) == ["identities", "loans"]
    assert await last_states(stack, items) == {"applied"}
    await mend(stack)
    await stack.refuse("GET /identity", 401)
    await stack.shift(timedelta(hours=1, seconds=1))
    for _ in range(3):
        await stack.quiet()
    assert await parked_products(stack) == ["identities"]
    for item_id in items:
        await stack.assert_equal(item_id, ("loans", "transactions"))


async def test_a_probe_that_says_nothing_is_repeated_soon(stack: Stack) -> None:
    items = await synced(stack, 6)
    await stack.refuse("GET /loans", 403)
    await update(stack, items)
    await stack.quiet()
    await mend(stack)
    await stack.refuse("GET /loans", 503)
    await stack.after(timedelta(hours=1, seconds=1))
    assert await parked_products(stack) == ["loans"]
    await mend(stack)
    await stack.after(timedelta(minutes=1, seconds=1))
    assert await parked(stack) == []


async def test_a_parked_product_that_is_wanted_no_more_is_forgotten(stack: Stack) -> None:
    items = await synced(stack, 6)
    await stack.refuse("GET /loans", 403)
    await update(stack, items)
    await stack.quiet()
    assert await parked_products(stack) == ["loans"]
    stack.limit_products("accounts", "transactions")
    await stack.quiet()
    assert await parked(stack) == []
    assert await last_states(stack, items) == {"applied"}
