"""Monthly totals of a household in the mirror equal those in the bank's own books."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.support.stack import Stack

CONNECTORS = (0, 5, 201, 600, 601)


@pytest.mark.parametrize("seed", range(5))
async def test_signed_amounts_add_up_to_the_ledger_of_every_month(stack: Stack, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - households, not secrets
    item = await household(stack, random, CONNECTORS[seed])
    assert await sums(stack, item["id"]) == await ledger(stack, item["id"])
    for _ in range(2):
        kinds = ("created", "late", "scheduled", "settled", "updated", "deleted", "restated")
        answer = await stack.collect(item["id"], **{k: random.randint(0, 8) for k in kinds})
        await stack.process_all(answer)
        await stack.after(timedelta(minutes=6))
        assert await sums(stack, item["id"]) == await ledger(stack, item["id"])


async def household(stack: Stack, random: Random, connector_id: int) -> dict[str, Any]:
    """One with cards, instalments and purchases abroad: what the simulator draws may have none."""
    for _ in range(10):
        item = await stack.synced_item(
            connectorId=connector_id,
            accounts=random.randint(2, 5),
            transactions=random.randint(400, 700),
        )
        if await known_of(stack, item["id"]) == {"cards", "foreign", "instalments"}:
            return item
    raise AssertionError("the simulator draws no such household")


async def ledger(stack: Stack, item_id: str) -> dict[str, Decimal]:
    answer = await stack.simulator.aget(f"/_simulator/ledger/{item_id}")
    return {month: Decimal(cents).scaleb(-2) for month, cents in answer["months"].items()}


async def sums(stack: Stack, item_id: str) -> dict[str, Decimal]:
    found = await stack.db.fetch(
        "SELECT to_char(posted_on, 'YYYY-MM') AS month, sum(signed_amount) AS total"
        " FROM pluggy_live.transactions WHERE item_id = $1 GROUP BY 1",
        item_id,
    )
    return {record["month"]: record["total"] for record in found}


async def known_of(stack: Stack, item_id: str) -> set[str]:
    """What the household has: a comparison without cards or dollars would prove little."""
    has: Any = await stack.db.fetchrow(
        "SELECT bool_or(a.type = 'CREDIT') AS cards, bool_or(t.currency_code <> 'BRL') AS foreign,"
        " bool_or(t.total_installments > 1) AS instalments"
        " FROM pluggy_live.transactions t JOIN pluggy_live.accounts a"
        " ON a.item_id = t.item_id AND a.id = t.account_id WHERE t.item_id = $1",
        item_id,
    )
    return {name for name, holds in has.items() if holds}
