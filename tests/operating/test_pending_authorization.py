"""Resources that wait at the bank for an approval: lists are incomplete, the user has to act."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operating.test_findings import findings, of_item
from tests.support.stack import Stack

OPEN_FINANCE = 601
LISTS = ("accounts", "investments", "loans")


async def shown(stack: Stack, item_id: str) -> dict[str, tuple[str, str | None, str | None]]:
    rows = await stack.db.fetch(
        "SELECT DISTINCT product, state, reason, blocked_on FROM pluggy_ops.freshness"
        " WHERE item_id = $1",
        item_id,
    )
    return {row["product"]: (row["state"], row["reason"], row["blocked_on"]) for row in rows}


async def test_lists_are_incomplete_until_the_approval_is_given(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, connectorId=OPEN_FINANCE)
    await stack.update(item["id"], pendingAuthorization=True)
    found = await shown(stack, item["id"])
    pending = ("incomplete", "authorization_pending", "user")
    assert {found[product] for product in LISTS} == {pending}
    assert {found[p] for p in found if p not in LISTS} == {("fresh", None, None)}
    await stack.assert_equal(item["id"], ["items"])
    await stack.update(
        item["id"], pendingAuthorization=False, products={"accounts": {"created": 1}}
    )
    assert set((await shown(stack, item["id"])).values()) == {("fresh", None, None)}
    await stack.assert_equal(item["id"])


async def test_the_worklist_says_in_portuguese_what_the_person_has_to_do(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, connectorId=OPEN_FINANCE)
    await stack.update(item["id"], pendingAuthorization=True)
    row = await of_item(stack, "authorization_pending", item["id"])
    assert (row["severity"], row["blocked_on"], row["how_many"]) == ("info", "user", len(LISTS))
    assert "aguarda autorização no aplicativo do banco" in row["what"]
    assert (await findings(stack))["authorization_pending"]["how_many"] == 1


@pytest.mark.parametrize(
    ("sent", "stored"),
    [(True, True), (False, False), (None, None), ("true", None), (1, None)],
)
async def test_the_column_holds_what_pluggy_says_and_nothing_else(
    stack: Stack, sent: Any, stored: bool | None
) -> None:
    item = await stack.item(transactions=5, connectorId=OPEN_FINANCE)
    fields = {"hasResourcesPendingAuthorization": sent}
    await stack.fault("GET /items", kind="fields", rate=1, fields=fields)
    await stack.process("item/created", item["id"])
    [row] = await stack.db.fetch(
        "SELECT has_resources_pending_authorization AS value FROM pluggy_live.items"
    )
    assert row["value"] is stored


async def test_a_connector_beside_open_finance_says_nothing_of_resources(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    [row] = (await stack.truth(item["id"], "items")).values()
    assert (row["resourcesCollectedAt"], row["hasResourcesPendingAuthorization"]) == (None, None)
    assert set((await shown(stack, item["id"])).values()) == {("fresh", None, None)}
