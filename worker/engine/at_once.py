"""Steps of a claim that are asked at once, and stored one by one as their answers come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

from worker.infra.lanes import Lane
from worker.infra.tasks import end
from worker.planner.steps import (
    AskAgain,
    AskIds,
    AskWalk,
    PlannedStep,
    ReadAccounts,
    TombstoneItem,
    step_key,
)
from worker.pluggy_api.tickets import Ticket, begin_ahead
from worker.sync.by_id import BLOCK_SIZE

AT_ONCE: Final = 8
"""Steps of a claim that are begun and not stored: at most so many answers are held in memory.

Two accounts, their bills and five investments are asked for in three answers, the item's included.

A step asks for its first page only; what else it asks for it does in its turn.
"""
_RANK: Final = {"investments": 0, "transactions": 1}
APART: Final = frozenset({"investments", "investment_transactions"})
"""Products that are not asked for together: movements may ask for the investments again."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that runs until its first answer, and goes on in its turn."""

    step: PlannedStep
    ticket: Ticket
    task: asyncio.Task[None]


@dataclass(slots=True)
class AtOnce:
    """The steps that are begun, in that order. All of them have ended when its block ends."""

    most: int
    begun: list[Begun] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*(begun.task for begun in self.begun))

    @property
    def steps(self) -> list[PlannedStep]:
        """The steps that are begun."""
        return [begun.step for begun in self.begun]

    @property
    def is_full(self) -> bool:
        """Whether as many steps are begun as may be."""
        return len(self.begun) >= self.most

    def has_room_for(self, step: PlannedStep) -> bool:
        """Whether a step may be begun now.

        A second read of an account's rows, above all a question by id, waits until the first is
        stored: of two answers about the same rows the later one is stored last.
        """
        key, begun = step_key(step)[1:], {step_key(other)[1:] for other in self.steps}
        products = {key[0], *(product for product, _ in begun)}
        return not (self.is_full or key in begun or products >= APART)

    def begin(
        self, step: PlannedStep, lane: Lane, work: Callable[[PlannedStep], Awaitable[object]]
    ) -> None:
        """Begin a step: its time and place in the order of reads are those of now."""
        ticket = Ticket(lane)
        task = begin_ahead(ticket, partial(_run, step, ticket, work))
        self.begun.append(Begun(step, ticket, task))

    async def next(self) -> Begun:
        """The next step to go on: the first answered, but long questions behind all others.

        Of those that are answered by now the investments go first, because requests for their
        movements follow, and then the rows of accounts: most events are about them, and their
        questions by id are asked only after them.
        The list of accounts goes before everything: if it comes to be asked for again, because an
        account is gone, no older one follows. No wait is longer than the time-out of a call, which
        is shorter than the lease that each stored step renews.
        """
        first = self._first()
        answers = [begun.ticket.answered for begun in first]
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        answered = (begun for begun in first if begun.ticket.answered.done())
        found = min(answered, key=lambda begun: _RANK.get(step_key(begun.step)[1], len(_RANK)))
        self.begun.remove(found)
        return found

    @property
    def leaves_time(self) -> bool:
        """Whether the next step takes long or is still to be answered."""
        return all(_is_long(b.step) or not b.ticket.answered.done() for b in self._first())

    def _first(self) -> list[Begun]:
        first = [b for b in self.begun if isinstance(b.step, ReadAccounts)]
        return first or [b for b in self.begun if not _is_long(b.step)] or self.begun


def _is_long(step: PlannedStep) -> bool:
    """Whether a step makes many requests, one after the other."""
    return isinstance(step, AskAgain) or (isinstance(step, AskIds) and step.ids_open > BLOCK_SIZE)


async def _run(
    step: PlannedStep, ticket: Ticket, work: Callable[[PlannedStep], Awaitable[object]]
) -> None:
    if isinstance(step, AskIds | AskAgain | AskWalk | TombstoneItem):
        await ticket.wait()  # they begin with statements
    await work(step)
