"""What scenarios ask of the simulator: collections, faults on one item, time, the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import aiohttp

from tests.oracle.comparison import Truth, parse_truth

Json = dict[str, Any]
CLIENT_ID: Final = "6f1c2d9e-0000-4000-8000-00000000000a"
CLIENT_SECRET: Final = "s3cret-of-the-oracle"  # noqa: S105 - the simulator takes any
CREDENTIALS: Final = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
KEYS_TRIED: Final = 5


class ControlRefused(Exception):
    """The simulator refused a control call."""


@dataclass(slots=True)
class PluggyControl:
    """Control calls of a running simulator."""

    session: aiohttp.ClientSession
    url: str
    _key: str | None = None

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Raises ControlRefused."""
        async with self.session.request(
            method, self.url + path, json=body, headers=headers
        ) as answer:
            told = await answer.read()
            if answer.status >= 400:
                raise ControlRefused(f"{method} {path}: {answer.status} {told[:500]!r}")
            return told

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(await self.call(method, path, body))

    async def subscribe(self, url: str) -> None:
        await self.as_client("POST", "/webhooks", {"event": "all", "url": url})

    async def as_client(self, method: str, path: str, body: Any = None) -> Any:
        """A call as the company makes it, with a key of its own."""
        for _ in range(KEYS_TRIED):
            key = (await self.json("POST", "/auth", CREDENTIALS))["apiKey"]
            try:
                return json.loads(await self.call(method, path, body, {"X-API-KEY": key}))
            except ControlRefused as refused:
                # Another scenario may have revoked it meanwhile.
                if "API_KEY_MISSING_OR_INVALID" not in str(refused):
                    raise
        raise ControlRefused(f"{method} {path}: no key lasts long enough")

    async def new_item(self, **options: Any) -> Json:
        made: Json = await self.json("POST", "/_simulator/items", options)
        return made

    async def collect(self, item_id: str, order: Mapping[str, Any]) -> Json:
        done: Json = await self.json("POST", f"/_simulator/items/{item_id}/collect", dict(order))
        return done

    async def forget(self, item_id: str) -> None:
        """Take an item away that nobody plays with any more: its timers go with it."""
        await self.json("DELETE", f"/_simulator/items/{item_id}")

    async def truth(self, item_id: str) -> Truth:
        return await parse_truth(await self.call("GET", f"/_simulator/truth/{item_id}"))

    async def undelivered(self) -> int:
        """Webhooks of all items that are on their way."""
        return int((await self.json("GET", "/_simulator/webhooks?last=0"))["pending"])

    async def advance(self, seconds: float) -> None:
        await self.json("POST", "/_simulator/clock", {"advance": seconds})

    async def now(self) -> datetime:
        """Pluggy's clock, which scenarios move forward."""
        return datetime.fromisoformat((await self.json("GET", "/_simulator/clock"))["now"])

    async def add_fault(self, fault: Mapping[str, Any]) -> None:
        await self.json("POST", "/_simulator/faults", dict(fault))

    async def clear_faults(self, item_id: str) -> list[Json]:
        """Take the faults of one item away; returns them with their hits so far."""
        taken: list[Json] = await self.json("DELETE", f"/_simulator/faults?item={item_id}")
        return taken
