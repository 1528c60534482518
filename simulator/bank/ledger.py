"""The bank's own totals: an item's income and spending in cents by calendar month."""

from collections import Counter

from simulator.clock import iso
from simulator.items.item import Item


def by_month(item: Item) -> dict[str, int]:
    """Cents in the account's currency, money out negative: {"2026-11": -12345}.

    Kept from how a movement came about, not from how Pluggy shows it. Whatever time of day it is
    reported with (midnight UTC, midnight in Brazil, or a moment between 6:00 and 20:00 there), a
    movement was drawn for a day, and that is the UTC day of its time.
    """
    months: Counter[str] = Counter()
    for account in item.accounts.values():
        sign = -1 if account.type == "CREDIT" else 1
        for row in account.rows:
            months[iso(row.date)[:7]] += sign * (row.foreign[1] if row.foreign else row.cents)
    return dict(sorted(months.items()))
