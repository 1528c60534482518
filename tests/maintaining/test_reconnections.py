"""A company loses its direct items, connects again, and every movement counts once."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from tests.maintaining.test_ended_items import (
    BRADESCO_OPEN,
    deleted_by_pluggy,
    kept_item,
    kinds,
    offered,
    withdraw,
)
from tests.maintaining.test_purge import RETENTION, purge, wait
from tests.support.stack import Stack
from worker.maintenance.reconnections import (
    decide_link,
    judge,
    link_reconnections,
    same_day,
    similar,
)
from worker.maintenance.restatements import Version
from worker.store.reconnections import AccountPair, list_account_links, load_account_pairs

__all__ = ["offered"]

BY_MONTH = """
SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM') AS month, coalesce(category_id, '') AS category,
       sum(signed_amount) AS total
FROM pluggy_live.transactions GROUP BY 1, 2
"""
RECONNECTION_RUNS = "SELECT count(*) FROM pluggy_sync.runs WHERE kind = 'reconnection'"
MANY_ITEMS = """
INSERT INTO pluggy.items
    (id, connector_id, payload, row_hash, row_version, run_id, deleted_at, ended_at)
SELECT md5(n::text)::uuid, n % 100, '{}', '', 1, 1, ended, ended
FROM generate_series(1, 3000) AS n, LATERAL (SELECT CASE WHEN n <= 10 THEN now() END) AS e(ended)
"""
MANY_ACCOUNTS = """
INSERT INTO pluggy.accounts
    (item_id, id, type, number, tax_number, payload, row_hash, row_version, run_id)
SELECT md5(n::text)::uuid, gen_random_uuid(), 'BANK', (7919 * n + k)::text, n::text, '{}', '', 1, 1
FROM generate_series(1, 3000) AS n, generate_series(1, 2) AS k
"""
ACCOUNTS_READ = """
SELECT (SELECT seq_tup_read FROM pg_stat_all_tables
        WHERE relid = 'pluggy.accounts'::regclass),
       (SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'accounts_last_digits')
"""
BALANCES = """
SELECT type, sum(signed_balance) AS total FROM pluggy_live.accounts
WHERE signed_balance IS NOT NULL GROUP BY 1
"""
Sums = dict[tuple[str, str], Decimal]


async def report(stack: Stack) -> tuple[Sums, dict[str, Decimal]]:
    """Sums as any report makes them: no condition, no column that tells of connections."""
    months = await stack.db.fetch(BY_MONTH)
    balances = await stack.db.fetch(BALANCES)
    return (
        {(r["month"], r["category"]): r["total"] for r in months if r["total"]},
        {r["type"]: r["total"] for r in balances},
    )


async def books(stack: Stack, *item_ids: str) -> tuple[Sums, dict[str, Decimal]]:
    """The same by the simulator's ledger, each real movement once."""
    ledger = await stack.simulator.aget(f"/_simulator/ledger?items={','.join(item_ids)}")
    sums = {
        (month, category): Decimal(cents) / 100
        for month, categories in ledger["months"].items()
        for category, cents in categories.items()
        if cents
    }
    return sums, {kind: Decimal(str(total)) for kind, total in ledger["balances"].items()}


async def link(stack: Stack) -> None:
    while await link_reconnections(stack.db):
        pass


async def connect_again(stack: Stack, item_id: str, **options: Any) -> dict[str, Any]:
    """The person connects the bank again, under Open Finance."""
    wanted = {"connectorId": BRADESCO_OPEN, "clientUserId": "ana", "reconnects": item_id} | options
    return await stack.synced_item(**wanted)


async def reconnect(stack: Stack, item_id: str, **options: Any) -> dict[str, Any]:
    """The person connects the bank again; the accounts of both items are linked."""
    item = await connect_again(stack, item_id, **options)
    await link(stack)
    return item


async def ended(stack: Stack, **options: Any) -> dict[str, Any]:
    """A direct item that Pluggy has deleted with its connector."""
    item = await kept_item(stack, **options)
    await withdraw(stack)
    await deleted_by_pluggy(stack, item["id"])
    return item


async def states(stack: Stack) -> Counter[str]:
    return Counter(found.state for found in await list_account_links(stack.db))


async def test_a_company_that_loses_its_direct_items_counts_every_movement_once(
    stack: Stack,
) -> None:
    """Before, between and after; the older item reaches back further than the new one."""
    options = {"transactions": 160, "accounts": 3, "clientUserId": "company"}
    first, second = await kept_item(stack, **options), await kept_item(stack, **options)
    old = [first["id"], second["id"]]
    assert await report(stack) == await books(stack, *old)
    await withdraw(stack)
    assert (await kinds(stack)).count("connector_withdrawn") == 2
    for item_id in old:
        await deleted_by_pluggy(stack, item_id)
    assert await report(stack) == await books(stack, *old)
    company = {"clientUserId": "company", "historyDays": 200, "reworded": True}
    new = [(await reconnect(stack, item_id, **company))["id"] for item_id in old]
    assert await states(stack) == {"linked": 6}
    assert await report(stack) == await books(stack, *old, *new)
    # Life goes on under the new items, and nothing of the old ones is purged.
    await stack.collect(new[0], created=6, updated=2)
    await stack.process("item/updated", new[0])
    await link(stack)
    await wait(stack, RETENTION + timedelta(days=1))
    assert await purge(stack) == 0
    assert await report(stack) == await books(stack, *old, *new)
    kept = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy.transactions WHERE deleted_at IS NULL"
    )
    shown = await stack.db.fetchval("SELECT count(*) FROM pluggy_live.transactions")
    assert kept == 320 + await rows_of(stack, new)
    assert shown == (await ledger_rows(stack, *old, *new))
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.purge_receipts") == 0


async def rows_of(stack: Stack, item_ids: list[str]) -> int:
    return sum([len(await stack.truth(item_id)) for item_id in item_ids])


async def ledger_rows(stack: Stack, *item_ids: str) -> int:
    ledger = await stack.simulator.aget(f"/_simulator/ledger?items={','.join(item_ids)}")
    return int(ledger["transactions"])


async def test_a_person_who_connects_again_in_time_counts_once_from_then_on(stack: Stack) -> None:
    item = await kept_item(stack, transactions=80)
    await withdraw(stack)
    new = await reconnect(stack, item["id"])
    assert await report(stack) == await books(stack, item["id"], new["id"])
    await deleted_by_pluggy(stack, item["id"])
    await link(stack)
    assert await report(stack) == await books(stack, item["id"], new["id"])


async def test_every_product_of_both_items_counts_once(stack: Stack) -> None:
    item = await ended(stack, transactions=60)
    tables = ("bills", "investments", "investment_transactions", "loans")
    before = {table: len(await stack.live(item["id"], table)) for table in tables}
    assert all(before.values())
    await reconnect(stack, item["id"])
    for table in tables:
        count = await stack.db.fetchval(f"SELECT count(*) FROM pluggy_live.{table}")  # noqa: S608
        assert count == before[table], table


@pytest.mark.parametrize("one_more", [False, True])
async def test_equal_investments_count_once_if_both_items_have_as_many(
    stack: Stack, one_more: bool
) -> None:
    item = await ended(stack, transactions=60)
    count = len(await stack.live(item["id"], "investments"))
    new = await connect_again(stack, item["id"])
    if one_more:
        await stack.update(new["id"], products={"investments": {"created": 1}})
    await stack.db.execute(
        "UPDATE pluggy.investments SET type = 'X', subtype = 'X', name = 'X', number = NULL,"
        " code = NULL, isin = NULL, due_date = NULL"
    )
    await link(stack)
    live = await stack.db.fetchval("SELECT count(*) FROM pluggy_live.investments")
    assert live == (2 * count + 1 if one_more else count)


async def test_daily_balances_have_each_day_of_an_account_once(stack: Stack) -> None:
    item = await ended(stack, transactions=60, accounts=1)
    await reconnect(stack, item["id"], historyDays=120)
    days = await stack.db.fetch(
        "SELECT day, count(*) AS n, count(DISTINCT item_id) AS items, min(is_exact::int) AS exact"
        " FROM pluggy_live.daily_balances GROUP BY day ORDER BY day"
    )
    assert {record["n"] for record in days} == {1}
    owners = await stack.db.fetchval(
        "SELECT count(DISTINCT item_id) FROM pluggy_live.daily_balances"
    )
    assert owners == 2
    assert [later["day"] - day["day"] for day, later in pairwise(days)] == [timedelta(days=1)] * (
        len(days) - 1
    )


async def test_lineage_leads_from_the_older_account_and_row_to_the_newer(stack: Stack) -> None:
    item = await ended(stack, transactions=30, accounts=1)
    new = await reconnect(stack, item["id"])
    [account] = await stack.db.fetch(
        "SELECT * FROM pluggy_live.account_lineage WHERE item_id = $1", item["id"]
    )
    [successor] = await stack.db.fetch(
        "SELECT * FROM pluggy_live.account_lineage WHERE item_id = $1", new["id"]
    )
    assert (account["superseded_by"], account["reason"]) == (
        successor["id"],
        "same_number_and_tax_number",
    )
    assert successor["supersedes"] == account["id"]
    real = (await stack.simulator.aget(f"/_simulator/truth/{new['id']}"))["real"]
    rows = await stack.db.fetch(
        "SELECT id, superseded_by, superseded_by_item_id, is_live"
        " FROM pluggy_live.transaction_lineage WHERE item_id = $1",
        item["id"],
    )
    assert len(rows) == 30
    for row in rows:
        assert not row["is_live"]
        assert str(row["superseded_by_item_id"]) == new["id"]
        assert str(row["superseded_by"]) in real
    assert await stack.live(item["id"]) == {}
    shown = await stack.live(item["id"], "accounts")
    assert [a["signed_balance"] for a in shown.values()] == [None]


async def test_a_bank_account_of_another_holder_is_never_linked(stack: Stack) -> None:
    item = await ended(stack, transactions=20, accounts=1)
    await stack.db.execute(
        "UPDATE pluggy.accounts SET tax_number = '000.000.000-00' WHERE item_id = $1", item["id"]
    )
    await reconnect(stack, item["id"])
    assert await states(stack) == {}


async def test_an_account_of_another_user_of_yours_is_never_linked(stack: Stack) -> None:
    item = await ended(stack, transactions=20, accounts=2)
    await reconnect(stack, item["id"], clientUserId="bia")
    assert await states(stack) == {}


async def cards_alone(stack: Stack) -> tuple[dict[str, Any], dict[str, Any]]:
    """A card and one of a new connection with the same digits and none of its rows."""
    item = await ended(stack, transactions=40, accounts=2)
    await stack.db.execute(
        "UPDATE pluggy.transactions SET amount = amount + 1000 WHERE item_id = $1", item["id"]
    )
    new = await reconnect(stack, item["id"])
    return item, new


async def test_a_card_without_matching_rows_waits_for_a_person(stack: Stack) -> None:
    item, new = await cards_alone(stack)
    assert await states(stack) == {"linked": 1, "proposed": 1}
    [card] = [found for found in await list_account_links(stack.db) if found.state == "proposed"]
    assert (card.matching_rows, card.compared_rows > 0) == (0, True)
    assert await kinds(stack) == ["account_link"]
    assert (str(card.item_id), str(card.superseded_by_item_id)) == (item["id"], new["id"])
    shown = await stack.live(item["id"], "accounts")
    assert shown[str(card.account_id)]["signed_balance"] is not None
    pair = {"account_id": card.account_id, "superseded_by": card.superseded_by}
    assert await decide_link(stack.db, **pair, accepts=True)
    await link(stack)
    assert await states(stack) == {"linked": 1, "accepted": 1}
    assert await kinds(stack) == []
    shown = await stack.live(item["id"], "accounts")
    assert shown[str(card.account_id)]["signed_balance"] is None


async def test_accounts_of_other_items_are_looked_up_by_their_digits(stack: Stack) -> None:
    """Done every half minute once an item has ended; what is read may not grow with the rest."""
    await stack.db.execute(MANY_ITEMS)
    await stack.db.execute(MANY_ACCOUNTS)
    await stack.db.execute("ANALYZE pluggy.items, pluggy.accounts")
    before = await accounts_read(stack)
    assert await load_account_pairs(stack.db, limit=10) == []
    read, looked_up = [
        now - then for now, then in zip(await accounts_read(stack), before, strict=True)
    ]
    assert (read, looked_up) == (0, 20)


async def accounts_read(stack: Stack) -> tuple[int, int]:
    """Accounts read by scans of the whole table, and look-ups by last digits."""
    await stack.db.execute("SELECT pg_stat_force_next_flush()")
    [found] = await stack.db.fetch(ACCOUNTS_READ)
    return found[0], found[1]


async def test_a_pair_that_waits_for_a_person_makes_no_more_runs(stack: Stack) -> None:
    await cards_alone(stack)
    before = await stack.db.fetchval(RECONNECTION_RUNS)
    await link(stack)
    assert before == await stack.db.fetchval(RECONNECTION_RUNS)
    await stack.db.execute("UPDATE pluggy_sync.account_links SET compared_rows = 0")
    await link(stack)
    assert await stack.db.fetchval(RECONNECTION_RUNS) == before + 1


async def test_a_refused_pair_counts_apart_and_is_not_proposed_again(stack: Stack) -> None:
    item = await ended(stack, transactions=40, accounts=2)
    await reconnect(stack, item["id"])
    [card] = [
        found
        for found in await list_account_links(stack.db)
        if found.reason == "same_card_and_rows"
    ]
    rows = {str(i) for i in await card_rows(stack, card.account_id)}
    assert rows.isdisjoint(await stack.live(item["id"]))
    pair = {"account_id": card.account_id, "superseded_by": card.superseded_by}
    assert await decide_link(stack.db, **pair, accepts=False)
    await link(stack)
    assert await states(stack) == {"linked": 1, "refused": 1}
    assert rows == set(await stack.live(item["id"]))
    assert not await decide_link(
        stack.db, account_id=uuid.uuid4(), superseded_by=uuid.uuid4(), accepts=True
    )


async def card_rows(stack: Stack, account_id: uuid.UUID) -> list[uuid.UUID]:
    found = await stack.db.fetch(
        "SELECT id FROM pluggy.transactions WHERE account_id = $1", account_id
    )
    return [record["id"] for record in found]


async def test_a_new_item_that_is_deleted_gives_the_older_rows_back(stack: Stack) -> None:
    item = await ended(stack, transactions=30)
    before = await report(stack)
    new = await reconnect(stack, item["id"])
    assert await stack.live(item["id"]) == {}
    await stack.client_deletes(new["id"])
    await stack.process("item/deleted", new["id"])
    await link(stack)
    assert await states(stack) == {}
    assert await report(stack) == before


async def test_linking_again_changes_nothing_and_makes_no_run(stack: Stack) -> None:
    item = await ended(stack, transactions=30)
    await reconnect(stack, item["id"])
    count = "SELECT count(*) FROM pluggy_sync.runs"
    before = await stack.db.fetchval(count)
    await link(stack)
    assert await stack.db.fetchval(count) == before


NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def row(number: int, **changes: Any) -> Version:
    made = Version(
        id=uuid.UUID(int=number),
        amount=Decimal("-10.00"),
        currency_code="BRL",
        posted_on=date(2026, 5, 4),
        description="Padaria",
        first_seen_at=NOON,
    )
    return replace(made, **changes)


def pairs(found: list[Any]) -> list[tuple[int, int]]:
    return sorted((link.id.int, link.superseded_by.int) for link in found)


def test_rows_of_one_day_and_amount_are_linked_where_both_have_as_many() -> None:
    older = [row(1), row(2, description="Café")]
    newer = [row(11, description="CAFE SP"), row(12, description="PADARIA SP")]
    assert len(same_day(older, newer)) == 2
    assert same_day(older, newer[:1]) == []


@pytest.mark.parametrize(
    ("changes", "linked"),
    [
        ({"posted_on": date(2026, 5, 5), "description": "PIX"}, True),
        ({"posted_on": date(2026, 5, 6), "description": "PIX"}, False),
        ({"posted_on": date(2026, 5, 7)}, True),
        ({"posted_on": date(2026, 5, 8)}, False),
        ({"amount": Decimal("-10.01")}, False),
        ({"currency_code": "USD"}, False),
    ],
)
def test_two_rows_are_one_movement_only_by_amount_and_day(
    changes: dict[str, Any], linked: bool
) -> None:
    assert pairs(similar([row(1)], [row(11, **changes)])) == ([(1, 11)] if linked else [])


def test_monthly_payments_are_never_taken_for_each_other() -> None:
    older = [row(n, posted_on=date(2026, n, 4)) for n in range(1, 7)]
    newer = [row(10 + n, posted_on=date(2026, n, 5)) for n in range(4, 10)]
    assert pairs(similar(older, newer)) == [(4, 14), (5, 15), (6, 16)]


def candidate(newer: int, *, matching: int, compared: int, is_card: bool = True) -> AccountPair:
    return AccountPair(
        item_id=uuid.UUID(int=1),
        account_id=uuid.UUID(int=2),
        newer_item_id=uuid.UUID(int=3),
        newer_id=uuid.UUID(int=newer),
        is_card=is_card,
        matching_rows=matching,
        compared_rows=compared,
        is_proposed=False,
    )


@pytest.mark.parametrize(
    ("found", "states"),
    [
        ([candidate(4, matching=8, compared=10)], ["linked"]),
        ([candidate(4, matching=7, compared=10)], ["proposed"]),
        ([candidate(4, matching=2, compared=2)], ["proposed"]),
        ([candidate(4, matching=0, compared=0)], ["proposed"]),
        ([candidate(4, matching=9, compared=9), candidate(5, matching=1, compared=9)], ["linked"]),
        (
            [candidate(4, matching=9, compared=9), candidate(5, matching=9, compared=9)],
            ["proposed", "proposed"],
        ),
        ([candidate(n, matching=0, compared=0, is_card=False) for n in (4, 5)], ["linked"]),
    ],
)
def test_a_card_is_linked_only_with_matching_rows_beside(
    found: list[AccountPair], states: list[str]
) -> None:
    assert [verdict.state for verdict in judge(found)] == states
