"""The next page of a walk, asked for while the page before it is stored."""

from __future__ import annotations

import asyncio
from typing import Self

from worker.infra.tasks import end
from worker.pluggy_api.endpoints import Page, PluggyReader
from worker.pluggy_api.tickets import TICKET, Ticket


class NextPage:
    """At most one page is asked for ahead: its answer, or its error, waits until it is read."""

    def __init__(self, pluggy: PluggyReader) -> None:
        self._pluggy = pluggy
        self._cursor: str | None = None
        self._ticket: Ticket | None = None
        self._task: asyncio.Task[Page] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop()

    @property
    def is_asked(self) -> bool:
        """Whether a page was asked for that nobody has read."""
        return self._task is not None

    def ask(self, cursor: str) -> None:
        """Ask for the page now."""
        self._cursor, self._ticket = cursor, Ticket(self._pluggy.lane)
        self._task = asyncio.create_task(self._ask(cursor, self._ticket))
        self._task.add_done_callback(_ended)

    async def read(self, cursor: str) -> Page:
        """The page of a cursor, whether it was asked for or not. Raises PluggyError."""
        if self._task is None or self._ticket is None or cursor != self._cursor:
            await self.drop()
            return await self._pluggy.next_transactions(cursor)
        task, self._task = self._task, None
        self._ticket.come()
        return await task

    async def drop(self) -> None:
        """Forget the page that was asked for."""
        if self._task is not None:
            await end(self._task)
        self._task = None

    async def _ask(self, cursor: str, ticket: Ticket) -> Page:
        TICKET.set(ticket)
        return await self._pluggy.next_transactions(cursor)


def _ended(task: asyncio.Task[Page]) -> None:
    """An error is raised where the page is read, if it is."""
    if not task.cancelled():
        task.exception()
