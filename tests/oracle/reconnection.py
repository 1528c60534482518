"""Pluggy deletes an item with its connector, and the person connects the bank again.

The rows of the deleted item have to be what they were, the new item has to equal Pluggy, and sums
over both have to be the bank's own: each movement once.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tests.oracle.comparison import differences
from tests.oracle.play import PlayedItem, Player
from tests.oracle.rest import rest
from tests.oracle.scenario import SUCCESSOR, WITHDRAWN
from tests.oracle.stack import HANG_S, OracleStack
from worker.maintenance.reconnections import decide_link, link_reconnections
from worker.store.reconnections import list_account_links

READ_ONCE: Final = """
SELECT count(*) FROM pluggy_sync.reference_data_sync
WHERE product = 'connectors' AND complete_read_at IS NOT NULL
"""
READ_AGAIN: Final = """
UPDATE pluggy_sync.reference_data_sync
SET complete_read_at = NULL, started_at = NULL, absences_asked_at = NULL
WHERE product = 'connectors'
"""
RECORDED: Final = """
SELECT count(*) FROM pluggy_sync.withdrawn_connectors
WHERE connector_id = $1 AND withdrawn_at IS NOT NULL
"""
LONG_AGO: Final = """
UPDATE pluggy_sync.withdrawn_connectors
SET unlisted_at = unlisted_at - interval '10 years',
    withdrawn_at = withdrawn_at - interval '10 years'
"""
ENDED: Final = "SELECT ended_at IS NOT NULL FROM pluggy.items WHERE id = $1"
SUMS: Final = """
SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM') AS month, coalesce(category_id, '') AS category,
       sum(signed_amount) AS total
FROM pluggy_live.transactions WHERE item_id = ANY ($1::uuid[]) GROUP BY 1, 2
"""
Sums = dict[tuple[str, str], Decimal]


async def withdraw_connector(stack: OracleStack) -> None:
    """Pluggy withdraws a connector that was offered; workers find that, and time passes."""
    await _until(stack, READ_ONCE)
    await stack.pluggy.json("POST", f"/_simulator/connectors/{WITHDRAWN}", {"withdrawn": True})
    await stack.db.execute(READ_AGAIN)
    await _until(stack, RECORDED, WITHDRAWN)
    # The times of events are shifted back, item by item; this one is before them all.
    await stack.db.execute(LONG_AGO)


async def _until(stack: OracleStack, statement: str, *arguments: Any) -> None:
    deadline = time.monotonic() + HANG_S
    while not await stack.db.fetchval(statement, *arguments):
        if time.monotonic() > deadline:
            raise TimeoutError("the connectors were not read")
        await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Reconnection:
    """One item that ends, and its successor."""

    player: Player
    item: PlayedItem

    @property
    def stack(self) -> OracleStack:
        return self.player.stack

    async def end(self) -> list[str] | None:
        """Delete the item at Pluggy; returns what is wrong with the rows that stay.

        None: Pluggy has collected it between the comparison and its end, so nothing is known.
        """
        truth = await self.stack.pluggy.truth(self.item.id)
        before = await self._ledger(self.item.id)
        await self.stack.pluggy.remove_item(self.item.id)
        self.item.deleted = True
        await self.player.delivered()
        await rest(self.stack, self.item.id)
        if before != await self._ledger(self.item.id):
            return None
        if not await self.stack.db.fetchval(ENDED, self.item.id):
            return ["an item of a withdrawn connector was not kept"]
        found = await differences(self.stack.db, self.item.id, truth, but=["items"])
        return [f"of an ended item: {difference}" for difference in found]

    async def connect_again(self) -> PlayedItem:
        """The person's new item at the same bank; its webhooks have arrived."""
        wanted = {"connectorId": SUCCESSOR, "reconnects": self.item.id, **self.item.again}
        made = await self.stack.pluggy.new_item(**wanted)
        new = PlayedItem(wanted, id=made["id"])
        self.stack.postman.claim(new.id, new.wire)
        self.player.items.append(new)
        await self.player.delivered()
        await rest(self.stack, new.id)
        return new

    async def miscounted(self, new: PlayedItem) -> list[str]:
        """Months and categories whose sum is not the bank's own, over both items, and stays so.

        One worker links at a time, for all items: while it does, this process cannot.
        """
        deadline = time.monotonic() + HANG_S
        while wrong := await self._miscounted(new):
            if time.monotonic() > deadline:
                return [f"counted otherwise than by the bank: {key}" for key in sorted(wrong)]
            await asyncio.sleep(0.2)
        return []

    async def _miscounted(self, new: PlayedItem) -> set[tuple[str, str]]:
        await self.player.delivered()
        await rest(self.stack, new.id)
        while await link_reconnections(self.stack.db):
            pass
        await self._accept_proposed()
        bank = await self._ledger(self.item.id, new.id)
        sums = await self._sums(self.item.id, new.id)
        return {key for key in bank.keys() | sums.keys() if bank.get(key) != sums.get(key)}

    async def _accept_proposed(self) -> None:
        """A person accepts what waits: cards with too few rows in common to be certain."""
        for link in await list_account_links(self.stack.db, uuid.UUID(self.item.id)):
            if link.state == "proposed":
                pair = {"account_id": link.account_id, "superseded_by": link.superseded_by}
                await decide_link(self.stack.db, **pair, accepts=True)
                self.player.count("(linked by a person)")

    async def _ledger(self, *item_ids: str) -> Sums:
        path = f"/_simulator/ledger?items={','.join(item_ids)}"
        months = (await self.stack.pluggy.json("GET", path))["months"]
        return {
            (month, category): Decimal(cents) / 100
            for month, categories in months.items()
            for category, cents in categories.items()
            if cents
        }

    async def _sums(self, *item_ids: str) -> Sums:
        found = await self.stack.db.fetch(SUMS, list(item_ids))
        return {(r["month"], r["category"]): r["total"] for r in found if r["total"]}
