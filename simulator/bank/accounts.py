"""Accounts: their fields as Pluggy shows them, and their transactions in listing order."""

import copy
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date as calendar_date
from typing import Any

from simulator.bank.people import Party
from simulator.bank.rows import Row
from simulator.clock import DAY_MS, day_text

# A createdAtFrom that leaves more rows than this is answered by walking the listing instead.
FEW_ROWS = 5_000
Key = tuple[int, str]


def listing_key(row: Row) -> Key:
    """Pluggy lists by date, newest first, then by id."""
    return (-row.date, row.id)


class Account:
    """`payload` is the account as shown, without what follows from its rows."""

    def __init__(
        self, payload: dict[str, Any], *, owner: Party, open_finance: bool, closing_day: int
    ) -> None:
        self.payload = payload
        self.id: str = payload["id"]
        self.item_id: str = payload["itemId"]
        self.type: str = payload["type"]
        self.subtype: str = payload["subtype"]
        self.last_digits = str(payload["number"])[-4:]
        self.owner = owner
        self.open_finance = open_finance
        self.closing_day = closing_day
        self.quirks: tuple[str, ...] = ()
        self.without: frozenset[str] = frozenset()
        # Real-time balances that were read, by calendar month.
        self.balance_reads: Counter[str] = Counter()
        # The balance before the first known row.
        self.opening_cents = 0
        self.rows: list[Row] = []
        self._by_creation: list[Row] = []
        self._closings: dict[int, int] = {}

    def clear(self) -> None:
        self.rows = []
        self._by_creation = []

    def load(self, rows: Iterable[Row]) -> None:
        """Fill an empty account at once."""
        self.rows = sorted(rows, key=listing_key)
        self._by_creation = sorted(self.rows, key=_creation_key)

    def snapshot(self) -> "Account":
        """The account as it is now, whatever changes later."""
        past = copy.copy(self)
        past.payload = copy.deepcopy(self.payload)
        past.load(self.rows)
        return past

    def add(self, row: Row) -> None:
        insort(self.rows, row, key=listing_key)
        insort(self._by_creation, row, key=_creation_key)

    def remove(self, row: Row) -> None:
        position = bisect_left(self.rows, listing_key(row), key=listing_key)
        if position == len(self.rows) or self.rows[position] is not row:
            raise LookupError(row.id)
        del self.rows[position]
        del self._by_creation[bisect_left(self._by_creation, _creation_key(row), key=_creation_key)]

    def on_day(self, day: int) -> list[Row]:
        first = bisect_right(self.rows, -(day + 1) * DAY_MS, key=lambda row: -row.date)
        last = bisect_right(self.rows, -day * DAY_MS, key=lambda row: -row.date)
        return self.rows[first:last]

    def listed(
        self,
        *,
        after: Key | None = None,
        date_from: int | None = None,
        date_to: int | None = None,
        created_from: int | None = None,
        only: Iterable[Row] | None = None,
    ) -> Iterator[Row]:
        """Rows in listing order behind the key `after`; all bounds are inclusive."""
        rows = self.rows
        if only is not None:
            rows = sorted(only, key=listing_key)
        elif created_from is not None:
            recent = bisect_left(self._by_creation, (created_from, ""), key=_creation_key)
            if len(self._by_creation) - recent <= FEW_ROWS:
                rows = sorted(self._by_creation[recent:], key=listing_key)
        position = 0 if after is None else bisect_right(rows, after, key=listing_key)
        if date_to is not None:
            position = max(position, bisect_left(rows, -date_to, key=lambda row: -row.date))
        while position < len(rows):
            row = rows[position]
            if date_from is not None and row.date < date_from:
                return
            if created_from is None or row.created >= created_from:
                yield row
            position += 1

    def closing_of(self, date: int) -> int:
        """The day number on which the bill that takes a purchase of this time closes."""
        day = date // DAY_MS
        known = self._closings.get(day)
        if known is None:
            known = self._closings[day] = _next_closing(day, self.closing_day)
        return known

    def bill_month(self, date: int) -> str:
        """A bill's name is the month in which it is due."""
        return day_text(self.closing_of(date) + DUE_AFTER_DAYS)[:7]


# Days between the closing of a bill and its due date.
DUE_AFTER_DAYS = 8


def _creation_key(row: Row) -> Key:
    # The id makes the order total: one import gives all its rows the same time.
    return (row.created, row.id)


def _next_closing(day: int, closing_day: int) -> int:
    year, month, of_month = (int(part) for part in day_text(day).split("-"))
    if of_month > closing_day:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return (calendar_date(year, month, closing_day) - calendar_date(1970, 1, 1)).days
