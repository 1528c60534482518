"""Delivery of webhooks: five seconds to answer, three rounds of three attempts."""

import asyncio
import contextlib
from collections import deque
from random import Random
from typing import Any

import aiohttp
import msgspec

from simulator.bank.history import new_id
from simulator.clock import Clock
from simulator.options import Options
from simulator.webhooks.events import Event
from simulator.webhooks.hooks import Hooks

ANSWER_TIMEOUT_S = 5.0
ATTEMPTS_IN_ROUND = 3
KEPT = 10_000
# Concurrent deliveries; the rest wait in order.
AT_ONCE = 64


class DeliveryFaults(msgspec.Struct, forbid_unknown_fields=True):
    """Faults between Pluggy and the receiver."""

    duplicate: float = 0.0  # share of deliveries that are made twice
    drop: float = 0.0  # share of events that are never delivered to an endpoint
    shuffle: float = 0.0  # each delivery waits a random time up to this, in real seconds
    delay: float = 0.0  # and this time in any case, in real seconds
    quiet: bool = False
    names: dict[str, str] = {}  # events that are delivered under another name


class Endpoint(msgspec.Struct, frozen=True):
    url: str
    headers: dict[str, str]
    hook_id: str | None = None


class Delivery:
    """Delivers events to every endpoint that subscribes to them."""

    def __init__(self, clock: Clock, hooks: Hooks, options: Options) -> None:
        self.delivery_faults = DeliveryFaults()
        self.log: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._clock = clock
        self._hooks = hooks
        self._ids = Random(f"events:{options.seed}")
        self._dice = Random(f"delivery:{options.seed}")
        self._options = options
        self._given_up: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    @property
    def pending(self) -> int:
        return len(self._tasks)

    async def open(self) -> None:
        # Cookies of one receiver must not reach another; redirects are failures, as for Pluggy.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def emit(self, event: Event, *, item_url: str | None = None) -> str:
        """Deliver one event to all endpoints under one eventId, and return that."""
        event_id = event.setdefault("eventId", new_id(self._ids))
        if self.delivery_faults.quiet:
            return str(event_id)
        endpoints = [
            Endpoint(hook["url"], hook["headers"], hook["id"])
            for hook in self._hooks.wanting(event["event"])
        ]
        if item_url is not None:
            endpoints.append(Endpoint(item_url, {}))
        for endpoint in endpoints:
            self._send(endpoint, event)
        return str(event_id)

    def _send(self, endpoint: Endpoint, event: Event) -> None:
        if self._dice.random() < self.delivery_faults.drop:
            return
        name = self.delivery_faults.names.get(event["event"], event["event"])
        event = event | {"event": name}
        copies = 2 if self._dice.random() < self.delivery_faults.duplicate else 1
        for _ in range(copies):
            wait_s = self.delivery_faults.delay + self._dice.random() * self.delivery_faults.shuffle
            task = asyncio.ensure_future(self._deliver(endpoint, event, wait_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, endpoint: Endpoint, event: Event, wait_s: float) -> None:
        if wait_s:
            await asyncio.sleep(wait_s)
        repeats = event["event"] != "item/login_succeeded"
        body = msgspec.json.encode(event)
        for pause_s in (0.0, *(self._options.rounds_after_s if repeats else ())):
            if pause_s:
                await self._clock.sleep(pause_s)
            for number in range(ATTEMPTS_IN_ROUND):
                if number and self._options.attempt_gap_s:
                    await self._clock.sleep(self._options.attempt_gap_s)
                if await self._attempt(endpoint, event, body):
                    self._given_up.pop(endpoint.url, None)
                    return
        self._count_failure(endpoint)

    async def _attempt(self, endpoint: Endpoint, event: Event, body: bytes) -> bool:
        async with self._room:
            status, error = await self._post(endpoint, body)
        self.log.append(
            {
                "at": self._clock.now(),
                "event": event["event"],
                "eventId": event["eventId"],
                "itemId": event.get("itemId"),
                "url": endpoint.url,
                "status": status,
                "error": error,
            }
        )
        return status is not None and 200 <= status < 300

    async def _post(self, endpoint: Endpoint, body: bytes) -> tuple[int | None, str | None]:
        if self._session is None:
            raise RuntimeError("deliveries are not open yet")
        headers = {"Content-Type": "application/json", **endpoint.headers}
        try:
            async with self._session.post(
                endpoint.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                with contextlib.suppress(aiohttp.ClientError):
                    await answer.read()
                return answer.status, None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, f"{type(error).__name__}: {error}"[:200]

    def _count_failure(self, endpoint: Endpoint) -> None:
        """Disable a webhook, as Pluggy does, after so many undeliverable events in a row."""
        self._given_up[endpoint.url] = self._given_up.get(endpoint.url, 0) + 1
        if (
            endpoint.hook_id is not None
            and self._given_up[endpoint.url] >= self._options.disable_after
        ):
            self._hooks.disable(endpoint.hook_id)
