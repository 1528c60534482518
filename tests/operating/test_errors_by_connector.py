"""Errors by connector: a bank that is down, and reads that fail."""

from __future__ import annotations

from typing import Any

from tests.support.stack import Stack
from tests.syncing.test_halts import attempts

BANK, OTHER = 201, 600


async def errors(stack: Stack) -> list[dict[str, Any]]:
    found = await stack.db.fetch(
        "SELECT connector_id, product, error, blocked_on, items, of_items"
        " FROM pluggy_ops.errors_by_connector"
    )
    return [dict(record) for record in found]


async def test_a_bank_that_is_down_is_shown_and_costs_no_attempt(stack: Stack) -> None:
    down = [await stack.synced_item(connectorId=BANK, transactions=10) for _ in range(3)]
    await stack.synced_item(connectorId=OTHER, transactions=10)
    assert await errors(stack) == []
    for item in down[:2]:
        await stack.collect(item["id"], status="SITE_NOT_AVAILABLE")
        await stack.tell("item/error", item["id"])
    await stack.quiet()
    [shown] = await errors(stack)
    assert shown["connector_id"] == BANK
    assert (shown["product"], shown["blocked_on"]) == (None, "bank")
    assert (shown["items"], shown["of_items"]) == (2, 3)
    # It is no halt and no failure of ours.
    assert await attempts(stack) == 0
    overview = await stack.db.fetchrow("SELECT halted_at FROM pluggy_ops.overview")
    assert overview is not None
    assert overview["halted_at"] is None
    for item in down[:2]:
        await stack.collect(item["id"], created=1)
        await stack.tell("item/updated", item["id"])
    await stack.quiet()
    assert await errors(stack) == []


async def test_reads_that_fail_are_counted_by_bank_and_error(stack: Stack) -> None:
    items = [await stack.synced_item(connectorId=BANK, transactions=10) for _ in range(2)]
    await stack.refuse("GET /accounts", 500)
    for item in items:
        await stack.collect(item["id"], created=1)
        await stack.tell("item/updated", item["id"])
    await stack.quiet()
    assert await errors(stack) == [
        {
            "connector_id": BANK,
            "product": "accounts",
            "error": "500:no_code",
            "blocked_on": "pluggy",
            "items": 2,
            "of_items": 2,
        }
    ]


async def test_no_personal_data_is_shown(stack: Stack) -> None:
    item = await stack.synced_item(connectorId=BANK, clientUserId="a-person", transactions=5)
    await stack.collect(item["id"], status="SITE_NOT_AVAILABLE")
    await stack.process("item/error", item["id"])
    found = await stack.db.fetch("SELECT e::text AS row FROM pluggy_ops.errors_by_connector e")
    assert found
    assert not any("a-person" in record["row"] for record in found)
