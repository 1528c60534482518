"""What the queries of the cookbook answer, worked out from Pluggy's rows without any SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from tests.support.mirrored_people import ANA, BRUNO, Document, People, day_of

OWN_TRANSFERS, CARD_PAYMENTS = "04", "05100000"
Row = tuple[Any, ...]


def booked(people: People, user: str | None, since: date, today: date) -> list[Document]:
    """Rows up to today that are no own transfer and no payment of a card's bill."""
    return [
        row
        for row in people.transactions(user)
        if since <= row["day"] <= today
        and not (row["categoryId"] or "").startswith(OWN_TRANSFERS)
        and row["categoryId"] != CARD_PAYMENTS
    ]


def spent(people: People, user: str | None, since: date, today: date) -> list[Document]:
    return [row for row in booked(people, user, since, today) if row["signed"] < 0]


def month(row: Document) -> date:
    day: date = row["day"]
    return day.replace(day=1)


def grouped(rows: list[Document], key: Callable[[Document], Row]) -> dict[Row, list[Document]]:
    found: dict[Row, list[Document]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def total(rows: list[Document]) -> Decimal:
    return sum((row["signed"] for row in rows), Decimal(0))


def spending_by_category(people: People, user: str | None, since: date, today: date) -> list[Row]:
    groups = grouped(
        spent(people, user, since, today), lambda r: (month(r), r["currency"], r["category"])
    )
    return [(*key, -total(rows), len(rows)) for key, rows in groups.items()]


def cash_flow(people: People, user: str | None, since: date, today: date) -> list[Row]:
    groups = grouped(booked(people, user, since, today), lambda r: (month(r), r["currency"]))
    return [
        (
            *key,
            total([row for row in rows if row["signed"] > 0]),
            -total([row for row in rows if row["signed"] < 0]),
            total(rows),
            sum(row["categoryId"] is None for row in rows),
        )
        for key, rows in groups.items()
    ]


def balances(people: People, user: str | None, since: date, today: date) -> Iterator[Document]:
    """Of each account and day: as it is now from its report on, before that less what followed."""
    rows = grouped(people.transactions(user), lambda r: (r["accountId"],))
    for account in people.accounts(user).values():
        balance, is_card = Decimal(account["balance"]), account["type"] == "CREDIT"
        reported = day_of(account["updatedAt"])
        moved = [
            row
            for row in rows[account["id"],]
            if row["status"] == "POSTED" and row["currency"] == "BRL"
        ]
        known = [row["day"] for row in moved if not is_card and row["day"] <= reported]
        day = max(since, min([*known, reported]))
        while day <= today:
            later = [row for row in moved if day < row["day"] <= reported]
            yield {
                "account": account,
                "day": day,
                "signed": -balance if is_card else balance - total(later),
                "net": total([row for row in moved if row["day"] == day]),
                "is_computed": day < reported,
            }
            day += timedelta(days=1)


def balance_by_day(people: People, user: str | None, since: date, today: date) -> list[Row]:
    return [
        (*_ids(b["account"]), b["day"], "BRL", b["signed"], b["net"], b["is_computed"])
        for b in balances(people, user, since, today)
    ]


def _ids(row: Document) -> Row:
    return (row["itemId"], row["id"])


def net_worth(people: People, user: str | None, since: date, today: date) -> list[Row]:
    found = grouped(list(balances(people, user, since, today)), lambda b: (b["day"],))
    ends = [key for key in found if key[0] == today or (key[0] + timedelta(days=1)).day == 1]
    held = [i for i in people.rows("investments", user) if i["status"] != "TOTAL_WITHDRAWAL"]
    owed = [i["payments"] for i in people.rows("loans", user) if i.get("settlementDate") is None]
    assert {i["currencyCode"] for i in held} <= {"BRL"}
    beside = _sum(held, "balance"), _sum(owed, "contractOutstandingBalance")
    return [_worth(key, found[key], beside if key[0] == today else None) for key in ends]


def _worth(key: Row, found: list[Document], beside: tuple[Decimal, Decimal] | None) -> Row:
    """beside: the sums of investments and of loans, where they are known."""
    cards = [b for b in found if b["account"]["type"] == "CREDIT"]
    others = [b for b in found if b not in cards]
    more = (*beside, total(found) + beside[0] - beside[1]) if beside else (None, None, None)
    counts = (len(others), len(cards), 0)
    return (*key, "BRL", total(others), -total(cards), total(found), *more, *counts)


def upcoming_bills(people: People, user: str | None, since: date, today: date) -> list[Row]:
    cards = {k: a for k, a in people.accounts(user).items() if a["type"] == "CREDIT"}
    bills = [(day_of(b["dueDate"]), b) for b in people.rows("bills", user)]
    due: list[Row] = []
    for day, bill in bills:
        paid = sum((Decimal(p["amount"]) for p in bill["payments"]), Decimal(0))
        if day >= today and paid < bill["totalAmount"]:
            money = (Decimal(bill["totalAmount"]), paid, Decimal(bill["minimumPaymentAmount"]))
            due.append((day, "closed", *_named(cards[bill["accountId"]]), "BRL", *money))
    closed = {(day, bill["accountId"]) for day, bill in bills}
    for card in cards.values():
        day = day_of(card["creditData"]["balanceDueDate"])
        if day >= today and (day, card["id"]) not in closed:
            least = card["creditData"]["minimumPayment"]
            minimum = None if least is None else Decimal(least)
            owed = Decimal(card["balance"])
            due.append((day, "open", *_named(card), "BRL", owed, Decimal(0), minimum))
    return due


def _named(card: Document) -> Row:
    return (card["marketingName"] or card["name"], card["number"][-4:])


def largest_expenses(people: People, user: str | None, since: date, today: date) -> list[Row]:
    found: list[Row] = []
    groups = grouped(spent(people, user, since, today), lambda r: (r["currency"],))
    for (currency,), rows in groups.items():
        rows.sort(key=lambda r: (r["signed"], r["id"]))
        found += [
            (currency, place, -r["signed"], r["day"], r["description"], r["category"], *_ids(r))
            for place, r in enumerate(rows[:10], start=1)
        ]
    return found


def recurring_payments(people: People, user: str | None, since: date, today: date) -> list[Row]:
    groups = grouped(
        spent(people, user, since, today),
        lambda r: (r["itemId"], r["accountId"], r["description"], r["currency"]),
    )
    found: list[Row] = []
    for key, rows in groups.items():
        if len(rows) >= 3 and len(rows) == len({month(row) for row in rows}):
            amounts = sorted(-row["signed"] for row in rows)
            usual = round(sum(amounts) / len(amounts) + Decimal("1e-9"), 2)
            last = max(row["day"] for row in rows)
            found.append((*key, len(rows), usual, amounts[0], amounts[-1], last))
    return found


def spending_by_merchant(people: People, user: str | None, since: date, today: date) -> list[Row]:
    groups = grouped(
        spent(people, user, since, today),
        lambda r: ((r["merchant"] or {}).get("name"), r["currency"]),
    )
    return [
        (*key, -total(rows), len(rows), max(r["day"] for r in rows)) for key, rows in groups.items()
    ]


def bills_and_their_rows(people: People, user: str | None, since: date, today: date) -> list[Row]:
    found: list[Row] = []
    for bill in people.rows("bills", user):
        rows = [
            row
            for row in people.transactions(user)
            if row["itemId"] == bill["itemId"]
            and (row["creditCardMetadata"] or {}).get("billId") == bill["id"]
        ]
        mine = [row for row in rows if row["currency"] == "BRL"]
        if (due := day_of(bill["dueDate"])) >= since:
            sums = (Decimal(bill["totalAmount"]), -total(mine), len(rows), len(rows) - len(mine))
            found.append((bill["itemId"], bill["id"], due, "BRL", *sums))
    return found


def planned_payments(people: People, user: str | None, since: date, today: date) -> list[Row]:
    return [
        (
            *(r["day"], r["currency"], r["signed"], r["description"], r["day"] > today),
            *(r["status"] == "PENDING", r["itemId"], r["accountId"], r["id"]),
        )
        for r in people.transactions(user)
        if r["day"] >= since and (r["day"] > today or r["status"] == "PENDING")
    ]


def investments_and_loans(people: People, user: str | None, since: date, today: date) -> list[Row]:
    held = [i for i in people.rows("investments", user) if i["status"] != "TOTAL_WITHDRAWAL"]
    owed = [i for i in people.rows("loans", user) if i.get("settlementDate") is None]
    return [
        ("investment", *key, len(rows), _sum(rows, "balance"), _sum(rows, "amountProfit"))
        for key, rows in grouped(held, lambda i: (i["type"], i["currencyCode"])).items()
    ] + [
        (
            "loan",
            *key,
            len(rows),
            -_sum([r["payments"] for r in rows], "contractOutstandingBalance"),
            None,
        )
        for key, rows in grouped(owed, lambda i: (i["kind"], i["currencyCode"])).items()
    ]


def _sum(rows: list[Document], name: str) -> Decimal:
    return sum((Decimal(row[name]) for row in rows), Decimal(0))


def accounts_connected_twice(
    people: People, user: str | None, since: date, today: date
) -> list[Row]:
    if user == BRUNO:
        return []
    first, again = people.truths[ANA]
    by_number = {(a["type"], a["number"]): a for a in again["accounts"]}
    return [
        (a["itemId"], a["id"], other["itemId"], other["id"], a["type"])
        for a in first["accounts"]
        for other in [by_number[a["type"], a["number"]]]
    ]


EXPECTED: Final[dict[str, Callable[[People, str | None, date, date], list[Row]]]] = {
    each.__name__: each
    for each in (
        spending_by_category,
        cash_flow,
        net_worth,
        upcoming_bills,
        balance_by_day,
        largest_expenses,
        recurring_payments,
        spending_by_merchant,
        bills_and_their_rows,
        planned_payments,
        investments_and_loans,
        accounts_connected_twice,
    )
}
