"""Ingredients of lists: Pluggy moves them from page numbers to cursors, and sometimes half."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.oracle.acts.faults import fault
from tests.oracle.acts.steps import Draw, breath, collect
from tests.oracle.scenario import Step

LISTS: Final = ("GET /accounts", "GET /investments", "GET /loans", "GET /bills")


def by_cursor(dice: Random) -> list[Step]:
    """The item's lists are turned to cursors of small pages, and all are read; sometimes back."""
    more = {"loans": {"created": 2}, "investments": {"created": 2}}
    back: list[Step] = [{"do": "lists", "model": "page"}, collect(created=1)]
    return [
        {"do": "lists", "model": "cursor", "pageSize": dice.randrange(1, 4)},
        collect(created=2, products=more),
        breath(dice),
        {"do": "verify"} if dice.random() < 0.5 else collect(updated=1),
        *(back if dice.random() < 0.5 else []),
    ]


def of_unknown_length(dice: Random) -> list[Step]:
    """Lists of small pages stop saying whether they go on, and all are read."""
    lists: Step = {"do": "lists", "model": "cursor", "pageSize": dice.randrange(1, 3)}
    return [lists, *fault("no_paging", *LISTS)(dice), {"do": "verify"}]


PAGING: Final[dict[str, Draw]] = {
    "lists by cursor": by_cursor,
    "fault no_paging": of_unknown_length,
}
