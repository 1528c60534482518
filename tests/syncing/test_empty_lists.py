"""Empty lists: the last investment or loan needs two reads, the last account a person."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.support.altered_pluggy import altered, item_with
from tests.support.stack import Stack
from tests.syncing.test_deletions import flagged
from worker.maintenance.deletion_review import accept_deletions, refuse_deletions

DAY = timedelta(days=1, minutes=1)
OWNED = ("investments", "loans")


async def emptied(stack: Stack, product: str) -> str:
    """An item of which Pluggy has closed all rows of a product, looked at once."""
    item = await stack.synced_item(transactions=20)
    stored = await stack.live(item["id"], product)
    assert stored
    await stack.collect(item["id"], close=list(stored))
    await look(stack, item["id"])
    assert set(await stack.live(item["id"], product)) == set(stored)
    return str(item["id"])


async def look(stack: Stack, item_id: str) -> None:
    """What was put off is due; and a word from Pluggy."""
    await stack.shift(timedelta(hours=1))
    await stack.process("item/updated", item_id)


async def missed(stack: Stack, item_id: str, product: str) -> int:
    found: int = await stack.db.fetchval(
        f"SELECT count(*) FROM pluggy.{product}"  # noqa: S608 - a constant
        " WHERE item_id = $1 AND missing_since IS NOT NULL",
        item_id,
    )
    return found


@pytest.mark.parametrize("product", OWNED)
async def test_the_last_rows_go_a_day_and_a_successful_collection_later(
    stack: Stack, product: str
) -> None:
    item_id = await emptied(stack, product)
    await stack.shift(timedelta(hours=21))
    await stack.collect(item_id, created=1)
    await look(stack, item_id)
    assert await stack.live(item_id, product)
    await stack.shift(timedelta(hours=2))
    await look(stack, item_id)
    assert await stack.live(item_id, product) == {}
    await stack.assert_equal(item_id)
    assert "stale" not in {
        row["state"]
        for row in await stack.db.fetch(
            "SELECT state FROM pluggy_ops.freshness WHERE item_id = $1 AND product = $2",
            item_id,
            product,
        )
    }


@pytest.mark.parametrize("product", OWNED)
async def test_two_lists_of_one_collection_prove_nothing(stack: Stack, product: str) -> None:
    item_id = await emptied(stack, product)
    await stack.shift(DAY)
    # Reads all lists, those of the accounts too.
    await stack.order("sync/verify", item_id)
    for _ in range(2):
        await look(stack, item_id)
    assert len(await stack.live(item_id, product)) == await missed(stack, item_id, product) > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"executionStatus": "PARTIAL_SUCCESS"},
        {"status": "OUTDATED"},
        {"statusDetail": {"loans": {"isUpdated": False}, "investments": {"isUpdated": False}}},
        {"consentExpiresAt": "2020-01-01T00:00:00.000Z"},
    ],
)
async def test_an_unsuccessful_collection_proves_nothing(
    stack: Stack, fields: dict[str, object]
) -> None:
    item_id = await emptied(stack, "loans")
    await stack.shift(DAY)
    await stack.collect(item_id, created=1)
    async with altered(stack, item_with(**fields)):
        await look(stack, item_id)
    assert await stack.live(item_id, "loans")


async def test_without_another_list_that_has_rows_two_lists_prove_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    owned = [*await stack.live(item["id"], "loans"), *await stack.live(item["id"], "investments")]
    accounts = list(await stack.live(item["id"], "accounts"))
    await stack.collect(item["id"], close=[*owned, *accounts])
    await look(stack, item["id"])
    await stack.shift(DAY)
    await stack.collect(item["id"])
    await look(stack, item["id"])
    live = {*await stack.live(item["id"], "loans"), *await stack.live(item["id"], "investments")}
    assert live == set(owned)
    assert set(await stack.live(item["id"], "accounts")) == set(accounts)


@pytest.mark.parametrize("product", OWNED)
async def test_a_row_that_is_listed_again_starts_its_two_lists_again(
    stack: Stack, product: str
) -> None:
    item = await stack.synced_item(transactions=20)
    stored = await stack.live(item["id"], product)
    await stack.db.execute(
        f"UPDATE pluggy.{product} SET missing_since = now() WHERE item_id = $1",  # noqa: S608
        item["id"],
    )
    await stack.collect(item["id"], created=1)
    await look(stack, item["id"])
    assert await missed(stack, item["id"], product) == 0
    assert set(await stack.live(item["id"], product)) == set(stored)


async def test_the_last_account_is_flagged_and_never_tombstoned(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=2)
    accounts = list(await stack.live(item["id"], "accounts"))
    await stack.collect(item["id"], close=accounts)
    for _ in range(2):
        await look(stack, item["id"])
        await stack.shift(DAY)
        await stack.collect(item["id"])
    assert set(await stack.live(item["id"], "accounts")) == set(accounts)
    found = await flagged(stack, item["id"])
    assert {str(row["account_id"]) for row in found} == set(accounts)
    assert {row["reason"] for row in found} == {"last_account"}
    assert {row["transaction_id"] for row in found} == {None}


async def test_accounts_without_a_consent_are_not_flagged(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    await stack.collect(item["id"], consent="revoked")
    await look(stack, item["id"])
    assert await flagged(stack, item["id"]) == []


async def test_accounts_are_not_flagged_when_the_consent_ends_during_the_sync(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    await stack.collect(item["id"], consent="expired")
    healthy = {"status": "UPDATED", "executionStatus": "SUCCESS", "consentExpiresAt": None}
    answers = 0

    async def first_item_is_healthy(path: str, body: bytes) -> bytes:
        nonlocal answers
        if not path.startswith("/items/"):
            return body
        answers += 1
        return json.dumps(json.loads(body) | healthy).encode() if answers == 1 else body

    async with altered(stack, first_item_is_healthy):
        await stack.process_order("sync/verify", item["id"])
    assert await flagged(stack, item["id"]) == []
    assert answers > 1


async def test_a_consent_ends_by_pluggys_clock(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=1)
    await stack.collect(item["id"], close=list(await stack.live(item["id"], "accounts")))
    now = datetime.now(UTC)
    ends = item_with(consentExpiresAt=(now + timedelta(hours=1)).isoformat())
    ahead = format_datetime(now + timedelta(hours=2), usegmt=True)
    async with altered(stack, ends, date=lambda path, date: ahead):
        await look(stack, item["id"])
    assert await flagged(stack, item["id"]) == []


async def test_a_person_has_the_last_accounts_tombstoned_or_kept(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, accounts=2)
    [gone, kept] = await stack.live(item["id"], "accounts")
    await stack.collect(item["id"], close=[gone, kept])
    await look(stack, item["id"])
    [refused] = await refuse_deletions(stack.db, transaction_ids=[uuid.UUID(kept)])
    [accepted] = await accept_deletions(stack.db, item_id=uuid.UUID(item["id"]))
    assert (refused.account_ids, accepted.account_ids) == ((uuid.UUID(kept),), (uuid.UUID(gone),))
    assert set(await stack.live(item["id"], "accounts")) == {kept}
    rows = (await stack.live(item["id"])).values()
    assert {str(row["account_id"]) for row in rows} == {kept}
    await look(stack, item["id"])
    assert await flagged(stack, item["id"]) == []
