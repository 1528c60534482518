"""How the products other than transactions change in a collection."""

from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec

from simulator import identity, investments, loans
from simulator.birth import add_investment, add_loan
from simulator.clock import iso
from simulator.items import Item, Payload
from simulator.world import World


class Counts(msgspec.Struct, forbid_unknown_fields=True):
    created: int = 0
    updated: int = 0
    deleted: int = 0


Ids = dict[str, list[str]]
# Our name of a product -> Pluggy's name of what is collected.
COLLECTED_AS = {
    "accounts": "ACCOUNTS",
    "investments": "INVESTMENTS",
    "investment_transactions": "INVESTMENTS_TRANSACTIONS",
    "loans": "LOANS",
    "identities": "IDENTITY",
    "bills": "CREDIT_CARDS",
}


def change(world: World, item: Item, name: str, counts: Counts, now_ms: int) -> Ids:
    """Ids created, updated and deleted."""
    return _CHANGES[name](world, item, counts, now_ms)


def _sample(item: Item, ids: list[str], count: int) -> list[str]:
    return item.random.sample(ids, min(count, len(ids)))


def _investments(world: World, item: Item, counts: Counts, now_ms: int) -> Ids:
    deleted = _sample(item, list(item.investments), counts.deleted)
    for investment_id in deleted:
        close_investment(world, item, investment_id)
    updated = _sample(item, list(item.investments), counts.updated)
    for investment_id in updated:
        held = item.investments[investment_id]
        item.investments[investment_id] = investments.move_on(item.random, held, now_ms=now_ms)
    created = [add_investment(world, item, now_ms) for _ in range(counts.created)]
    return {"created": created, "updated": updated, "deleted": deleted}


def close_investment(world: World, item: Item, investment_id: str) -> None:
    del item.investments[investment_id], world.owners[investment_id]
    item.movements.pop(investment_id, None)


def close_loan(world: World, item: Item, loan_id: str) -> None:
    del item.loans[loan_id], world.owners[loan_id]


def _investment_transactions(world: World, item: Item, counts: Counts, now_ms: int) -> Ids:
    everything = [row["id"] for rows in item.movements.values() for row in rows]
    chosen = _sample(item, everything, counts.deleted + counts.updated)
    deleted, updated = chosen[: counts.deleted], chosen[counts.deleted :]
    for investment_id, rows in item.movements.items():
        kept = [row for row in rows if row["id"] not in set(deleted)]
        item.movements[investment_id] = [
            row | {"description": f"{row['description']} *"} if row["id"] in set(updated) else row
            for row in kept
        ]
    created = [_add_movement(item, now_ms) for _ in range(counts.created if item.investments else 0)]
    return {"created": created, "updated": updated, "deleted": deleted}


def _add_movement(item: Item, now_ms: int) -> str:
    investment_id = item.random.choice(list(item.investments))
    made = investments.movement(
        item.random, item.investments[investment_id], now_ms=now_ms, days_ago=0
    )
    item.movements[investment_id].insert(0, made)
    return str(made["id"])


def _loans(world: World, item: Item, counts: Counts, now_ms: int) -> Ids:
    deleted = _sample(item, list(item.loans), counts.deleted)
    for loan_id in deleted:
        close_loan(world, item, loan_id)
    updated = _sample(item, list(item.loans), counts.updated)
    for loan_id in updated:
        item.loans[loan_id] = loans.pay(item.random, item.loans[loan_id], now_ms=now_ms)
    created = [add_loan(world, item, now_ms) for _ in range(counts.created)]
    return {"created": created, "updated": updated, "deleted": deleted}


def _identities(world: World, item: Item, counts: Counts, now_ms: int) -> Ids:
    if item.identity is None or not counts.updated:
        return {"created": [], "updated": [], "deleted": []}
    item.identity = identity.moved_house(item.random, item.identity, now_ms=now_ms)
    return {"created": [], "updated": [item.identity["id"]], "deleted": []}


def _accounts(world: World, item: Item, counts: Counts, now_ms: int) -> Ids:
    updated = _sample(item, list(item.accounts), counts.updated)
    for account_id in updated:
        _rename(item.accounts[account_id].payload, now_ms)
    deleted = _sample(item, [id_ for id_ in item.accounts if id_ not in updated], counts.deleted)
    for account_id in deleted:
        world.close_account(item, account_id)
    return {"created": [], "updated": updated, "deleted": deleted}


def _rename(payload: MutableMapping[str, Any], now_ms: int) -> None:
    name = payload["marketingName"]
    payload["marketingName"] = name[:-5] if name.endswith(" PLUS") else f"{name} PLUS"
    payload["updatedAt"] = iso(now_ms)


def _bills(world: World, item: Item, counts: Counts, now_ms: int) -> Ids:
    """A bill can be corrected here; closing one is the transactions' business."""
    updated = _sample(item, list(item.bills), counts.updated)
    for bill_id in updated:
        held: Payload = item.bills[bill_id]
        item.bills[bill_id] = held | {
            "allowsInstallments": not held["allowsInstallments"],
            "updatedAt": iso(now_ms),
        }
    deleted = _sample(item, [id_ for id_ in item.bills if id_ not in updated], counts.deleted)
    for bill_id in deleted:
        del item.bills[bill_id], world.owners[bill_id]
    return {"created": [], "updated": updated, "deleted": deleted}


_CHANGES: dict[str, Callable[[World, Item, Counts, int], Ids]] = {
    "accounts": _accounts,
    "investments": _investments,
    "investment_transactions": _investment_transactions,
    "loans": _loans,
    "identities": _identities,
    "bills": _bills,
}
