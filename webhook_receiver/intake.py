"""Groups events that arrive together into one commit, and rings for items that it made due."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from worker.accept import Accepted, UnstorableEvent, accept_events
from worker.database import Pool
from worker.events import WebhookEvent
from worker.queue import Doorbell

log = structlog.get_logger()

GROUP_MAX: Final = 500
GROUP_MAX_BYTES: Final = 8 * 1024 * 1024
STORE_TIMEOUT_S: Final = 3.0
RING_TIMEOUT_S: Final = 2.0
WAITING_MAX: Final = 5000


class Overloaded(Exception):
    """More deliveries wait than can be stored in time."""


class Intake:
    """One flush is under way at a time; what arrives meanwhile is the next group."""

    def __init__(self, db: Pool, doorbell: Doorbell) -> None:
        self._db = db
        self._doorbell = doorbell
        self._waiting: deque[tuple[WebhookEvent, asyncio.Future[Accepted]]] = deque()
        self._news = asyncio.Event()
        self._rings: set[asyncio.Task[None]] = set()

    async def accept(self, event: WebhookEvent) -> Accepted:
        """Wait until the event is committed. Cancelling the wait never cancels the group.

        Raises UnstorableEvent, Overloaded, and what asyncpg raises when Postgres is away.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, answer))
        self._news.set()
        return await answer

    async def run(self) -> None:
        """Flush until cancelled, and then what still waits."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._flush_all()
        finally:
            await self._flush_all()
            await asyncio.gather(*self._rings, return_exceptions=True)

    async def _flush_all(self) -> None:
        while self._waiting:
            await self._flush(self._next_group())

    def _next_group(self) -> list[tuple[WebhookEvent, asyncio.Future[Accepted]]]:
        group: list[tuple[WebhookEvent, asyncio.Future[Accepted]]] = []
        size = 0
        while self._waiting and len(group) < GROUP_MAX and size < GROUP_MAX_BYTES:
            entry = self._waiting.popleft()
            group.append(entry)
            size += len(entry[0].body)
        return group

    async def _flush(self, group: Sequence[tuple[WebhookEvent, asyncio.Future[Accepted]]]) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                answers = await accept_events(
                    self._db, [event for event, _ in group], timeout_s=STORE_TIMEOUT_S
                )
        except Exception as error:  # each sender of the group gets it as a 503
            for _, waiting in group:
                if not waiting.done():
                    waiting.set_exception(error)
            return
        for (_, waiting), answer in zip(group, answers, strict=True):
            if waiting.done():
                continue
            if isinstance(answer, UnstorableEvent):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
        self._ring_for([event for event, _ in group], answers)

    def _ring_for(
        self, events: Sequence[WebhookEvent], answers: Sequence[Accepted | UnstorableEvent]
    ) -> None:
        due = {
            event.item_id
            for event, answer in zip(events, answers, strict=True)
            if isinstance(answer, Accepted) and answer.made_due and event.item_id is not None
        }
        if due:
            ring = asyncio.create_task(self._ring(sorted(due)))
            self._rings.add(ring)
            ring.add_done_callback(self._rings.discard)

    async def _ring(self, item_ids: list[uuid.UUID]) -> None:
        try:
            async with asyncio.timeout(RING_TIMEOUT_S):
                await self._doorbell.ring(item_ids)
        except Exception as error:  # the event is stored; the sweep rings within two seconds
            log.warning("ring_failed", error=type(error).__name__, items=len(item_ids))
