"""How all products other than transactions change in a collection."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from simulator.bank import identity, investments, loans
from simulator.bank.openings import open_account, set_opening
from simulator.clock import iso
from simulator.items.birth import add_investment, add_loan
from simulator.items.item import Item
from simulator.items.orders import Counts, Ids
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


def stored_ids(item: Item) -> frozenset[str]:
    """Ids of all rows of these products; the identity is never replaced."""
    movements = (row["id"] for rows in item.movements.values() for row in rows)
    return frozenset((*item.accounts, *item.investments, *item.loans, *movements))


def change(
    world: World, item: Item, orders: dict[str, Counts], *, before: frozenset[str], now_ms: int
) -> dict[str, Ids]:
    """Ids created, updated and deleted per product; fewer than ordered if there are not enough.

    `before`: ids stored when the collection began. Only that is updated or deleted: a row made
    and deleted in one collection was never there for anybody.
    """
    scene = _Scene(world, item, before, now_ms)
    # Parents first: no movement is made on an investment that goes in the same collection.
    names = [name for name in _CHANGES if name in orders]
    return {name: _ids(_CHANGES[name](scene, orders[name])) for name in names}


class _Scene(NamedTuple):
    world: World
    item: Item
    before: frozenset[str]
    now_ms: int

    def sample(self, ids: Iterable[str], count: int) -> list[str]:
        known = [row_id for row_id in ids if row_id in self.before]
        return self.item.random.sample(known, min(count, len(known)))


Changed = tuple[list[str], list[str], list[str]]


def _ids(changed: Changed) -> Ids:
    return dict(zip(("created", "updated", "deleted"), changed, strict=True))


def _investments(scene: _Scene, counts: Counts) -> Changed:
    return _listed(scene, counts, scene.item.investments, investments.move_on, add_investment)


def _loans(scene: _Scene, counts: Counts) -> Changed:
    return _listed(scene, counts, scene.item.loans, loans.pay, add_loan)


def _listed(
    scene: _Scene,
    counts: Counts,
    rows: dict[str, dict[str, Any]],
    update: Callable[..., dict[str, Any]],
    add: Callable[[World, Item, int], str],
) -> Changed:
    world, item, now_ms = scene.world, scene.item, scene.now_ms
    deleted = scene.sample(rows, counts.deleted)
    for row_id in deleted:
        world.close(item, row_id)
    updated = scene.sample(rows, counts.updated)
    for row_id in updated:
        rows[row_id] = update(item.random, rows[row_id], now_ms=now_ms)
    return [add(world, item, now_ms) for _ in range(counts.created)], updated, deleted


def _investment_transactions(scene: _Scene, counts: Counts) -> Changed:
    item = scene.item
    everything = [row["id"] for rows in item.movements.values() for row in rows]
    chosen = scene.sample(everything, counts.deleted + counts.updated)
    deleted, updated = chosen[: counts.deleted], chosen[counts.deleted :]
    gone, reworded = set(deleted), set(updated)
    for investment_id, rows in item.movements.items():
        item.movements[investment_id] = [
            _reworded(row) if row["id"] in reworded else row
            for row in rows
            if row["id"] not in gone
        ]
    created = counts.created if item.investments else 0
    return [_add_movement(item, scene.now_ms) for _ in range(created)], updated, deleted


def _reworded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"description": f"{row['description']} *"}


def _add_movement(item: Item, now_ms: int) -> str:
    investment_id = item.random.choice(list(item.investments))
    made = investments.movement(
        item.random, item.investments[investment_id], now_ms=now_ms, days_ago=0
    )
    item.movements[investment_id].insert(0, made)
    return str(made["id"])


def _identities(scene: _Scene, counts: Counts) -> Changed:
    item = scene.item
    if item.identity is None or not counts.updated:
        return [], [], []
    item.identity = identity.moved_house(item.random, item.identity, now_ms=scene.now_ms)
    return [], [item.identity["id"]], []


def _accounts(scene: _Scene, counts: Counts) -> Changed:
    item = scene.item
    updated = scene.sample(item.accounts, counts.updated)
    for account_id in updated:
        _rename(item.accounts[account_id].payload, scene.now_ms)
    deleted = scene.sample([id_ for id_ in item.accounts if id_ not in updated], counts.deleted)
    for account_id in deleted:
        scene.world.close_account(item, account_id)
    return [_add_account(scene) for _ in range(counts.created)], updated, deleted


def _add_account(scene: _Scene) -> str:
    """One more bank account, still without rows."""
    item = scene.item
    subtype = item.random.choice(("CHECKING_ACCOUNT", "SAVINGS_ACCOUNT"))
    account = open_account(item, subtype, scene.now_ms)
    set_opening(account, item.random.randrange(10_000, 4_000_000))
    scene.world.add_account(item, account)
    return account.id


def _rename(payload: dict[str, Any], now_ms: int) -> None:
    name = payload["marketingName"]
    payload["marketingName"] = name[:-5] if name.endswith(" PLUS") else f"{name} PLUS"
    payload["updatedAt"] = iso(now_ms)


_CHANGES: dict[str, Callable[[_Scene, Counts], Changed]] = {
    "accounts": _accounts,
    "investments": _investments,
    "investment_transactions": _investment_transactions,
    "loans": _loans,
    "identities": _identities,
}
