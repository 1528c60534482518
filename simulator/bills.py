"""Card bills: a closed one takes its purchases, gives them its id, and is paid from the bank."""

from random import Random
from typing import Any

from simulator.accounts import DUE_AFTER_DAYS, Account
from simulator.clock import DAY_MS, day_text, iso
from simulator.history import new_id
from simulator.movements import BILL_PAYMENT, CARD_PAID_FROM_BANK, Kind
from simulator.rows import Row, money


def closings(account: Account, *, first_day: int, last_day: int) -> list[int]:
    """The days in that range on which a bill of this card closes."""
    return [day for day in range(first_day, last_day + 1) if _closes(account, day)]


def _closes(account: Account, day: int) -> bool:
    return int(day_text(day)[8:]) == account.closing_day


def in_reais(row: Row) -> int:
    """What a row puts on its bill, in cents; a payment is not part of it."""
    if row.kind is BILL_PAYMENT:
        return 0
    return row.foreign[1] if row.foreign else row.cents


def bill(random: Random, account: Account, *, closing: int, total: int, now_ms: int) -> dict[str, Any]:
    bill_id = new_id(random)
    return {
        "id": bill_id,
        "accountId": account.id,
        "dueDate": _plain(closing + DUE_AFTER_DAYS),
        "billClosingDate": _plain(closing),
        "totalAmount": money(total),
        "totalAmountCurrencyCode": "BRL",
        "minimumPaymentAmount": money(total * 15 // 100),
        "allowsInstallments": True,
        "financeCharges": _charges(random) if random.random() < 0.2 else [],
        "payments": [],
        "createdAt": iso(now_ms),
        "updatedAt": iso(now_ms),
    }


def _charges(random: Random) -> list[dict[str, Any]]:
    return [
        {
            "id": new_id(random),
            "type": random.choice(("IOF", "LATE_PAYMENT_FEE")),
            "amount": money(random.randrange(100, 5_000)),
            "currencyCode": "BRL",
            "additionalInfo": None,
        }
    ]


def _plain(day: int) -> str:
    return iso(day * DAY_MS)[:19]


def paid(random: Random, held: dict[str, Any], *, day: int, now_ms: int) -> dict[str, Any]:
    payment = {
        "id": new_id(random),
        "valueType": "FULL_PAYMENT",
        "paymentDate": _plain(day),
        "paymentMode": "DEBIT_ACCOUNT",
        "amount": held["totalAmount"],
        "currencyCode": "BRL",
    }
    return held | {"payments": [*held["payments"], payment], "updatedAt": iso(now_ms)}


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
