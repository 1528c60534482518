"""How the products other than transactions change in a collection."""

from collections.abc import Callable
from typing import Any

from simulator import identity, investments, loans
from simulator.birth import add_investment, add_loan
from simulator.clock import iso
from simulator.items import Item
from simulator.orders import Counts, Ids
from simulator.world import World

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
    """Ids created, updated and deleted; fewer than wished if there are not enough."""
    created, updated, deleted = _CHANGES[name](world, item, counts, now_ms)
    return {"created": created, "updated": updated, "deleted": deleted}


Changed = tuple[list[str], list[str], list[str]]


def _sample(item: Item, ids: list[str], count: int) -> list[str]:
    return item.random.sample(ids, min(count, len(ids)))


def _investments(world: World, item: Item, counts: Counts, now_ms: int) -> Changed:
    deleted = _sample(item, list(item.investments), counts.deleted)
    for investment_id in deleted:
        world.close_investment(item, investment_id)
    updated = _sample(item, list(item.investments), counts.updated)
    for investment_id in updated:
        held = item.investments[investment_id]
        item.investments[investment_id] = investments.move_on(item.random, held, now_ms=now_ms)
    return [add_investment(world, item, now_ms) for _ in range(counts.created)], updated, deleted


def _investment_transactions(world: World, item: Item, counts: Counts, now_ms: int) -> Changed:
    everything = [row["id"] for rows in item.movements.values() for row in rows]
    chosen = _sample(item, everything, counts.deleted + counts.updated)
    deleted, updated = chosen[: counts.deleted], chosen[counts.deleted :]
    gone, reworded = set(deleted), set(updated)
    for investment_id, rows in item.movements.items():
        item.movements[investment_id] = [
            _reworded(row) if row["id"] in reworded else row
            for row in rows
            if row["id"] not in gone
        ]
    created = counts.created if item.investments else 0
    return [_add_movement(item, now_ms) for _ in range(created)], updated, deleted


def _reworded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"description": f"{row['description']} *"}


def _add_movement(item: Item, now_ms: int) -> str:
    investment_id = item.random.choice(list(item.investments))
    made = investments.movement(
        item.random, item.investments[investment_id], now_ms=now_ms, days_ago=0
    )
    item.movements[investment_id].insert(0, made)
    return str(made["id"])


def _loans(world: World, item: Item, counts: Counts, now_ms: int) -> Changed:
    deleted = _sample(item, list(item.loans), counts.deleted)
    for loan_id in deleted:
        world.close_loan(item, loan_id)
    updated = _sample(item, list(item.loans), counts.updated)
    for loan_id in updated:
        item.loans[loan_id] = loans.pay(item.random, item.loans[loan_id], now_ms=now_ms)
    return [add_loan(world, item, now_ms) for _ in range(counts.created)], updated, deleted


def _identities(world: World, item: Item, counts: Counts, now_ms: int) -> Changed:
    if item.identity is None or not counts.updated:
        return [], [], []
    item.identity = identity.moved_house(item.random, item.identity, now_ms=now_ms)
    return [], [item.identity["id"]], []


def _accounts(world: World, item: Item, counts: Counts, now_ms: int) -> Changed:
    updated = _sample(item, list(item.accounts), counts.updated)
    for account_id in updated:
        _rename(item.accounts[account_id].payload, now_ms)
    deleted = _sample(item, [id_ for id_ in item.accounts if id_ not in updated], counts.deleted)
    for account_id in deleted:
        world.close_account(item, account_id)
    return [], updated, deleted


def _rename(payload: dict[str, Any], now_ms: int) -> None:
    name = payload["marketingName"]
    payload["marketingName"] = name[:-5] if name.endswith(" PLUS") else f"{name} PLUS"
    payload["updatedAt"] = iso(now_ms)


_CHANGES: dict[str, Callable[[World, Item, Counts, int], Changed]] = {
    "accounts": _accounts,
    "investments": _investments,
    "investment_transactions": _investment_transactions,
    "loans": _loans,
    "identities": _identities,
}
