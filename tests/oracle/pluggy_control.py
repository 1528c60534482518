"""Calls of scenarios to the simulator: collections, faults on one item, time, the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ops.demo.simulator import ControlRefused, SimulatorControl
from tests.oracle.comparison import Truth, parse_truth

Json = dict[str, Any]
CLIENT_ID: Final = "6f1c2d9e-0000-4000-8000-00000000000a"
CLIENT_SECRET: Final = "s3cret-of-the-oracle"  # noqa: S105 - the simulator takes any
CREDENTIALS: Final = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
KEYS_TRIED: Final = 5


class PluggyControl(SimulatorControl):
    """Control calls of a running simulator, and the truth it holds."""

    __slots__ = ()

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

    async def remove_item(self, item_id: str) -> None:
        """Remove an item that is no longer played with, and its timers."""
        await self.json("DELETE", f"/_simulator/items/{item_id}")

    async def truth(self, item_id: str) -> Truth:
        return await parse_truth(await self.call("GET", f"/_simulator/truth/{item_id}"))

    async def advance(self, seconds: float) -> None:
        await self.json("POST", "/_simulator/clock", {"advance": seconds})

    async def now(self) -> datetime:
        """Pluggy's clock, which scenarios move forward."""
        return datetime.fromisoformat((await self.json("GET", "/_simulator/clock"))["now"])

    async def add_fault(self, fault: Mapping[str, Any]) -> None:
        await self.json("POST", "/_simulator/faults", dict(fault))

    async def page_lists(self, item_id: str, paging: Mapping[str, Any]) -> None:
        """Page the lists of one item by number or by cursor from now on."""
        await self.json("POST", "/_simulator/lists", {"item": item_id, **paging})

    async def clear_faults(self, item_id: str) -> list[Json]:
        """Take the faults of one item away; returns them with their hits so far."""
        taken: list[Json] = await self.json("DELETE", f"/_simulator/faults?item={item_id}")
        return taken
