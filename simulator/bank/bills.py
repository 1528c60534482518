"""Card bills: a closed bill collects purchases, gives them its id, and is paid from the bank."""

import copy
from random import Random
from typing import Any

from simulator.bank.accounts import DUE_AFTER_DAYS, Account
from simulator.bank.books import Edit
from simulator.bank.history import new_id
from simulator.bank.movements import BILL_PAYMENT, CARD_PAID_FROM_BANK, Kind
from simulator.bank.rows import Row, money
from simulator.clock import DAY_MS, day_text, iso, without_zone
from simulator.items.item import Item
from simulator.world import World


def closings(account: Account, *, first_day: int, last_day: int) -> list[int]:
    """The days in that range on which a bill of this card closes."""
    return [
        day
        for day in range(first_day, last_day + 1)
        if int(day_text(day)[8:]) == account.closing_day
    ]


def in_reais(row: Row) -> int:
    """A row's amount on its bill, in cents; payments do not count."""
    if row.kind is BILL_PAYMENT:
        return 0
    return row.foreign[1] if row.foreign else row.cents


def bill(
    random: Random, account: Account, *, closing: int, total: int, now_ms: int
) -> dict[str, Any]:
    return {
        "id": new_id(random),
        "accountId": account.id,
        "dueDate": without_zone(closing + DUE_AFTER_DAYS),
        "billClosingDate": without_zone(closing),
        "totalAmount": money(total),
        "totalAmountCurrencyCode": "BRL",
        "minimumPaymentAmount": money(max(0, total) * 15 // 100),
        "allowsInstallments": True,
        "financeCharges": [_charge(random)] if random.random() < 0.2 else [],
        "payments": [],
        "createdAt": iso(now_ms),
        "updatedAt": iso(now_ms),
    }


def _charge(random: Random) -> dict[str, Any]:
    return {
        "id": new_id(random),
        "type": random.choice(("IOF", "LATE_PAYMENT_FEE")),
        "amount": money(random.randrange(100, 5_000)),
        "currencyCode": "BRL",
        "additionalInfo": None,
    }


def paid(random: Random, stored: dict[str, Any], *, day: int, now_ms: int) -> dict[str, Any]:
    payment = {
        "id": new_id(random),
        "valueType": "FULL_PAYMENT",
        "paymentDate": without_zone(day),
        "paymentMode": "DEBIT_ACCOUNT",
        "amount": stored["totalAmount"],
        "currencyCode": "BRL",
    }
    return stored | {"payments": [*stored["payments"], payment], "updatedAt": iso(now_ms)}


def payment_rows(
    random: Random, card: Account, bank: Account | None, *, day: int, cents: int, now_ms: int
) -> list[Row]:
    """Both sides of a bill's payment: the card's, which Pluggy writes itself, and the bank's."""
    rows = [_row(random, card, BILL_PAYMENT, day=day, cents=-cents, now_ms=now_ms)]
    if bank is not None:
        rows.append(_row(random, bank, CARD_PAID_FROM_BANK, day=day, cents=-cents, now_ms=now_ms))
    return rows


def _row(random: Random, account: Account, kind: Kind, *, day: int, cents: int, now_ms: int) -> Row:
    return Row(
        id=new_id(random),
        account=account,
        kind=kind,
        party=None,
        description=kind.text,
        category=kind.category,
        cents=cents,
        date=day * DAY_MS,
        created=now_ms,
        updated=now_ms,
        posted=True,
        provider_id=f"{random.getrandbits(64):016x}" if account.open_finance else None,
    )


def close(
    world: World, item: Item, card: Account, closing: int, now_ms: int, taken: frozenset[str]
) -> list[Edit]:
    """Close the open bill as of the end of that day; its rows, but those `taken`, get its id."""
    last_ms = (closing + 1) * DAY_MS - 1
    rows = [row for row in card.listed(date_to=last_ms) if row.bill_id is None and row.posted]
    rows = [row for row in rows if row.kind is not BILL_PAYMENT and row.id not in taken]
    total = sum(in_reais(row) for row in rows)
    made = bill(item.random, card, closing=closing, total=total, now_ms=now_ms)
    world.own(item, item.bills, made)
    return [Edit(card, row, _billed(row, made["id"])) for row in rows]


def _billed(row: Row, bill_id: str) -> Row:
    billed = copy.copy(row)
    billed.bill_id = bill_id
    return billed


def pay(item: Item, bill_id: str, now_ms: int) -> list[Edit]:
    """Pay a bill in full today; the edits are the rows on both accounts."""
    stored, day = item.bills[bill_id], now_ms // DAY_MS
    card = item.accounts[stored["accountId"]]
    bank = next((a for a in item.accounts.values() if a.type == "BANK"), None)
    item.bills[bill_id] = paid(item.random, stored, day=day, now_ms=now_ms)
    cents = round(stored["totalAmount"] * 100)
    rows = payment_rows(item.random, card, bank, day=day, cents=cents, now_ms=now_ms)
    return [Edit(row.account, None, row) for row in rows]


def unpaid(item: Item, *, due_by: str | None = None) -> list[str]:
    """Bills without a payment, oldest due first."""
    open_bills = [
        bill
        for bill in item.bills.values()
        if not bill["payments"] and (due_by is None or bill["dueDate"] <= due_by)
    ]
    return [bill["id"] for bill in sorted(open_bills, key=lambda bill: bill["dueDate"])]


def by_calendar(world: World, item: Item, *, since_ms: int, now_ms: int) -> list[Edit]:
    """Close and pay the bills that have become due since the last collection."""
    edits: list[Edit] = []
    yesterday = now_ms // DAY_MS - 1
    for card in [a for a in item.accounts.values() if a.type == "CREDIT"]:
        for closing in closings(card, first_day=since_ms // DAY_MS, last_day=yesterday):
            if not _is_closed(item, card, closing):
                edits += close(world, item, card, closing, now_ms, stored_ids(edits))
    # Older unpaid bills belong to a history too short to show their payment.
    since, today = without_zone(since_ms // DAY_MS), without_zone(now_ms // DAY_MS)
    for bill_id in unpaid(item, due_by=today):
        if item.bills[bill_id]["dueDate"] >= since:
            edits += pay(item, bill_id, now_ms)
    return edits


def wished(
    world: World, item: Item, *, closed: int, settled: int, now_ms: int
) -> tuple[list[Edit], list[str], list[str]]:
    """Close that many bills today and pay that many: edits, ids closed, ids paid."""
    edits: list[Edit] = []
    before = set(item.bills)
    for card in [a for a in item.accounts.values() if a.type == "CREDIT"][:closed]:
        edits += close(world, item, card, now_ms // DAY_MS, now_ms, stored_ids(edits))
    born = [bill_id for bill_id in item.bills if bill_id not in before]
    due = [bill_id for bill_id in unpaid(item) if bill_id not in born][:settled]
    for bill_id in due:
        edits += pay(item, bill_id, now_ms)
    return edits, born, due


def stored_ids(edits: list[Edit]) -> frozenset[str]:
    return frozenset(edit.stored.id for edit in edits if edit.stored is not None)


def _is_closed(item: Item, card: Account, closing: int) -> bool:
    day = without_zone(closing)
    return any(
        bill["accountId"] == card.id and bill["billClosingDate"] == day
        for bill in item.bills.values()
    )
