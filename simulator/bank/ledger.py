"""The bank's own totals: income, spending and balances in cents, each movement counted once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from simulator.bank.rows import Row, money
from simulator.clock import iso
from simulator.items.item import Item


def by_month(item: Item) -> dict[str, int]:
    """Cents in the account's currency, money out negative: {"2026-11": -12345}.

    Kept from how a movement came about, not from how Pluggy shows it. Whatever time of day it is
    reported with (midnight UTC, midnight in Brazil, or a moment between 6:00 and 20:00 there), a
    movement was drawn for a day, and that is the UTC day of its time.
    """
    months: Counter[str] = Counter()
    for row in _rows(item):
        months[_month(row)] += _signed_cents(row)
    return dict(sorted(months.items()))


def of_connections(items: Sequence[Item]) -> dict[str, Any]:
    """The same over several connections of one person, each movement once, by category too.

    Of a movement that several connections show, the last one's version counts: items are in the
    order of their connection. Balances: of each account once, money owed on a card negative.
    """
    rows = {row.real or row.id: row for item in items for row in _rows(item)}
    months: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows.values():
        months[_month(row)][row.category or ""] += _signed_cents(row)
    accounts = {
        (account.type, account.payload["number"]): account
        for item in items
        for account in item.accounts.values()
    }
    cents: Counter[str] = Counter()
    for account in accounts.values():
        sign = -1 if account.type == "CREDIT" else 1
        cents[account.type] += sign * round(account.payload["balance"] * 100)
    return {
        "transactions": len(rows),
        "months": {month: dict(sums) for month, sums in sorted(months.items())},
        "accounts": len(accounts),
        "balances": {kind: money(total) for kind, total in sorted(cents.items())},
    }


def _rows(item: Item) -> Iterator[Row]:
    for account in item.accounts.values():
        yield from account.rows


def _month(row: Row) -> str:
    return iso(row.date)[:7]


def _signed_cents(row: Row) -> int:
    sign = -1 if row.account.type == "CREDIT" else 1
    return sign * (row.foreign[1] if row.foreign else row.cents)
