"""The opening of an account: its first fields, and its balance."""

from collections.abc import Iterable
from typing import Any

from simulator.bank.accounts import DUE_AFTER_DAYS, Account
from simulator.bank.history import new_id
from simulator.bank.people import BANKS
from simulator.bank.rows import Row, dice_of, money
from simulator.clock import DAY_MS, iso
from simulator.items.item import Item

_BRANDS = ("MASTERCARD", "VISA", "ELO")
_NAMES = {"CHECKING_ACCOUNT": "Conta Corrente", "SAVINGS_ACCOUNT": "Poupança"}
_LIMIT_CENTS = 3_000_000


def open_account(item: Item, subtype: str, now_ms: int) -> Account:
    random, is_card = item.random, subtype == "CREDIT_CARD"
    brand = random.choice(_BRANDS)
    number = (
        f"{random.randrange(1, 9999):04d}/{random.randrange(10**4, 10**5)}-{random.randrange(10)}"
    )
    payload = {
        "id": new_id(random),
        "itemId": item.id,
        "type": "CREDIT" if is_card else "BANK",
        "subtype": subtype,
        "number": f"xxxx{random.randrange(1000, 10000)}" if is_card else number,
        "name": _NAMES.get(subtype, f"{brand.title()} Black"),
        "marketingName": f"{item.connector['name'].upper()} {brand if is_card else 'GOLD'}",
        "balance": 0,
        "taxNumber": item.owner.document,
        "owner": item.owner.name,
        "currencyCode": "BRL",
        "bankData": None if is_card else _bank_data(random.choice(BANKS)[1], number),
        "creditData": _credit_data(brand) if is_card else None,
        "createdAt": iso(now_ms),
        "updatedAt": iso(now_ms),
    }
    account = Account(
        payload,
        owner=item.owner,
        open_finance=item.open_finance,
        closing_day=random.randrange(1, 29),
    )
    account.quirks, account.without = item.quirks, item.without
    if is_card:
        set_cycle(account, now_ms)
    return account


def _bank_data(compe: str, number: str) -> dict[str, Any]:
    return {
        "transferNumber": f"{compe}/{number}",
        "closingBalance": 0,
        "automaticallyInvestedBalance": 0,
        "overdraftContractedLimit": 1000,
        "overdraftUsedLimit": 0,
        "unarrangedOverdraftAmount": 0,
        "hasReservedBalance": False,
        "reservedBalances": [],
    }


def _credit_data(brand: str) -> dict[str, Any]:
    return {
        "level": "BLACK",
        "brand": brand,
        "brandAdditionalInfo": None,
        "balanceCloseDate": None,
        "balanceDueDate": None,
        "availableCreditLimit": money(_LIMIT_CENTS),
        "balanceForeignCurrency": 0,
        "minimumPayment": 0,
        "creditLimit": money(_LIMIT_CENTS),
        "isLimitFlexible": False,
        "status": "ACTIVE",
        "holderType": "MAIN",
        "disaggregatedCreditLimits": [],
        "additionalCards": [],
    }


def set_cycle(account: Account, now_ms: int) -> None:
    """The dates of the bill that is open now."""
    closing = account.closing_of(now_ms)
    account.payload["creditData"] |= {
        "balanceCloseDate": iso(closing * DAY_MS)[:10],
        "balanceDueDate": iso((closing + DUE_AFTER_DAYS) * DAY_MS)[:10],
    }


def set_opening(account: Account, cents: int) -> None:
    """Set the opening balance so that the balance is `cents` now."""
    account.opening_cents = cents - booked(account)


def booked(account: Account) -> int:
    return sum(row.cents for row in account.rows if row.posted)


def print_balances(account: Account, rows: Iterable[Row], before_cents: int) -> None:
    """Set the balance after the row on some rows, as banks print it; it never changes."""
    cents = before_cents
    for row in rows:
        cents += row.cents if row.posted else 0
        if row.posted and account.type == "BANK" and dice_of(row.id) % 4 == 0:
            row.balance = cents


def read_balance(item: Item, account: Account, now_ms: int) -> None:
    """What the bank says now: rows that are not collected yet have changed it by up to 500."""
    cents = round(account.payload["balance"] * 100) + item.random.randrange(1, 50_000)
    account.payload["balance"] = money(cents)
    if account.type == "BANK":
        account.payload["bankData"]["closingBalance"] = money(cents)
    account.payload["updatedAt"] = iso(now_ms)


def set_balance(account: Account, now_ms: int) -> None:
    """Set the balance: of a bank account its money, of a card its open bill."""
    if account.type == "BANK":
        cents = account.opening_cents + booked(account)
        account.payload["balance"] = money(cents)
        account.payload["bankData"]["closingBalance"] = money(cents)
        return
    closing = account.closing_of(now_ms)
    cents = sum(row.cents for row in account.rows if account.closing_of(row.date) == closing)
    account.payload["balance"] = money(cents)
    account.payload["creditData"]["availableCreditLimit"] = money(max(0, _LIMIT_CENTS - cents))
