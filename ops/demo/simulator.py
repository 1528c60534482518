"""The demo's requests to the simulator: subscribe, connect items, change data at the bank."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

CONNECTORS: Final = (612, 601, 600)
"""Banks of Open Finance, where most connections are."""
ANSWER_TIMEOUT_S: Final = 120.0


def usual_changes(transactions: int) -> dict[str, Any]:
    """What one collection finds on a usual day of an item with so many transactions.

    Few enough deletions that none has to be flagged for a person; investments all move with the
    market.
    """
    gone = min(2, transactions // 25)
    return {
        "created": 12,
        "updated": min(6, transactions // 10),
        "deleted": gone,
        "restated": gone,
        "products": {
            "investments": {"updated": 10},
            "investment_transactions": {"created": 2},
            "loans": {"updated": 1},
        },
    }


@dataclass(frozen=True, slots=True)
class SimulatorControl:
    """Pluggy's API where it has one, the control calls for the rest. Raises aiohttp's errors."""

    session: aiohttp.ClientSession
    base_url: str

    async def subscribe(self, url: str, *, client_id: str, secret: str) -> None:
        """Have every event delivered to a URL, as an application does it."""
        credentials = {"clientId": client_id, "clientSecret": secret}
        key = (await self._call("POST", "/auth", credentials))["apiKey"]
        hook = {"event": "all", "url": url, "headers": {"X-Webhook-Secret": secret}}
        await self._call("POST", "/webhooks", hook, {"X-API-KEY": key})

    async def connect_item(self, number: int, *, transactions: int) -> str:
        """A person connects a bank; returns the item's id."""
        wanted = {
            "connectorId": CONNECTORS[number % len(CONNECTORS)],
            "clientUserId": f"user-{number + 1}",
            "transactions": transactions,
        }
        item = await self._call("POST", "/_simulator/items", wanted)
        return str(uuid.UUID(item["id"]))

    async def collect(self, item_id: str, changes: dict[str, Any]) -> None:
        """Pluggy reads the bank again and finds changes."""
        await self._call("POST", f"/_simulator/items/{item_id}/collect", changes)

    async def undelivered(self) -> int:
        """Webhooks that have not been taken yet."""
        return int((await self._call("GET", "/_simulator/webhooks?last=0"))["pending"])

    async def requests(self) -> int:
        """API requests answered since they were forgotten."""
        return int((await self._call("GET", "/_simulator/requests?last=0"))["total"])

    async def reset_requests(self) -> None:
        await self._call("DELETE", "/_simulator/requests")

    async def _call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        async with self.session.request(
            method, self.base_url + path, json=body, headers=headers, timeout=timeout
        ) as answer:
            answer.raise_for_status()
            return await answer.json()
