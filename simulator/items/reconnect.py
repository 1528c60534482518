"""A new connection to a bank that the person has connected before: the same books, new ids."""

import copy
from dataclasses import dataclass
from typing import Any

from simulator.bank.accounts import Account
from simulator.bank.history import HISTORY_DAYS, new_id
from simulator.bank.openings import set_balance
from simulator.bank.rows import Row, dice_of
from simulator.clock import DAY_MS, iso
from simulator.items import consents
from simulator.items.item import Item
from simulator.world import World

_REWORDED = 8


@dataclass(frozen=True)
class Reconnection:
    """The earlier item, the days that the new one reads, and whether some rows are reworded."""

    of: Item
    history_days: int = HISTORY_DAYS
    reworded: bool = False


def reconnect(world: World, item: Item, again: Reconnection, now_ms: int) -> None:
    """Fill the new item with what the bank still lists of the earlier one's accounts."""
    item.owner = again.of.owner
    accounts = {old.id: new_id(item.random) for old in again.of.accounts.values()}
    bills = {bill_id: new_id(item.random) for bill_id in again.of.bills}
    for old in list(again.of.accounts.values()):
        account = _account(item, old, accounts[old.id], now_ms)
        since = now_ms - again.history_days * DAY_MS
        kept = [row for row in old.rows if row.date >= since]
        booked = sum(row.cents for row in old.rows if row.posted and row.date < since)
        account.opening_cents = old.opening_cents + booked
        account.load([_row(item, row, account, bills, again, now_ms) for row in kept])
        set_balance(account, now_ms)
        world.add_account(item, account)
        world.rows.update((row.id, row) for row in account.rows)
    for bill in list(again.of.bills.values()):
        made = _copy(bill, bills[bill["id"]], now_ms) | {"accountId": accounts[bill["accountId"]]}
        world.own(item, item.bills, made)
    _products(world, item, again.of, now_ms)


def _account(item: Item, old: Account, account_id: str, now_ms: int) -> Account:
    payload = _copy(copy.deepcopy(old.payload), account_id, now_ms) | {"itemId": item.id}
    account = Account(
        payload, owner=old.owner, open_finance=item.open_finance, closing_day=old.closing_day
    )
    account.quirks, account.without = item.quirks, item.without
    return account


def _row(
    item: Item, row: Row, account: Account, bills: dict[str, str], again: Reconnection, now_ms: int
) -> Row:
    made = copy.copy(row)
    made.id, made.account, made.real = new_id(item.random), account, row.real or row.id
    made.created = made.updated = now_ms
    made.bill_id = bills.get(row.bill_id or "")
    made.provider_id = f"{item.random.getrandbits(64):016x}" if item.open_finance else None
    if again.reworded and dice_of(made.real) % _REWORDED == 0:
        made.description = f"{row.description} BR"
    return made


def _products(world: World, item: Item, old: Item, now_ms: int) -> None:
    for stored in list(old.investments.values()):
        made_id = world.own(item, item.investments, _owned(item, stored, now_ms))
        listed = old.movements.get(stored["id"], [])
        item.movements[made_id] = [row | {"id": new_id(item.random)} for row in listed]
    for stored in list(old.loans.values()):
        world.own(item, item.loans, _owned(item, stored, now_ms))
    if old.identity is not None:
        world.identify(item, _owned(item, old.identity, now_ms))
    world.own(item, item.consents, consents.consent(item, now_ms))


def _owned(item: Item, stored: dict[str, Any], now_ms: int) -> dict[str, Any]:
    made = _copy(stored, new_id(item.random), now_ms)
    return made | {"itemId": item.id} if "itemId" in stored else made


def _copy(payload: dict[str, Any], row_id: str, now_ms: int) -> dict[str, Any]:
    return payload | {"id": row_id, "createdAt": iso(now_ms), "updatedAt": iso(now_ms)}
