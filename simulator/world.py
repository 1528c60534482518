"""Indexes over everything in the simulator, by id."""

from random import Random
from typing import Any

from simulator.bank.accounts import Account
from simulator.bank.history import new_id
from simulator.bank.movements import Society
from simulator.bank.people import person
from simulator.bank.rows import Row
from simulator.clock import Clock
from simulator.items.connectors import MEU_PLUGGY, PRODUCTS, connectors
from simulator.items.item import Item, Payload


class World:
    """Indexes over the items; a deleted item leaves only its id behind.

    withdrawn: connectors that are no longer offered; unlisted ones still answer by id. former:
    items that were deleted with them; the bank still has their books, for a new connection.
    """

    def __init__(self, *, seed: int, clock: Clock) -> None:
        self.seed = seed
        self.clock = clock
        self.society = Society(seed)
        self.connectors = connectors()
        self.items: dict[str, Item] = {}
        self.deleted: set[str] = set()
        self.withdrawn: set[int] = set()
        self.unlisted: set[int] = set()
        self.former: dict[str, Item] = {}
        self.accounts: dict[str, Account] = {}
        self.rows: dict[str, Row] = {}
        # Owners of bills, investments, loans, identities and consents.
        self.owners: dict[str, Item] = {}
        self._ordinal = 0

    def new_item(
        self,
        *,
        connector_id: int = 0,
        client_user_id: str | None = None,
        webhook_url: str | None = None,
        products: list[str] | None = None,
    ) -> Item:
        """An item without collected data; each has a random generator of its own."""
        random = Random(f"item:{self.seed}:{self._ordinal}")
        self._ordinal += 1
        item = Item(
            id=new_id(random),
            connector=self.connectors[connector_id],
            random=random,
            owner=person(random),
            products=list(PRODUCTS) if products is None else products,
            created=self.clock.now_ms(),
            client_user_id=client_user_id,
            webhook_url=webhook_url,
        )
        if connector_id == MEU_PLUGGY:
            item.inner_id = new_id(random)
        self.items[item.id] = item
        return item

    def offered(self) -> dict[int, dict[str, Any]]:
        """The connectors that Pluggy knows."""
        return {n: c for n, c in self.connectors.items() if n not in self.withdrawn}

    def listed(self) -> dict[int, dict[str, Any]]:
        """The connectors that Pluggy lists."""
        return {n: c for n, c in self.offered().items() if n not in self.unlisted}

    def books_of(self, item_id: str) -> Item | None:
        """An item that exists, or that was deleted with its connector."""
        return self.items.get(item_id) or self.former.get(item_id)

    def add_account(self, item: Item, account: Account) -> None:
        item.accounts[account.id] = account
        self.accounts[account.id] = account

    def own(self, item: Item, rows: dict[str, Payload], made: Payload) -> str:
        """Add a row to a list of the item; returns its id."""
        rows[made["id"]] = made
        self.owners[made["id"]] = item
        return str(made["id"])

    def identify(self, item: Item, identity: Payload) -> None:
        item.identity = identity
        self.owners[identity["id"]] = item

    def item_of(self, account: Account) -> Item:
        return self.items[account.item_id]

    def close(self, item: Item, closed_id: str) -> None:
        """Remove an account, an investment or a loan that the institution no longer lists."""
        if closed_id in item.accounts:
            self.close_account(item, closed_id)
        elif closed_id in item.investments:
            self.remove(item.investments, closed_id)
            item.movements.pop(closed_id, None)
        else:
            self.remove(item.loans, closed_id)

    def remove(self, rows: dict[str, Payload], row_id: str) -> None:
        """Take a row from a list of its item."""
        del rows[row_id], self.owners[row_id]

    def close_account(self, item: Item, account_id: str) -> None:
        """Remove an account and everything on it."""
        account = item.accounts.pop(account_id)
        del self.accounts[account_id]
        for row in account.rows:
            del self.rows[row.id]
        account.clear()
        for bill_id in [b["id"] for b in item.bills.values() if b["accountId"] == account_id]:
            self.remove(item.bills, bill_id)
        item.removed = [row for row in item.removed if row.account is not account]

    def delete(self, item: Item) -> None:
        if item.timer is not None:
            item.timer.cancel()
        if item.connector["id"] in self.withdrawn:
            self.former[item.id] = item.snapshot()
        for account_id in list(item.accounts):
            self.close_account(item, account_id)
        for owned_id in list(item.owned_ids()):
            self.owners.pop(owned_id, None)
        item.removed.clear()
        del self.items[item.id]
        self.deleted.add(item.id)
