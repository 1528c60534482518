"""The wire between Pluggy and the receiver, on which deliveries are lost, doubled and delayed.

The simulator delivers everything here, at once and once. Each item has a wire of its own, so that a
scenario knows exactly what never arrived, and scenarios that run side by side do not mix.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
from aiohttp import web

PAUSE_S = 0.25
"""Pluggy tries nine times over hours; here a receiver that is away is back within seconds."""
COLLECTED = frozenset({"item/created", "item/updated", "item/error"})
"""Events that an unknown name may stand for: what they lead to needs the item alone."""


@dataclass(slots=True)
class Wire:
    """What happens to the next deliveries of one item, and what became of the earlier ones."""

    lose: int = 0
    twice: int = 0
    singular: int = 0
    unknown: int = 0
    renamed: bool = False
    holding: bool = False
    delayed: list[bytes] = field(default_factory=list)
    lost: list[dict[str, Any]] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    in_flight: int = 0
    closed: bool = False


class Undeliverable(Exception):
    """The receiver did not take a delivery, however often it was tried."""


class Postman:
    """Takes what the simulator sends and brings it to the receiver."""

    def __init__(self, receiver_url: str, secret: str, *, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._receiver_url = receiver_url
        self._headers = {"X-Webhook-Secret": secret, "Content-Type": "application/json"}
        self._wires: dict[str, Wire] = {}
        self._unclaimed: dict[str, list[bytes]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.url = ""

    async def open(self) -> None:
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def claim(self, item_id: str, wire: Wire) -> Wire:
        """From now on the item's deliveries, those that came before included, go by this wire."""
        self._wires[item_id] = wire
        for body in self._unclaimed.pop(item_id, []):
            self._carry(wire, body)
        return wire

    def release(self, wire: Wire, order: int | None = None) -> int:
        """Deliver what is delayed, in another order if one is named; returns how many."""
        wire.holding, delayed = False, wire.delayed
        wire.delayed = []
        if order is not None and len(delayed) > 1:
            before, dice = list(delayed), Random(order)  # noqa: S311 - dice
            while delayed == before:
                dice.shuffle(delayed)
            self.counts["reordered webhook"] += 1
        if delayed:
            self._start(wire, delayed)
        return len(delayed)

    def deliver(self, wire: Wire, body: dict[str, Any]) -> None:
        """Deliver a body late or again, past the wire."""
        self._start(wire, [json.dumps(body).encode()])

    async def register(self, item_id: str, **more: Any) -> None:
        """Tell the receiver of an item, as the company's own code does; or what to read of it."""
        url = self._receiver_url.replace("/webhooks/pluggy", "/items")
        await self._insist(url, json.dumps({"itemId": item_id, **more}).encode())

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        item_id = str(json.loads(body).get("itemId"))
        wire = self._wires.get(item_id)
        if wire is None:
            self._unclaimed[item_id].append(body)
        else:
            self._carry(wire, body)
        return web.json_response({})

    def _carry(self, wire: Wire, body: bytes) -> None:
        if wire.closed:
            return
        body = self._renamed(wire, body)
        if wire.lose > 0:
            wire.lose -= 1
            wire.lost.append(json.loads(body))
            self.counts["lost webhook"] += 1
        elif wire.holding:
            wire.delayed.append(body)
            self.counts["delayed webhook"] += 1
        else:
            self._start(wire, [body])

    def _renamed(self, wire: Wire, body: bytes) -> bytes:
        """The body under another name of its event, if the wire is to change it.

        The singular means the same; an unknown name with an item asks for what item/updated does.
        """
        event = json.loads(body)
        name = str(event["event"])
        if wire.singular and name.startswith("transactions/"):
            wire.singular -= 1
            event["event"] = name.replace("transactions/", "transaction/")
            self.counts["singular event name"] += 1
        elif wire.unknown and name in COLLECTED:
            wire.unknown -= 1
            wire.renamed = True
            event["event"] = name.replace("item/", "consent/")
            self.counts["unknown event name"] += 1
        else:
            return body
        return json.dumps(event).encode()

    def _start(self, wire: Wire, bodies: list[bytes]) -> None:
        wire.in_flight += 1
        task = asyncio.ensure_future(self._bring(wire, bodies))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring(self, wire: Wire, bodies: list[bytes]) -> None:
        """One after the other; a doubled one travels twice at the same time."""
        try:
            for body in bodies:
                copies = 1
                if wire.twice > 0:
                    wire.twice -= 1
                    copies = 2
                    self.counts["duplicate webhook"] += 1
                await asyncio.gather(*(self._post(wire, body) for _ in range(copies)))
        except Undeliverable as error:
            self.failures.append(str(error))
        finally:
            wire.in_flight -= 1

    async def _post(self, wire: Wire, body: bytes) -> None:
        await self._insist(self._receiver_url, body)
        wire.accepted.add(json.loads(body)["eventId"])

    async def _insist(self, url: str, body: bytes) -> None:
        """Post until the receiver takes it. Raises Undeliverable."""
        deadline = time.monotonic() + self._give_up_s
        while problem := await self._refusal(url, body):
            if time.monotonic() > deadline:
                raise Undeliverable(f"{url}: {problem}")
            await asyncio.sleep(PAUSE_S)

    async def _refusal(self, url: str, body: bytes) -> str:
        """Post once; returns why it was not taken, or nothing."""
        assert self._session is not None, "the postman is not open"
        try:
            async with self._session.post(url, data=body, headers=self._headers) as answer:
                return "" if answer.status == 202 else f"{answer.status} {await answer.text()}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__
