"""The next page of a walk, asked for while the page before it is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Self

from worker.infra.tasks import end
from worker.pluggy_api.endpoints import Page, PluggyReader
from worker.pluggy_api.tickets import Ticket, begin_ahead


@dataclass(frozen=True, slots=True)
class _Asked:
    cursor: str
    ticket: Ticket
    task: asyncio.Task[Page]


class NextPage:
    """At most one page is asked for ahead: its answer, or its error, waits until it is read."""

    def __init__(self, pluggy: PluggyReader) -> None:
        self._pluggy = pluggy
        self._asked: _Asked | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop()

    @property
    def is_asked(self) -> bool:
        """Whether a page was asked for that nobody has read."""
        return self._asked is not None

    def ask(self, cursor: str) -> None:
        """Ask for the page now."""
        ticket = Ticket(self._pluggy.lane)
        task = begin_ahead(ticket, partial(self._pluggy.next_transactions, cursor))
        self._asked = _Asked(cursor, ticket, task)

    async def read(self, cursor: str) -> Page:
        """The page of a cursor, whether it was asked for or not. Raises PluggyError."""
        if self._asked is None or cursor != self._asked.cursor:
            await self.drop()
            return await self._pluggy.next_transactions(cursor)
        asked, self._asked = self._asked, None
        asked.ticket.come()
        return await asked.task

    async def drop(self) -> None:
        """Cancel the request of the page that was asked for, and leave its answer unread."""
        if self._asked is not None:
            await end(self._asked.task)
        self._asked = None
