"""The load: webhooks about what the bank changes, and many more that announce little or nothing."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import aiohttp

from tests.chaos.ledger import ACKNOWLEDGED, REFUSED, UNANSWERED, Ledger
from tests.chaos.stack import ChaosStack

AT_ONCE: Final = 24
PLUGGY_WAITS_S: Final = 5.0
RESEND_AFTER_S: Final = 0.7
COLLECT_EVERY_S: Final = 0.6
REDELIVERED: Final = 0.1
HINTS: Final = 0.35
KEPT_FOR_REDELIVERY: Final = 500
OPEN_FINANCE: Final = 612
LARGE: Final = 3
"""So many items, the first ones, have several pages in an account."""
BY_NAME: Final = ("boleto/updated", "payment_intent/created", "item/renamed")
CHANGES: Final[tuple[dict[str, Any], ...]] = (
    {"created": 4},
    {"created": 2, "updated": 3},
    {"created": 3, "deleted": 1},
    {"late": 2, "updated": 1},
    {"created": 2, "products": {"loans": {"updated": 1}, "investments": {"updated": 2}}},
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """An event to be delivered, as often as it takes, with the same id."""

    event_id: str
    body: bytes


def webhook(name: str, **fields: Any) -> Webhook:
    event_id = str(uuid.uuid4())
    return Webhook(event_id, json.dumps({"event": name, "eventId": event_id} | fields).encode())


@dataclass(slots=True)
class Load:
    """Sends so many events a second until end(); an event that was refused is sent again."""

    stack: ChaosStack
    ledger: Ledger
    rate: float
    dice: Random
    items: list[str] = field(default_factory=list)
    accounts: dict[str, list[str]] = field(default_factory=dict)
    outbox: deque[Webhook] = field(default_factory=deque)
    recent: deque[Webhook] = field(default_factory=lambda: deque(maxlen=KEPT_FOR_REDELIVERY))
    answers: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=100_000))
    """Of each POST how long it took in seconds, and its outcome."""
    ending: bool = False
    waiting: int = 0

    async def connect(self, items: int, rows: int) -> None:
        """People connect their banks; the first few have much to read."""
        for nth in range(items):
            made = await self.stack.pluggy.new_item(
                connectorId=OPEN_FINANCE, transactions=rows * (8 if nth < LARGE else 1)
            )
            truth = await self.stack.pluggy.truth(made["id"])
            self.items.append(made["id"])
            self.accounts[made["id"]] = [str(row_id) for row_id in truth.rows["accounts"]]
            self.outbox.append(webhook("item/created", itemId=made["id"]))

    async def run(self) -> None:
        """Send until end() was called and everything was taken."""
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=PLUGGY_WAITS_S),
                connector=aiohttp.TCPConnector(limit=0),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for work in (self._tell, self._change):
                group.create_task(work())
            for _ in range(AT_ONCE):
                group.create_task(self._send_on(session))

    def end(self) -> None:
        """Nothing new happens; what is on its way is brought to its end."""
        self.ending = True

    async def _tell(self) -> None:
        """Keep the outbox at the rate wanted."""
        clock = asyncio.get_running_loop().time
        started, announced = clock(), 0
        while not self.ending:
            due = int((clock() - started) * self.rate) - announced
            # Not more than a few seconds' worth: senders wait for answers meanwhile.
            for _ in range(min(due, int(3 * self.rate) - len(self.outbox))):
                self.outbox.append(self._next())
            announced += max(0, due)
            await asyncio.sleep(0.05)

    def _next(self) -> Webhook:
        draw = self.dice.random()
        if draw < REDELIVERED and self.recent:
            return self.dice.choice(self.recent)
        item_id = self.dice.choice(self.items)
        if draw < REDELIVERED + HINTS:
            return self._hint(item_id)
        return webhook(self.dice.choice(BY_NAME), itemId=item_id)

    def _hint(self, item_id: str) -> Webhook:
        name = self.dice.choice(("item/updated", "item/login_succeeded", "transactions/created"))
        if name != "transactions/created":
            return webhook(name, itemId=item_id)
        account_id = self.dice.choice(self.accounts[item_id])
        return webhook(name, itemId=item_id, accountId=account_id)

    async def _change(self) -> None:
        """The bank changes rows; the webhooks that Pluggy would send are sent by us."""
        while not self.ending:
            item_id, changes = self.dice.choice(self.items), self.dice.choice(CHANGES)
            # The simulator may stand still meanwhile; it answers when it goes on.
            done = await self.stack.pluggy.collect(item_id, changes)
            self.outbox.extend(
                Webhook(event["eventId"], json.dumps(event).encode()) for event in done["events"]
            )
            await asyncio.sleep(COLLECT_EVERY_S)

    async def _send_on(self, session: aiohttp.ClientSession) -> None:
        while not (self.ending and not self.outbox and not self.waiting):
            if not self.outbox:
                await asyncio.sleep(0.02)
                continue
            webhook = self.outbox.popleft()
            self.waiting += 1
            if await self._post(session, webhook):
                self.recent.append(webhook)
            else:
                await asyncio.sleep(RESEND_AFTER_S)
                self.outbox.append(webhook)
            self.waiting -= 1

    async def _post(self, session: aiohttp.ClientSession, webhook: Webhook) -> bool:
        """One attempt, by any receiver; whether it was acknowledged."""
        url = self.dice.choice(self.stack.doors) + "/webhooks/pluggy"
        headers = {"X-Webhook-Secret": self.stack.secret}
        post, started = self.ledger.sent(webhook.event_id), time.monotonic()
        try:
            async with session.post(url, data=webhook.body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            outcome = UNANSWERED
        else:
            outcome = {202: ACKNOWLEDGED, 503: REFUSED}.get(status, f"status-{status}")
        self.ledger.answered(post, webhook.event_id, outcome)
        self.answers.append((time.monotonic() - started, outcome))
        return outcome == ACKNOWLEDGED
