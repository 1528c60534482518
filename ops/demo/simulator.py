"""The demo's requests to the simulator: subscribe, connect items, change data at the bank."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

CONNECTORS: Final = (612, 601, 600)
"""Banks of Open Finance, where most connections are."""
ANSWER_TIMEOUT_S: Final = 120.0
IMPORTED_MINUTES_AGO: Final = 90
"""Updates come hours after an import: within one hour each would list all of it again."""


def usual_changes(transactions: int) -> dict[str, Any]:
    """What one collection finds on a usual day of an item with so many transactions.

    Few enough deletions that none has to wait for a person; investments all move with the
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


class ControlRefused(Exception):
    """The simulator refused a call; the text has its answer."""


@dataclass(frozen=True, slots=True)
class SimulatorControl:
    """Pluggy's API where it has one, the control calls for the rest.

    Raises ControlRefused and aiohttp's errors.
    """

    session: aiohttp.ClientSession
    base_url: str

    async def subscribe(self, url: str, *, client_id: str, secret: str) -> None:
        """Have every event delivered to a URL, as an application does it."""
        credentials = {"clientId": client_id, "clientSecret": secret}
        key = (await self.json("POST", "/auth", credentials))["apiKey"]
        hook = {"event": "all", "url": url, "headers": {"X-Webhook-Secret": secret}}
        await self.call("POST", "/webhooks", hook, {"X-API-KEY": key})

    async def connect_item(self, number: int, *, transactions: int) -> str:
        """A person connects a bank; returns the item's id."""
        wanted = {
            "connectorId": CONNECTORS[number % len(CONNECTORS)],
            "clientUserId": f"user-{number + 1}",
            "transactions": transactions,
            "importedMinutesAgo": IMPORTED_MINUTES_AGO,
        }
        item = await self.json("POST", "/_simulator/items", wanted)
        return str(uuid.UUID(item["id"]))

    async def collect(self, item_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Pluggy reads the bank again and finds changes; returns what they were."""
        done: dict[str, Any] = await self.json(
            "POST", f"/_simulator/items/{item_id}/collect", dict(changes)
        )
        return done

    async def undelivered(self) -> int:
        """Webhooks that have not been taken yet."""
        return int((await self.json("GET", "/_simulator/webhooks?last=0"))["pending"])

    async def requests(self) -> int:
        """API requests answered since they were forgotten."""
        return int((await self.json("GET", "/_simulator/requests?last=0"))["total"])

    async def requests_by_agent(self) -> Counter[str]:
        """The same by the User-Agent of the client."""
        return Counter((await self.json("GET", "/_simulator/requests?last=0"))["agents"])

    async def reset_requests(self) -> None:
        await self.json("DELETE", "/_simulator/requests")

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """A call whose answer is JSON."""
        return json.loads(await self.call(method, path, body))

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A call; returns the body of the answer."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        async with self.session.request(
            method, self.base_url + path, json=body, headers=headers, timeout=timeout
        ) as answer:
            received = await answer.read()
            if answer.status >= 400:
                raise ControlRefused(f"{method} {path}: {answer.status} {received[:500]!r}")
            return received
