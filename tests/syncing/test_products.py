"""All other products: mirrored, tombstoned only when proven, read only when due."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.stack import Stack
from worker.planner.item_status import STATUS_KEYS

OPEN_FINANCE = 600
LISTED = ("investments", "loans", "identities", "consents", "bills")


async def open_finance_item(stack: Stack) -> dict[str, Any]:
    return await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)


async def tombstoned(stack: Stack, item_id: str, table: str) -> set[str]:
    found = await stack.db.fetch(
        f"SELECT id FROM pluggy.{table} WHERE item_id = $1 AND deleted_at IS NOT NULL",  # noqa: S608
        item_id,
    )
    return {str(record["id"]) for record in found}


async def test_all_products_of_an_item_are_mirrored_row_for_row(stack: Stack) -> None:
    item = await open_finance_item(stack)
    await stack.assert_equal(item["id"])
    for table in (*LISTED, "investment_transactions"):
        assert await stack.live(item["id"], table), f"no {table} to compare"


@pytest.mark.parametrize("product", ["investments", "loans", "bills"])
async def test_changes_of_a_product_are_mirrored(stack: Stack, product: str) -> None:
    # A clock that other tests have moved on would close bills in between.
    await stack.simulator.apost("/_simulator/reset")
    await stack.simulator.apost("/_simulator/webhooks", {"quiet": True})
    item = await open_finance_item(stack)
    changes = {product: {"created": 2, "updated": 1, "deleted": 1}}
    answer = await stack.collect(item["id"], products=changes)
    await stack.process_all(answer)
    await stack.after(timedelta(minutes=6))
    await stack.assert_equal(item["id"])
    assert len(await tombstoned(stack, item["id"], product)) == 1


async def test_movements_that_changed_nothing_else_are_found_by_a_verify(stack: Stack) -> None:
    item = await open_finance_item(stack)
    changes = {"investment_transactions": {"created": 3}}
    await stack.tell_all(await stack.collect(item["id"], products=changes))
    await stack.process_order("sync/verify", item["id"])
    await stack.assert_equal(item["id"], ["investments", "investment_transactions"])


async def test_movements_of_an_investment_that_changed_are_read(stack: Stack) -> None:
    item = await open_finance_item(stack)
    [investment, *_] = await stack.live(item["id"], "investments")
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET fingerprint = 'as it was before'"
        " WHERE item_id = $1 AND scope_id = $2",
        item["id"],
        uuid.UUID(investment),
    )
    await stack.reset_requests()
    await stack.process("item/updated", item["id"])
    assert (await stack.requests())["GET /investments/{id}/transactions"] == 1


async def test_movements_without_a_collection_are_not_asked_for(stack: Stack) -> None:
    item = await open_finance_item(stack)
    await stack.reset_requests()
    await stack.process("item/updated", item["id"])
    assert "GET /investments/{id}/transactions" not in await stack.requests()


async def test_a_movement_is_tombstoned_by_a_second_list_without_it(stack: Stack) -> None:
    item = await open_finance_item(stack)
    extra = uuid.uuid4()
    await stack.db.execute(
        "INSERT INTO pluggy.investment_transactions (item_id, id, investment_id, payload, row_hash,"
        " row_version, run_id) SELECT item_id, $2, investment_id, payload, row_hash, row_version,"
        " run_id FROM pluggy.investment_transactions WHERE item_id = $1 LIMIT 1",
        item["id"],
        extra,
    )
    await stack.process_order("sync/verify", item["id"])
    assert await tombstoned(stack, item["id"], "investment_transactions") == set()
    await stack.after(timedelta(minutes=6))
    assert await tombstoned(stack, item["id"], "investment_transactions") == {str(extra)}
    assert (await stack.states(item["id"]))[-1] == "applied"


async def test_empty_lists_of_a_revoked_consent_tombstone_no_product(stack: Stack) -> None:
    item = await open_finance_item(stack)
    stored = {table: set(await stack.live(item["id"], table)) for table in LISTED}
    await stack.collect(item["id"], consent="revoked")
    await stack.process_order("sync/verify", item["id"])
    for table in LISTED:
        if table != "consents":
            assert set(await stack.live(item["id"], table)) == stored[table], table


async def test_a_failing_loan_list_stops_nothing_else(stack: Stack) -> None:
    item = await stack.item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.fault("GET /loans", kind="status", status=500, rate=1.0)
    await stack.process("item/created", item["id"])
    await stack.assert_equal(item["id"], ["accounts", "transactions", "investments", "bills"])
    assert await stack.states(item["id"]) == ["pending"]
    assert await stack.live(item["id"], "loans") == {}


async def test_a_closed_account_takes_its_bills_along(stack: Stack) -> None:
    item = await open_finance_item(stack)
    accounts = await stack.live(item["id"], "accounts")
    [card] = [i for i, account in accounts.items() if account["type"] == "CREDIT"]
    await stack.process_all(await stack.collect(item["id"], close=[card]))
    assert await stack.live(item["id"], "bills") == {}
    await stack.assert_equal(item["id"])


async def test_products_that_are_not_enabled_are_never_fetched(stack: Stack) -> None:
    stack.limit_products("items", "accounts", "loans")
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    assert await stack.live(item["id"]) == {}
    assert await stack.live(item["id"], "loans")
    asked = set(await stack.requests())
    assert asked == {"POST /auth", "GET /items/{id}", "GET /accounts", "GET /loans"}


async def test_a_partial_collection_hides_no_change_of_the_one_before(stack: Stack) -> None:
    """Its webhook was lost; then the product could not be read, and keeps the date that it had."""
    item = await open_finance_item(stack)
    await stack.collect(item["id"], created=2, products={"loans": {"created": 1}})
    await stack.collect(item["id"], partial=["LOANS", "TRANSACTIONS"])
    [stored] = (await stack.truth(item["id"], "items")).values()
    assert stored["statusDetail"]["loans"]["isUpdated"] is False
    await stack.process("item/updated", item["id"])
    await stack.assert_equal(item["id"])


async def shown(
    stack: Stack, item_id: str, product: str
) -> set[tuple[str, str | None, str | None]]:
    found = await stack.db.fetch(
        "SELECT state, reason, blocked_on FROM pluggy_ops.freshness"
        " WHERE item_id = $1 AND product = $2",
        item_id,
        product,
    )
    return {(row["state"], row["reason"], row["blocked_on"]) for row in found}


async def test_a_product_that_the_bank_did_not_give_is_stale_since_its_last_date(
    stack: Stack,
) -> None:
    item = await open_finance_item(stack)
    [before] = {row["lastUpdatedAt"] for row in (await stack.truth(item["id"], "items")).values()}
    await stack.update(item["id"], partial=["LOANS"], warned=["INVESTMENTS"])
    assert await shown(stack, item["id"], "loans") == {("stale", "not_collected", "bank")}
    warned = ("incomplete", "general_warning", "bank")
    assert await shown(stack, item["id"], "investments") == {warned}
    assert await shown(stack, item["id"], "transactions") == {("fresh", None, None)}
    since = await stack.db.fetchval(
        "SELECT stale_since FROM pluggy_ops.freshness WHERE item_id = $1 AND product = 'loans'",
        item["id"],
    )
    assert since == datetime.fromisoformat(before)
    await stack.update(item["id"])
    for product in ("loans", "investments"):
        assert await shown(stack, item["id"], product) == {("fresh", None, None)}


@pytest.mark.parametrize("ends", ["LOGIN_ERROR", "OUTDATED"])
async def test_what_the_bank_or_the_person_keeps_back_is_stale_since_the_last_collection(
    stack: Stack, ends: str
) -> None:
    item = await open_finance_item(stack)
    [before] = {row["lastUpdatedAt"] for row in (await stack.truth(item["id"], "items")).values()}
    await stack.collect(item["id"], status=ends)
    await stack.process("item/error", item["id"])
    since = await stack.db.fetch("SELECT DISTINCT stale_since FROM pluggy_ops.freshness")
    assert [record["stale_since"] for record in since] == [datetime.fromisoformat(before)]


async def test_freshness_reads_the_keys_of_a_partial_collection_as_the_planner_does(
    stack: Stack,
) -> None:
    item = await open_finance_item(stack)
    for key in {key for keys in STATUS_KEYS.values() for key in keys}:
        await stack.db.execute(
            "UPDATE pluggy.items SET payload = jsonb_set(payload, '{statusDetail}',"
            " jsonb_build_object($2::text, jsonb_build_object('isUpdated', false))) WHERE id = $1",
            item["id"],
            key,
        )
        found = await stack.db.fetch(
            "SELECT DISTINCT product FROM pluggy_ops.freshness"
            " WHERE item_id = $1 AND reason = 'not_collected'",
            item["id"],
        )
        means = {product for product, keys in STATUS_KEYS.items() if key in keys}
        assert {row["product"] for row in found} == means, key


async def test_a_row_that_cannot_be_read_makes_its_product_incomplete(stack: Stack) -> None:
    item = await open_finance_item(stack)
    await stack.db.execute(
        "ALTER TABLE pluggy.loans ADD CONSTRAINT refused CHECK (run_id < 0) NOT VALID"
    )
    await stack.update(item["id"], products={"loans": {"updated": 1}})
    assert await shown(stack, item["id"], "loans") == {("incomplete", "rows_rejected", "us")}
    light = await stack.db.fetchrow("SELECT incomplete_products FROM pluggy_ops.overview")
    assert light is not None
    assert light["incomplete_products"] == 1
    await stack.db.execute("ALTER TABLE pluggy.loans DROP CONSTRAINT refused")
    await stack.process_order("sync/verify", item["id"])
    assert await shown(stack, item["id"], "loans") == {("fresh", None, None)}
