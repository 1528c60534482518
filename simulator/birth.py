"""A first import: accounts, a year of movements, and every other product of a new item."""

import asyncio
from collections import defaultdict
from itertools import islice

from simulator import bills, consents, identity, investments, loans
from simulator.accounts import Account
from simulator.clock import DAY_MS
from simulator.history import HISTORY_DAYS, Movements
from simulator.items import Item
from simulator.movements import BILL_PAYMENT
from simulator.openings import open_account, set_balance
from simulator.rows import Row
from simulator.world import World

# Rows drawn before other requests get their turn.
SLICE = 2_000
_SUBTYPES = ("CHECKING_ACCOUNT", "CREDIT_CARD", "SAVINGS_ACCOUNT", "CREDIT_CARD")
# A card's bills are paid by rows of its own; below this many rows a card shows no payment.
_ROWS_PER_PAYMENT = 20


async def fill(world: World, item: Item, *, transactions: int, accounts: int) -> None:
    """Give a new item everything that its products name."""
    now_ms = world.clock.now_ms()
    made = [open_account(item, subtype, now_ms) for subtype in _wanted(item, accounts)]
    if "TRANSACTIONS" in item.products and made:
        await _fill_accounts(world, item, made, transactions, now_ms)
    for account in made:
        set_balance(account, now_ms)
        world.add_account(item, account)
        world.rows.update((row.id, row) for row in account.rows)
    _fill_products(world, item, now_ms)


def _wanted(item: Item, accounts: int) -> list[str]:
    wanted = [_SUBTYPES[number % len(_SUBTYPES)] for number in range(accounts)]
    product = {"CREDIT_CARD": "CREDIT_CARDS"}
    return [name for name in wanted if product.get(name, "ACCOUNTS") in item.products]


async def _fill_accounts(
    world: World, item: Item, accounts: list[Account], count: int, now_ms: int
) -> None:
    shares = _shares(count, len(accounts))
    extra: defaultdict[str, list[Row]] = defaultdict(list)
    bank = next((account for account in accounts if account.type == "BANK"), None)
    # Cards first: their payments also appear on the bank account.
    for account, share in sorted(zip(accounts, shares, strict=True), key=lambda pair: pair[0].type != "CREDIT"):
        payments = _payments(account, share) if account.type == "CREDIT" else 0
        rows = extra.pop(account.id, [])[:share]
        source = Movements(item.random, world.society, account, now_ms).past(
            share - len(rows) - payments
        )
        while some := list(islice(source, SLICE)):
            rows += some
            await asyncio.sleep(0)
        if account.type == "CREDIT":
            for row in _bill(world, item, account, bank, rows, payments, now_ms):
                (rows if row.account is account else extra[row.account.id]).append(row)
        account.load(rows)


def _shares(count: int, parts: int) -> list[int]:
    return [count // parts + (1 if number < count % parts else 0) for number in range(parts)]


def _payments(account: Account, share: int) -> int:
    return min(HISTORY_DAYS // 31, share // _ROWS_PER_PAYMENT)


def _bill(
    world: World,
    item: Item,
    card: Account,
    bank: Account | None,
    rows: list[Row],
    payments: int,
    now_ms: int,
) -> list[Row]:
    """Close the bills of the past year; the latest `payments` of those due are paid."""
    today = now_ms // DAY_MS
    by_closing: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_closing[card.closing_of(row.date)].append(row)
    closed = bills.closings(card, first_day=today - HISTORY_DAYS, last_day=today - 1)
    settled = [day for day in closed if day + bills.DUE_AFTER_DAYS <= today][-payments:] if payments else []
    paid: list[Row] = []
    for closing in closed:
        total = sum(bills.in_reais(row) for row in by_closing[closing])
        made = bills.bill(item.random, card, closing=closing, total=total, now_ms=now_ms)
        for row in by_closing[closing]:
            row.bill_id = made["id"]
        if closing in settled:
            day = closing + bills.DUE_AFTER_DAYS
            made = bills.paid(item.random, made, day=day, now_ms=now_ms)
            paid += bills.payment_rows(item.random, card, bank, day=day, cents=total, now_ms=now_ms)
        item.bills[made["id"]] = made
        world.own(item, made)
    short = payments - sum(row.kind is BILL_PAYMENT for row in paid)
    return paid + list(Movements(item.random, world.society, card, now_ms).past(short))


def _fill_products(world: World, item: Item, now_ms: int) -> None:
    random, products = item.random, set(item.products)
    if "INVESTMENTS" in products:
        for _ in range(random.randrange(2, 6)):
            add_investment(world, item, now_ms)
    if "LOANS" in products:
        for _ in range(random.randrange(1, 3)):
            add_loan(world, item, now_ms)
    if "IDENTITY" in products:
        item.identity = identity.identity(random, item_id=item.id, owner=item.owner, now_ms=now_ms)
        world.own(item, item.identity)
    add_consent(world, item, now_ms)


def add_investment(world: World, item: Item, now_ms: int) -> str:
    made = investments.investment(item.random, item_id=item.id, owner=item.owner, now_ms=now_ms)
    item.investments[made["id"]] = made
    count = item.random.randrange(1, 8) if "INVESTMENTS_TRANSACTIONS" in item.products else 0
    item.movements[made["id"]] = [
        investments.movement(
            item.random, made, now_ms=now_ms, days_ago=item.random.randrange(HISTORY_DAYS)
        )
        for _ in range(count)
    ]
    world.own(item, made)
    return str(made["id"])


def add_loan(world: World, item: Item, now_ms: int) -> str:
    made = loans.loan(item.random, item_id=item.id, now_ms=now_ms)
    item.loans[made["id"]] = made
    world.own(item, made)
    return str(made["id"])


def add_consent(world: World, item: Item, now_ms: int) -> str:
    made = consents.consent(
        item.random,
        item_id=item.id,
        products=item.products,
        open_finance=item.open_finance,
        now_ms=now_ms,
    )
    item.consents[made["id"]] = made
    world.own(item, made)
    return str(made["id"])
