"""Altered views of one item for one request: as before a collection, or only a part of it.

The request's handler receives a copy of the world that differs in this item only, so that lists,
reads by id and single rows agree with each other.
"""

import copy
from itertools import islice

from aiohttp import web

from simulator.faults.faults import VIEWS, Fault, Subject
from simulator.items.item import Item
from simulator.state import Simulator, state_of
from simulator.world import World

_WORLD = "world"
# What a cut view leaves out, by the beginning of the route's template.
_CUTS = {
    "/v2/transactions": "rows",
    "/transactions": "rows",
    "/investments/{id}/transactions": "movements",
    "/accounts": "accounts",
    "/investments": "investments",
    "/loans": "loans",
    "/bills": "bills",
    "/consents": "consents",
}


def world_of(request: web.Request) -> World:
    """The world that a request sees."""
    world: World = request.get(_WORLD) or state_of(request).world
    return world


def past_owner(world: World, named: str) -> str | None:
    """The item that owned a deleted row, if a lagging answer may still show it."""
    for item in world.items.values():
        if item.past is not None and named in _known(item.past):
            return item.id
    return None


def _known(past: Item) -> set[str]:
    rows = (row.id for account in past.accounts.values() for row in account.rows)
    return {*past.accounts, *past.owned_ids(), *rows}


def show(
    state: Simulator, request: web.Request, template: str, about: Subject, fault: Fault
) -> bool:
    """Give the request the fault's view of the item; False if it has none."""
    item = state.world.items.get(about.item or "")
    if item is None or fault.kind not in VIEWS or request.method != "GET":
        return False
    seen = item.past if fault.kind == "lag" else item.snapshot()
    if seen is None:
        return False
    if fault.kind == "partial":
        _cut(seen, template, fault.rows)
    request[_WORLD] = _with(state.world, seen)
    return True


def _cut(item: Item, template: str, rows: int) -> None:
    """Leave the first `rows` in listing order: of transactions, the newest of each account."""
    what = next((cut for prefix, cut in _CUTS.items() if template.startswith(prefix)), None)
    if what == "rows":
        for account in item.accounts.values():
            account.load(account.rows[:rows])
    elif what == "movements":
        item.movements = {
            investment_id: listed[:rows] for investment_id, listed in item.movements.items()
        }
    elif what is not None:
        setattr(item, what, dict(islice(getattr(item, what).items(), rows)))


def _with(world: World, seen: Item) -> World:
    """The world, but this item as seen."""
    shown, own = copy.copy(world), world.items[seen.id]
    shown.items = world.items | {seen.id: seen}
    shown.accounts = {
        account_id: account
        for account_id, account in world.accounts.items()
        if account.item_id != seen.id
    } | seen.accounts
    shown.rows = {
        row_id: row for row_id, row in world.rows.items() if row.account.item_id != seen.id
    } | {row.id: row for account in seen.accounts.values() for row in account.rows}
    shown.owners = {
        owned_id: owner for owned_id, owner in world.owners.items() if owner is not own
    } | dict.fromkeys(seen.owned_ids(), seen)
    return shown
