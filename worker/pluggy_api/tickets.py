"""Tickets of steps that are asked at once: each goes on alone, when its turn has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, TypeVar

from worker.infra.lanes import Lane

T = TypeVar("T")


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Ticket:
    """The ticket of a step that was begun ahead of its turn. lane: of its calls.

    come_at: the loop's clock when it came; time-outs of a read count from there.
    """

    lane: Lane
    answered: asyncio.Future[None] = field(default_factory=_future)
    come_at: float | None = None
    _come: asyncio.Event = field(default_factory=asyncio.Event)

    def come(self) -> None:
        """Let the step go on."""
        self.come_at = asyncio.get_running_loop().time()
        self._come.set()

    def note_answer(self) -> None:
        """The step waits for its turn, or has ended before it."""
        if not self.answered.done():
            self.answered.set_result(None)

    async def wait(self) -> None:
        """Wait until the step may use an answer, and store it."""
        self.note_answer()
        await self._come.wait()


TICKET: Final[ContextVar[Ticket | None]] = ContextVar("ticket", default=None)
"""The ticket of the step that this task reads; None: nothing else is read beside it."""


def begin_ahead(ticket: Ticket, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
    """Begin work ahead of its turn, in a task that reads under the ticket."""
    task = asyncio.create_task(_run(ticket, work))
    task.add_done_callback(lambda task: _ended(task, ticket))
    return task


async def _run(ticket: Ticket, work: Callable[[], Awaitable[T]]) -> T:
    TICKET.set(ticket)
    return await work()


def _ended(task: asyncio.Task[T], ticket: Ticket) -> None:
    """An error counts as an answer; it is raised where the task is awaited, if it is."""
    if not task.cancelled():
        task.exception()
    ticket.note_answer()


async def wait_for_ticket() -> None:
    """Called with every answer, also a failed one: returns at once if the turn has come."""
    if (ticket := TICKET.get()) is not None:
        await ticket.wait()


def since_ticket(began: float) -> float:
    """When a read that began then had its turn, by the loop's clock."""
    ticket = TICKET.get()
    return began if ticket is None or ticket.come_at is None else max(began, ticket.come_at)
