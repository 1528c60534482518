"""The first import of an item: accounts, a year of movements, and every other product."""

import asyncio
from collections import defaultdict
from itertools import islice

from simulator.bank import bills, identity, investments, loans
from simulator.bank.accounts import DUE_AFTER_DAYS, Account
from simulator.bank.history import HISTORY_DAYS, Movements
from simulator.bank.openings import open_account, print_balances, set_balance, set_opening
from simulator.bank.rows import Row
from simulator.clock import DAY_MS
from simulator.items import consents
from simulator.items.item import Item, Payload
from simulator.world import World

# Rows drawn before control returns to the event loop.
SLICE = 2_000
_SUBTYPES = ("CHECKING_ACCOUNT", "CREDIT_CARD", "SAVINGS_ACCOUNT", "CREDIT_CARD")
# A card's bills are paid by rows of its own; below this many rows a card shows no payment.
_ROWS_PER_PAYMENT = 20


async def fill(world: World, item: Item, *, transactions: int, accounts: int, now_ms: int) -> None:
    """Fill a new item with rows of all its products, as of now_ms."""
    made = [open_account(item, subtype, now_ms) for subtype in _wanted(item, accounts)]
    count = transactions if "TRANSACTIONS" in item.products else 0
    await _fill_accounts(world, item, made, count, now_ms)
    if item.id not in world.items:
        return
    for account in made:
        set_opening(account, item.random.randrange(10_000, 4_000_000))
        print_balances(account, reversed(account.rows), account.opening_cents)
        set_balance(account, now_ms)
        world.add_account(item, account)
        world.rows.update((row.id, row) for row in account.rows)
    fill_products(world, item, set(item.products) - item.unread, now_ms)
    world.own(item, item.consents, consents.consent(item, now_ms))


def _wanted(item: Item, accounts: int) -> list[str]:
    wanted = [_SUBTYPES[number % len(_SUBTYPES)] for number in range(accounts)]
    product = {"CREDIT_CARD": "CREDIT_CARDS"}
    return [name for name in wanted if product.get(name, "ACCOUNTS") in item.products]


async def _fill_accounts(
    world: World, item: Item, accounts: list[Account], count: int, now_ms: int
) -> None:
    """Exactly `count` rows, the payments of bills included, spread evenly."""
    shares = {
        account.id: count // len(accounts) + (number < count % len(accounts))
        for number, account in enumerate(accounts)
    }
    bank = next((account for account in accounts if account.type == "BANK"), None)
    from_cards: list[Row] = []
    # Cards first: their payments also appear on the bank account.
    for account in sorted(accounts, key=lambda account: account.type != "CREDIT"):
        share = shares[account.id]
        settled = _settled(account, share, now_ms) if account.type == "CREDIT" else []
        rows = from_cards[:share] if account is bank else []
        source = Movements(item.random, world.society, account, now_ms)
        await _draw(source, share - len(rows) - len(settled), rows)
        if account.type == "CREDIT":
            payments = _bill(world, item, account, bank, rows, settled, now_ms)
            rows += [row for row in payments if row.account is account]
            from_cards += [row for row in payments if row.account is not account]
        account.load(rows)


async def _draw(source: Movements, count: int, rows: list[Row]) -> None:
    drawn = source.past(count)
    while some := list(islice(drawn, SLICE)):
        rows += some
        await asyncio.sleep(0)


def _closings(card: Account, now_ms: int) -> list[int]:
    today = now_ms // DAY_MS
    return bills.closings(card, first_day=today - HISTORY_DAYS, last_day=today - 1)


def _settled(card: Account, share: int, now_ms: int) -> list[int]:
    """Closings whose bill has been paid by a row: the latest, as many as the rows allow."""
    due = [day for day in _closings(card, now_ms) if day + DUE_AFTER_DAYS <= now_ms // DAY_MS]
    return due[max(0, len(due) - share // _ROWS_PER_PAYMENT) :]


def _bill(
    world: World,
    item: Item,
    card: Account,
    bank: Account | None,
    rows: list[Row],
    settled: list[int],
    now_ms: int,
) -> list[Row]:
    """Close the bills of the past year; returns the rows of those that are settled."""
    by_closing: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_closing[card.closing_of(row.date)].append(row)
    payments: list[Row] = []
    for closing in _closings(card, now_ms):
        total = sum(bills.in_reais(row) for row in by_closing[closing])
        made = bills.bill(item.random, card, closing=closing, total=total, now_ms=now_ms)
        for row in by_closing[closing]:
            row.bill_id = made["id"]
        if closing in settled:
            day = closing + DUE_AFTER_DAYS
            made = bills.paid(item.random, made, day=day, now_ms=now_ms)
            payments += bills.payment_rows(
                item.random, card, bank, day=day, cents=total, now_ms=now_ms
            )
        world.own(item, item.bills, made)
    return payments


def fill_products(world: World, item: Item, products: set[str], now_ms: int) -> None:
    random = item.random
    if "INVESTMENTS" in products:
        for _ in range(random.randrange(2, 6)):
            add_investment(world, item, now_ms)
    elif "INVESTMENTS_TRANSACTIONS" in products:
        for stored in item.investments.values():
            item.movements[stored["id"]] = _movements(item, stored, now_ms)
    if "LOANS" in products:
        for _ in range(random.randrange(1, 3)):
            add_loan(world, item, now_ms)
    if "IDENTITY" in products:
        made = identity.identity(random, item_id=item.id, owner=item.owner, now_ms=now_ms)
        world.identify(item, made)


def add_investment(world: World, item: Item, now_ms: int) -> str:
    made = investments.investment(item.random, item_id=item.id, owner=item.owner, now_ms=now_ms)
    item.movements[made["id"]] = _movements(item, made, now_ms)
    return world.own(item, item.investments, made)


def _movements(item: Item, stored: Payload, now_ms: int) -> list[Payload]:
    product, random = "INVESTMENTS_TRANSACTIONS", item.random
    if product not in item.products or product in item.unread:
        return []
    return [
        investments.movement(random, stored, now_ms=now_ms, days_ago=random.randrange(HISTORY_DAYS))
        for _ in range(random.randrange(1, 8))
    ]


def add_loan(world: World, item: Item, now_ms: int) -> str:
    return world.own(item, item.loans, loans.loan(item.random, item_id=item.id, now_ms=now_ms))
