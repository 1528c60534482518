"""Views that compute: balances by day, and which account replaced which."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from worker.infra.postgres import Pool

ITEM, ACCOUNT = uuid.UUID(int=1), uuid.UUID(int=2)
COLLECTED = datetime(2026, 3, 10, 15, tzinfo=UTC)


async def insert(db: Pool, table: str, **columns: Any) -> None:
    """Insert a row of schema pluggy with what every row needs."""
    row = {"payload": "{}", "row_hash": b"", "row_version": 1, "run_id": 1} | columns
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await db.execute(
        f"INSERT INTO pluggy.{table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608 - constants
        *row.values(),
    )


async def add_item(db: Pool, item_id: uuid.UUID, **columns: Any) -> None:
    await insert(db, "items", id=item_id, connector_id=7, last_updated_at=COLLECTED, **columns)


async def add_account(db: Pool, item_id: uuid.UUID, account_id: uuid.UUID, **columns: Any) -> None:
    row: dict[str, Any] = {"type": "BANK", "currency_code": "BRL", "balance": Decimal(100)}
    row |= columns
    await insert(db, "accounts", item_id=item_id, id=account_id, **row)
    await add_snapshot(db, 10, row["balance"], item_id=item_id, account_id=account_id)


async def add_snapshot(
    db: Pool,
    day: int,
    balance: Decimal | None,
    *,
    item_id: uuid.UUID = ITEM,
    account_id: uuid.UUID = ACCOUNT,
) -> None:
    """What Pluggy reported on a day of March 2026."""
    await db.execute(
        "INSERT INTO pluggy_sync.balance_snapshots VALUES ($1, $2, $3, 'BRL', $4)",
        *(item_id, account_id, date(2026, 3, day), balance),
    )


async def add_transaction(db: Pool, day: int, amount: str, **columns: Any) -> None:
    row = {
        "status": "POSTED",
        "currency_code": "BRL",
        "date": datetime(2026, 3, day, 12, tzinfo=UTC),
        "posted_on": date(2026, 3, day),
    } | columns
    await insert(
        db,
        "transactions",
        item_id=ITEM,
        account_id=ACCOUNT,
        id=uuid.uuid4(),
        amount=Decimal(amount),
        **row,
    )


@pytest.fixture
async def account(db: Pool) -> Pool:
    """A bank account with a balance of 100 at the end of 2026-03-10."""
    await add_item(db, ITEM)
    await add_account(db, ITEM, ACCOUNT)
    return db


async def balances(db: Pool, *, until: int = 10) -> dict[int, asyncpg.Record]:
    """By day of March 2026, up to one of them."""
    found = await db.fetch(
        "SELECT * FROM pluggy_live.daily_balances WHERE day <= $1 ORDER BY day",
        date(2026, 3, until),
    )
    assert {(r["item_id"], r["account_id"], r["currency_code"]) for r in found} == {
        (ITEM, ACCOUNT, "BRL")
    }
    return {record["day"].day: record for record in found}


async def test_a_balance_before_the_first_report_is_that_less_what_was_booked_since(
    account: Pool,
) -> None:
    await add_transaction(account, 5, "-30")
    await add_transaction(account, 8, "50.25")
    await add_transaction(account, 8, "-0.25")
    days = await balances(account)
    assert {day: record["signed_balance"] for day, record in days.items()} == {
        5: Decimal(50),
        6: Decimal(50),
        7: Decimal(50),
        8: Decimal(100),
        9: Decimal(100),
        10: Decimal(100),
    }
    assert (days[8]["net_amount"], days[8]["transactions"]) == (Decimal("50.00"), 2)
    assert (days[9]["net_amount"], days[9]["transactions"]) == (Decimal(0), 0)
    assert all(record["is_exact"] for record in days.values())
    assert {day: record["reported_on"] for day, record in days.items()} == {
        **dict.fromkeys(range(5, 10)),
        10: date(2026, 3, 10),
    }


async def test_a_report_is_carried_forward_to_the_next_and_the_last_to_today(account: Pool) -> None:
    """Movements that are booked meanwhile stand beside it: the next report has them."""
    await add_snapshot(account, 13, Decimal(60))
    await add_snapshot(account, 15, None)
    await add_snapshot(account, 17, Decimal(70))
    await add_transaction(account, 11, "-40")
    days = await balances(account, until=19)
    shown = {day: (r["signed_balance"], r["reported_on"].day) for day, r in days.items()}
    assert shown == {
        **dict.fromkeys((10, 11, 12), (Decimal(100), 10)),
        **dict.fromkeys((13, 14), (Decimal(60), 13)),
        **dict.fromkeys((15, 16), (None, 15)),
        **dict.fromkeys((17, 18, 19), (Decimal(70), 17)),
    }
    assert (days[11]["net_amount"], days[11]["transactions"]) == (Decimal(-40), 1)
    last = await account.fetchrow(
        "SELECT max(day) = (now() AT TIME ZONE 'America/Sao_Paulo')::date AS is_today,"
        " count(*) = count(DISTINCT day) AS is_each_once FROM pluggy_live.daily_balances"
    )
    assert last is not None
    assert tuple(last) == (True, True)


async def test_an_account_without_transactions_begins_with_its_first_report(account: Pool) -> None:
    days = await balances(account)
    assert [(day, r["signed_balance"], r["transactions"]) for day, r in days.items()] == [
        (10, Decimal(100), 0)
    ]


async def test_what_is_not_booked_yet_does_not_count(account: Pool) -> None:
    await add_transaction(account, 9, "-1")
    await add_transaction(account, 10, "-20", status="PENDING")
    await add_transaction(account, 20, "-20")
    await add_transaction(account, 10, "-20", deletion_flagged_at=COLLECTED)
    await add_transaction(account, 10, "-20", deleted_at=COLLECTED)
    days = await balances(account)
    assert {day: record["signed_balance"] for day, record in days.items()} == {
        9: Decimal(100),
        10: Decimal(100),
    }


async def test_foreign_amounts_count_as_pluggy_converts_them(account: Pool) -> None:
    await add_transaction(account, 8, "-1")
    foreign = {"currency_code": "USD", "amount_in_account_currency": Decimal("-50")}
    await add_transaction(account, 9, "-10", **foreign)
    days = await balances(account)
    assert (days[8]["signed_balance"], days[8]["is_exact"]) == (Decimal(150), True)


async def test_a_foreign_amount_without_conversion_makes_earlier_days_inexact(
    account: Pool,
) -> None:
    await add_transaction(account, 8, "-1")
    await add_transaction(account, 9, "-10", currency_code="USD")
    days = await balances(account)
    assert (days[8]["signed_balance"], days[8]["is_exact"]) == (Decimal(100), False)
    assert (days[9]["signed_balance"], days[9]["is_exact"]) == (Decimal(100), True)


async def test_the_bank_s_own_balance_stands_beside_the_computed_one(account: Pool) -> None:
    await add_transaction(account, 9, "-1", balance=Decimal(101), order_in_day=1)
    await add_transaction(account, 9, "-1", balance=Decimal(100), order_in_day=2)
    days = await balances(account)
    assert (days[9]["reported_balance"], days[10]["reported_balance"]) == (Decimal(100), None)


async def test_a_card_has_its_debt_from_its_first_report_on(db: Pool) -> None:
    await add_item(db, ITEM)
    await add_account(db, ITEM, ACCOUNT, type="CREDIT")
    await add_transaction(db, 9, "30")
    await add_transaction(db, 11, "20")
    days = await balances(db, until=11)
    assert {day: (r["signed_balance"], r["net_amount"]) for day, r in days.items()} == {
        10: (Decimal(-100), Decimal(0)),
        11: (Decimal(-100), Decimal(-20)),
    }


async def test_deleted_items_and_accounts_have_no_daily_balances(db: Pool) -> None:
    await add_item(db, ITEM)
    await add_account(db, ITEM, ACCOUNT, deleted_at=COLLECTED)
    other = uuid.UUID(int=9)
    await add_item(db, other, deleted_at=COLLECTED)
    await add_account(db, other, uuid.UUID(int=10))
    assert await db.fetch("SELECT * FROM pluggy_live.daily_balances") == []


async def lineage(db: Pool) -> dict[tuple[int, int], asyncpg.Record]:
    found = await db.fetch("SELECT * FROM pluggy_live.account_lineage")
    return {(r["item_id"].int, r["id"].int): r for r in found}


def seen(days: int) -> datetime:
    return COLLECTED + timedelta(days=days)


async def test_an_account_that_was_connected_again_is_linked_to_its_tombstone(db: Pool) -> None:
    for number, deleted_at in ((1, COLLECTED), (2, None)):
        item = uuid.UUID(int=number)
        await add_item(db, item, deleted_at=deleted_at, client_user_id="user-1")
        same = {"number": "123-4", "first_seen_at": seen(number), "deleted_at": deleted_at}
        await add_account(db, item, uuid.UUID(int=10 + number), **same)
    found = await lineage(db)
    old, new = found[1, 11], found[2, 12]
    assert (old["superseded_by_item_id"].int, old["superseded_by"].int) == (2, 12)
    assert (old["is_live"], old["reason"]) == (False, "same_number_and_holder")
    assert (new["supersedes_item_id"].int, new["supersedes"].int) == (1, 11)
    assert (new["is_live"], new["superseded_by"], new["reason"]) == (True, None, None)


async def test_a_chain_of_tombstones_is_linked_one_by_one(db: Pool) -> None:
    await add_item(db, ITEM)
    for number, deleted_at in ((11, COLLECTED), (12, COLLECTED), (13, None)):
        same = {"bank_transfer_number": "001/1/2", "first_seen_at": seen(number)}
        await add_account(db, ITEM, uuid.UUID(int=number), deleted_at=deleted_at, **same)
    found = await lineage(db)
    chain = {key[1]: r["superseded_by"] and r["superseded_by"].int for key, r in found.items()}
    assert chain == {11: 12, 12: 13, 13: None}
    assert {key[1]: r["supersedes"] and r["supersedes"].int for key, r in found.items()} == {
        11: None,
        12: 11,
        13: 12,
    }
    assert found[1, 11]["reason"] == "same_transfer_number"


async def test_accounts_of_different_holders_or_banks_are_not_linked(db: Pool) -> None:
    await add_item(db, ITEM, deleted_at=COLLECTED)
    gone = {"number": "1", "tax_number": "A", "bank_transfer_number": "9", "deleted_at": COLLECTED}
    await add_account(db, ITEM, ACCOUNT, first_seen_at=seen(0), **gone)
    await add_item(db, uuid.UUID(int=5))
    other_holder = {"number": "1", "tax_number": "B", "first_seen_at": seen(1)}
    await add_account(db, uuid.UUID(int=5), uuid.UUID(int=6), **other_holder)
    await insert(db, "items", id=uuid.UUID(int=7), connector_id=8, last_updated_at=COLLECTED)
    other_bank = {"number": "1", "bank_transfer_number": "9", "first_seen_at": seen(1)}
    await add_account(db, uuid.UUID(int=7), uuid.UUID(int=8), **other_bank)
    assert {r["superseded_by"] for r in (await lineage(db)).values()} == {None}
