"""Batch concurrent deliveries into one commit, then wake workers for the items that became due."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from prometheus_client import Gauge

from webhook_receiver.storage import Stores
from webhook_receiver.wakeups import WakeUps
from worker.inbox.accept import Accepted
from worker.inbox.events import WebhookEvent
from worker.wakeup.queue import Waker

MAX_GROUP: Final = 500
MAX_GROUP_BYTES: Final = 8 * 1024 * 1024
MAX_WAITING: Final = 5000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
DEADLINE_INTERVAL_S: Final = 0.1
"""A delivery is given up at most so much later than its deadline."""
MIN_HALF: Final = 16
"""Fewer deliveries are not split: each group costs as much as three deliveries more."""
QUICK_S: Final = 0.1
"""All that wait for a group that takes longer are the next one: nobody waits for a second one."""

WAITING = Gauge("pluggy_sync_deliveries_waiting", "Deliveries that wait for the next commit")


class NotTaken(Exception):
    """Too many deliveries wait, or the receiver is stopping."""


class Delivery(NamedTuple):
    """An event, the future of its result, and the time of the loop at which it is given up."""

    event: WebhookEvent
    answer: asyncio.Future[Accepted]
    deadline: float


class Intake:
    """Stores one group at a time; deliveries that arrive meanwhile are in the next ones.

    A group that follows a quick one is at most half of both and those that wait, so that Postgres
    stores one half while this process answers and reads the other. Otherwise deliveries of a fixed
    number of connections come in groups of nearly all of them and of a few, in turn, and Postgres
    and this process wait for each other.
    """

    def __init__(self, stores: Stores, waker: Waker, *, quick_s: float = QUICK_S) -> None:
        self._stores = stores
        self._quick_s = quick_s
        self.wakeups = WakeUps(waker)
        self._waiting: deque[Delivery] = deque()
        self._waiting_bytes = 0
        self._storing: Sequence[Delivery] = ()
        self._took_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._closed = False
        WAITING.set_function(self._waiting.__len__)

    async def accept(self, event: WebhookEvent, deadline: float = math.inf) -> Accepted:
        """Wait until the event is stored durably, at most until a time of the loop.

        Neither a deadline nor a cancelled wait cancels the group. Raises UnstorableEvent, NotTaken,
        TimeoutError, and the errors of the stores if both fail.
        """
        full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES
        if full or self._closed:
            raise NotTaken
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._waiting.append(Delivery(event, answer, deadline))
        self._waiting_bytes += len(event.body)
        self._changed.set()
        if self._timer is None:
            self._watch_deadlines()
        return await answer

    def _watch_deadlines(self) -> None:
        """Give up late deliveries, now and while any waits: a timer for each costs more."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = [*self._storing, *self._waiting]
        for delivery in waiting:
            if delivery.deadline <= now:
                _give_up(delivery.answer)
        again = loop.call_later(DEADLINE_INTERVAL_S, self._watch_deadlines) if waiting else None
        self._timer = again

    async def run(self) -> None:
        """Store groups until closed, then the remaining deliveries."""
        clock = asyncio.get_running_loop().time
        while not self._closed:
            await self._changed.wait()
            self._changed.clear()
            while group := self._next_group():
                self._storing = group
                began = clock()
                await self._store(group)
                self._took_s = clock() - began
            self._storing = ()
        await self.wakeups.settle()

    def close(self) -> None:
        """Accept no more deliveries; run() ends when the last group is stored."""
        self._closed = True
        self._changed.set()

    def _next_group(self) -> list[Delivery]:
        group: list[Delivery] = []
        size, most = 0, self._most()
        while self._waiting and len(group) < most and size < MAX_GROUP_BYTES:
            delivery = self._waiting.popleft()
            self._waiting_bytes -= len(delivery.event.body)
            # A sender that has got a 503 meanwhile repeats the delivery.
            if not delivery.answer.done():
                group.append(delivery)
                size += len(delivery.event.body)
        return group

    def _most(self) -> int:
        """How many deliveries the next group may have."""
        if not self._storing or self._took_s > self._quick_s:
            return MAX_GROUP
        half = math.ceil((len(self._storing) + len(self._waiting)) / 2)
        return min(max(half, MIN_HALF), MAX_GROUP)

    async def _store(self, group: Sequence[Delivery]) -> None:
        events = [delivery.event for delivery in group]
        answers: Sequence[Accepted | Exception]
        try:
            answers = await self._stores.store(events)
        except Exception as error:  # each sender of the group gets it, as a 503
            answers = [error] * len(group)
        for delivery, answer in zip(group, answers, strict=True):
            _resolve(delivery.answer, answer)
        self.wakeups.wake_for(
            event.item_id
            for event, answer in zip(events, answers, strict=True)
            if isinstance(answer, Accepted) and answer.made_due and event.item_id is not None
        )


def _give_up(answer: asyncio.Future[Accepted]) -> None:
    _resolve(answer, TimeoutError("not stored in time"))


def _resolve(answer: asyncio.Future[Accepted], result: Accepted | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
