"""Items of MeuPluggy (connector 200): no promised collection, rows that name another item."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.operating.test_findings import findings, item_row, of_item, overview, workers
from tests.support.altered_pluggy import Alter, altered
from tests.support.stack import MEU_PLUGGY, Stack
from worker.engine.missed_webhooks import next_recheck
from worker.maintenance.reconciliation import order_due
from worker.planner.item_status import Item

OPEN_FINANCE = 600
HOUR = timedelta(hours=1)
SYNCS = 10
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def wallet(stack: Stack) -> list[str]:
    """Three items as they were measured: one of them shows no time of its next collection."""
    return [
        (
            await stack.synced_item(
                transactions=30, connectorId=MEU_PLUGGY, hidesNextSync=number == 2
            )
        )["id"]
        for number in range(3)
    ]


def with_rows(prefix: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Alter:
    """Rows of lists whose path begins so are changed."""

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith(prefix):
            return body
        page = json.loads(body)
        page["results"] = [change(row) for row in page["results"]]
        return json.dumps(page).encode()

    return alter


async def inner_item(stack: Stack, item_id: str) -> str | None:
    pinned = await stack.db.fetchval(
        "SELECT inner_item_id FROM pluggy.items WHERE id = $1", item_id
    )
    return None if pinned is None else str(pinned)


async def freshness(stack: Stack, item_id: str) -> set[tuple[str, str | None]]:
    rows = await stack.db.fetch("SELECT * FROM pluggy_ops.freshness WHERE item_id = $1", item_id)
    return {(row["state"], row["reason"]) for row in rows}


async def failed_with(stack: Stack, item_id: str, product: str) -> str | None:
    code: str | None = await stack.db.fetchval(
        "SELECT failure_code FROM pluggy_sync.product_sync WHERE item_id = $1 AND product = $2",
        item_id,
        product,
    )
    return code


async def test_a_healthy_wallet_is_green_and_its_consents_are_stored(stack: Stack) -> None:
    items = await wallet(stack)
    await workers(stack)
    assert await findings(stack) == {}
    assert (await overview(stack))["light"] == "green"
    for item_id in items:
        await stack.assert_equal(item_id)
        [consent] = (await stack.truth(item_id, "consents")).values()
        assert await inner_item(stack, item_id) == consent["itemId"] != item_id
        assert await freshness(stack, item_id) == {("fresh", None)}
    hidden = (await stack.truth(items[2], "items"))[items[2]]
    assert (hidden["nextAutoSyncAt"], hidden["autoSyncDisabledAt"]) == (None, None)


async def test_a_lost_webhook_of_an_item_without_promise_is_found_within_26_hours(
    stack: Stack,
) -> None:
    item_id = (await wallet(stack))[2]
    await stack.collect(item_id, created=2, products={"loans": {"created": 1}})
    await stack.shift(24 * HOUR)
    await order_due(stack.db)
    await stack.quiet()
    assert set(await stack.truth(item_id, "loans")) != set(await stack.live(item_id, "loans"))
    await stack.shift(2 * HOUR)
    await order_due(stack.db)
    await stack.quiet()
    assert "sync/missed-webhook-check" in [event["event"] for event in await stack.events(item_id)]
    await stack.assert_equal(item_id)
    missed = await stack.db.fetch("SELECT * FROM pluggy_sync.missed_webhooks")
    assert [str(row["item_id"]) for row in missed] == [item_id]


def meu_pluggy(**fields: Any) -> Item:
    shown: dict[str, Any] = {"connector_id": MEU_PLUGGY, "last_updated_at": NOW} | fields
    last, connector = shown.pop("last_updated_at"), shown.pop("connector_id")
    return Item("UPDATED", "SUCCESS", last, last, False, None, {}, connector_id=connector, **shown)


def recheck(item: Item, *, after: timedelta) -> timedelta | None:
    """How long after now the item is looked at next."""
    now = NOW + after
    found = next_recheck(item, now=now, pluggy_now=now, unannounced=False)
    return None if found is None else found - now


def test_an_item_without_promise_is_checked_a_day_later_and_then_with_growing_pauses() -> None:
    item = meu_pluggy()
    pauses = [recheck(item, after=hours * HOUR) for hours in (0, 24, 25, 26, 28, 60, 400)]
    assert pauses == [25 * HOUR, HOUR, HOUR, 2 * HOUR, 4 * HOUR, 24 * HOUR, 24 * HOUR]


def test_an_item_whose_collections_are_stopped_is_not_checked() -> None:
    assert recheck(meu_pluggy(auto_sync_disabled=True), after=HOUR) is None
    promised = meu_pluggy(auto_sync_disabled=True, next_auto_sync_at=NOW)
    assert recheck(promised, after=HOUR) is None
    assert recheck(meu_pluggy(last_updated_at=None), after=HOUR) is None
    assert recheck(meu_pluggy(connector_id=OPEN_FINANCE), after=HOUR) is None


async def test_two_items_that_list_the_same_account_keep_it_through_ten_syncs(
    stack: Stack,
) -> None:
    inner = str(uuid.uuid4())
    first, second = [
        (
            await stack.synced_item(
                transactions=20, accounts=1, connectorId=MEU_PLUGGY, innerItemId=inner
            )
        )["id"]
        for _ in range(2)
    ]
    [shared] = (await stack.truth(first, "accounts")).values()

    async def alter(path: str, body: bytes) -> bytes:
        """Both list the account of the first, as their inner item's."""
        if not path.startswith("/accounts?"):
            return body
        page = json.loads(body)
        others = [row for row in page["results"] if row["id"] != shared["id"]]
        page["results"] = [*others, shared | {"itemId": inner}]
        return json.dumps(page).encode()

    async with altered(stack, alter):
        for _ in range(SYNCS):
            await stack.shift(HOUR)
            done = await stack.collect(first, created=1)
            await stack.process_all(done)
            await stack.update(second)
            for item_id in (first, second):
                assert shared["id"] in await stack.live(item_id, "accounts")
    rows = [
        {i for i, row in (await stack.live(item)).items() if str(row["account_id"]) == shared["id"]}
        for item in (first, second)
    ]
    assert rows[0] == rows[1] == set(await stack.truth(first))
    assert len(rows[0]) == 20 + SYNCS
    assert {*await stack.states(first), *await stack.states(second)} == {"applied"}
    [pair] = await stack.db.fetch("SELECT reason FROM pluggy_live.duplicate_accounts")
    assert pair["reason"] == "same_id"


async def test_a_missing_account_that_names_the_inner_item_is_kept(stack: Stack) -> None:
    """Its item's list omits it, and asked for by id it is there."""
    item = await stack.synced_item(transactions=20, accounts=2, connectorId=MEU_PLUGGY)
    inner = await inner_item(stack, item["id"])
    hidden = max(await stack.live(item["id"], "accounts"))

    async def alter(path: str, body: bytes) -> bytes:
        answer = json.loads(body)
        if path.startswith("/accounts?"):
            answer["results"] = [row for row in answer["results"] if row["id"] != hidden]
        elif path.startswith(f"/accounts/{hidden}"):
            answer |= {"itemId": inner}
        return json.dumps(answer).encode()

    async with altered(stack, alter):
        await stack.update(item["id"], created=1)
        assert hidden in await stack.live(item["id"], "accounts")


@pytest.mark.parametrize("prefix", ["/accounts?", "/loans?", "/consents?"])
async def test_rows_of_a_second_item_are_refused(stack: Stack, prefix: str) -> None:
    """One inner item is pinned to an item; a page that names another one is not its own."""
    item = await stack.synced_item(transactions=10, connectorId=MEU_PLUGGY)
    pinned, product = await inner_item(stack, item["id"]), prefix.strip("/?")
    await stack.shift(HOUR)
    before = await stack.live(item["id"], product)
    other = str(uuid.uuid4())
    async with altered(stack, with_rows(prefix, lambda row: row | {"itemId": other})):
        await stack.update(item["id"], products={"loans": {"updated": 1}})
        assert await failed_with(stack, item["id"], product) == "rows_of_another_itemId"
    assert await inner_item(stack, item["id"]) == pinned
    assert await stack.live(item["id"], product) == before


async def test_rows_of_a_stored_item_are_never_pinned(stack: Stack) -> None:
    theirs = await stack.synced_item(transactions=5)
    item = await stack.item(transactions=5, connectorId=MEU_PLUGGY)
    async with altered(stack, with_rows("/accounts?", lambda row: row | {"itemId": theirs["id"]})):
        await stack.process("item/created", item["id"])
        assert await failed_with(stack, item["id"], "accounts") == "rows_of_another_itemId"
    assert await inner_item(stack, item["id"]) != theirs["id"]
    assert await stack.live(item["id"], "accounts") == {}


async def test_another_connectors_rows_may_name_no_other_item(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10, connectorId=OPEN_FINANCE)
    other = str(uuid.uuid4())
    async with altered(stack, with_rows("/consents?", lambda row: row | {"itemId": other})):
        await stack.shift(HOUR)
        await stack.update(item["id"])
        assert await failed_with(stack, item["id"], "consents") == "rows_of_another_itemId"
    assert await inner_item(stack, item["id"]) is None


async def test_rows_of_another_account_are_refused_of_meupluggy_too(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10, accounts=1, connectorId=MEU_PLUGGY)
    inner = await inner_item(stack, item["id"])
    before = await stack.live(item["id"])
    async with altered(
        stack, with_rows("/v2/transactions?", lambda row: row | {"accountId": inner})
    ):
        await stack.update(item["id"], created=1)
        assert await failed_with(stack, item["id"], "transactions") == "rows_of_another_accountId"
    assert await stack.live(item["id"]) == before


STUCK = "connector_id = 200, next_auto_sync_at = NULL, last_updated_at = now() - interval '4 days'"
OVERDUE = "next_auto_sync_at = now() - interval '2 days'"
REVOKED = "status = 'LOGIN_ERROR', execution_status = 'USER_AUTHORIZATION_REVOKED'"


@pytest.mark.parametrize(
    ("change", "kind"),
    [(STUCK, "no_auto_sync"), (OVERDUE, "collection_overdue"), (REVOKED, "reconnect")],
)
async def test_the_worklist_sends_the_person_to_meupluggy(
    stack: Stack, change: str, kind: str
) -> None:
    mine = await stack.synced_item(transactions=5, connectorId=MEU_PLUGGY)
    await item_row(stack, mine["id"], change)
    said = await of_item(stack, kind, mine["id"])
    assert "meu.pluggy.ai" in said["what"]
    assert "update it" not in said["what"]


async def test_an_item_whose_collections_are_stopped_is_stale(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5, connectorId=MEU_PLUGGY, autoSync=False)
    assert await freshness(stack, item["id"]) == {("stale", "no_auto_sync")}
