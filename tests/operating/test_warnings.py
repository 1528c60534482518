"""Warnings of a collection: the month's quota and 001 by name, other codes as Pluggy sends them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operating.test_findings import of_item
from tests.support.altered_pluggy import altered, item_with
from tests.support.stack import Stack

OPEN_FINANCE = 601


async def shown(stack: Stack, item_id: str, product: str = "loans") -> dict[str, Any]:
    [row] = await stack.db.fetch(
        "SELECT * FROM pluggy_ops.freshness WHERE item_id = $1 AND product = $2", item_id, product
    )
    return dict(row)


async def warned(stack: Stack, *warnings: Any, is_updated: bool = True) -> str:
    """An item whose loans come with these warnings."""
    item = await stack.synced_item(transactions=10)
    detail = {"isUpdated": is_updated, "lastUpdatedAt": None, "warnings": list(warnings)}
    await stack.collect(item["id"], created=1)
    async with altered(stack, item_with(statusDetail={"loans": detail})):
        await stack.process("item/updated", item["id"])
    return str(item["id"])


@pytest.mark.parametrize("code", ["423", "INV_004", "TXN_003", "TXN_006"])
@pytest.mark.parametrize(("is_updated", "state"), [(False, "stale"), (True, "incomplete")])
async def test_a_quota_that_is_used_up_is_said_with_the_day_of_its_end(
    stack: Stack, code: str, is_updated: bool, state: str
) -> None:
    item_id = await warned(stack, {"code": code, "message": "limit"}, is_updated=is_updated)
    row = await shown(stack, item_id)
    assert (row["state"], row["reason"], row["blocked_on"]) == (state, "monthly_quota", "bank")
    assert row["warning_codes"] == [code]
    work = await of_item(stack, "monthly_quota", item_id)
    assert code in work["what"]
    assert "first of the next month" in work["what"]


async def test_the_general_warning_has_a_sentence_of_its_own(stack: Stack) -> None:
    item_id = await warned(stack, {"code": "001", "message": "Maria's loans"})
    row = await shown(stack, item_id)
    assert (row["state"], row["reason"], row["warning_codes"]) == (
        "incomplete",
        "general_warning",
        ["001"],
    )
    work = await of_item(stack, "bank_warning", item_id)
    assert "general warning (001)" in work["what"]
    assert "Maria" not in work["what"]


async def test_codes_that_are_not_known_are_shown_as_they_are(stack: Stack) -> None:
    item_id = await warned(stack, {"code": "LOAN_777"}, {"code": "001"}, {"code": "LOAN_777"})
    row = await shown(stack, item_id)
    assert (row["reason"], row["warning_codes"]) == ("collected_with_warning", ["001", "LOAN_777"])
    assert "001, LOAN_777" in (await of_item(stack, "bank_warning", item_id))["what"]


@pytest.mark.parametrize(
    "odd", [{"code": "Maria Silva, 123"}, {"code": 5, "message": "x"}, {}, "text", None, ["a"]]
)
async def test_odd_warnings_break_no_view_and_show_no_text(stack: Stack, odd: Any) -> None:
    row = await shown(stack, await warned(stack, odd))
    assert row["warning_codes"] in (["?"], ["5"])


async def test_a_product_without_warnings_has_no_codes(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.update(item["id"], partial=["INVESTMENTS"], warningCode="423")
    assert (await shown(stack, item["id"]))["warning_codes"] is None
    assert (await shown(stack, item["id"], "investments"))["warning_codes"] == ["423"]
    await stack.update(item["id"], created=1)
    assert (await shown(stack, item["id"], "investments"))["warning_codes"] is None
