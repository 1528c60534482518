"""Draws scenarios from a seed. Every ingredient has its turn: none is left to luck alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any, Final

from tests.oracle.acts.collections import COLLECTIONS
from tests.oracle.acts.connectors import CONNECTORS
from tests.oracle.acts.faults import FAULTS
from tests.oracle.acts.lists import PAGING
from tests.oracle.acts.processes import PROCESSES
from tests.oracle.acts.steps import Draw, breath
from tests.oracle.acts.webhooks import WEBHOOKS
from tests.oracle.scenario import MEU_PLUGGY, WAITING, WITHDRAWN, Scenario, Step

MIN_ACTS: Final = 15
SHARE: Final = 8
"""So many ingredients of a scenario come from the deck."""
INGREDIENTS: Final[dict[str, Draw]] = (
    COLLECTIONS | WEBHOOKS | FAULTS | PAGING | PROCESSES | CONNECTORS
)
"""What a step or a few do, by the ingredient's name."""
NEEDS_PAGES: Final = frozenset(
    {"fault redate", "fault repeat_cursor", "fault refused cursor", "partial transactions"}
)
NEEDS_ROWS: Final = frozenset({"settled", "fault wrong_type", "fault date_shape", "fault nul"})
ONE_ACCOUNT: Final = frozenset({"deleted by the dozen", "created by the hundred"})
NEEDS_OPEN_FINANCE: Final = frozenset({"balance read", "authorization pending"})
NEEDS_WITHDRAWN: Final = frozenset({"connector withdrawn"})
NEEDS_ACCOUNTS: Final = frozenset({"account closed", "bills deleted", "bills updated"})


def new_item(dice: Random, *, big: bool) -> dict[str, Any]:
    """Options of an item; a big one has accounts of several pages."""
    connector = dice.choice((0, 0, 601, MEU_PLUGGY))
    rows = dice.randrange(510, 1200) if big else dice.choice((0, 5, 30, 60, 60, 120, 300))
    return {
        "transactions": rows,
        "accounts": 1 if big else dice.randrange(1, 5),
        "connectorId": connector,
        "hidesNextSync": connector == MEU_PLUGGY and dice.random() < 0.5,
        "quirks": [dice.choice(("nul", "date_shape", "novelty", "wrong_type"))]
        if dice.random() < 0.1
        else [],
    }


def draw_scenarios(seed: int, names: Callable[[], Iterable[str]]) -> Iterator[Scenario]:
    """Endless scenarios, each with its share of a deck in which each ingredient lies once.

    names tells which ingredients, whenever a new deck is needed; none: all.
    """
    dice = Random(f"deck:{seed}")  # noqa: S311 - dice
    deck: list[str] = []
    for number in count():
        share: list[str] = []
        while len(share) < SHARE:
            if not deck:
                deck = sorted(names()) or sorted(INGREDIENTS)
                dice.shuffle(deck)
            share.append(deck.pop())
        yield draw_scenario(seed * 1_000_000 + number, share)


def draw_scenario(seed: int, names: Sequence[str]) -> Scenario:
    """A scenario with these ingredients and others."""
    dice = Random(seed)  # noqa: S311 - dice
    items = [_suited(dice, set(names))]
    if dice.random() < 0.25:
        items.append(new_item(dice, big=False))
    chosen = list(names)
    dice.shuffle(chosen)
    steps = _beginning(dice)
    while chosen or sum(step["do"] not in WAITING for step in steps) < MIN_ACTS:
        # What was wished for happens to the item that was made for it.
        nth = 0 if chosen else dice.randrange(len(items))
        name = chosen.pop() if chosen else dice.choice(list(INGREDIENTS))
        steps += [step | {"item": nth} for step in INGREDIENTS[name](dice)]
        if dice.random() < 0.5:
            steps.append(breath(dice) | {"item": nth})
    if dice.random() < 0.15:
        steps += _end(dice)
    return Scenario(seed, items, steps)


def _suited(dice: Random, names: set[str]) -> dict[str, Any]:
    """Options of an item on which these ingredients can act."""
    item = new_item(dice, big=bool(names & NEEDS_PAGES) or dice.random() < 0.05)
    if names & NEEDS_OPEN_FINANCE:
        item |= {"connectorId": 601, "hidesNextSync": False}
    if names & NEEDS_WITHDRAWN:
        item |= {"connectorId": WITHDRAWN, "hidesNextSync": False, "quirks": []}
    if names & NEEDS_ROWS:
        item["transactions"] = max(60, item["transactions"])
    if names & NEEDS_ACCOUNTS:
        item["accounts"] = max(2, item["accounts"])
    elif names & ONE_ACCOUNT:
        # More than a fifth of an account, or than a page of it: of one account, not of four.
        item |= {"accounts": 1, "transactions": min(120, item["transactions"])}
    return item


def _beginning(dice: Random) -> list[Step]:
    """Sometimes the first webhooks are lost, doubled or late; mostly the item is known first."""
    first: list[Step] = []
    if dice.random() < 0.15:
        first = [{"do": "lose", "count": dice.randrange(1, 3)}]
    elif dice.random() < 0.15:
        first = [{"do": "hold"}, {"do": "connect"}, {"do": "pause", "ms": 50}]
        first.append({"do": "release", "order": dice.randrange(2**31)})
    if {"do": "connect"} not in first:
        first.append({"do": "connect"})
    if dice.random() < 0.75:
        first.append({"do": "rest", "ms": 4000})
    return [step | {"item": 0} for step in first]


def _end(dice: Random) -> list[Step]:
    """The client deletes the item; what comes after it must not bring it back."""
    lost: list[Step] = [{"do": "lose", "count": 1}] if dice.random() < 0.3 else []
    steps = [*lost, {"do": "delete"}, breath(dice)]
    return [step | {"item": 0} for step in steps]
