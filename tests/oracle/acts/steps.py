"""Steps that the ingredients of scenarios are made of."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.oracle.scenario import Step

Draw = Callable[[Random], list[Step]]
"""What a step or a few do."""


def collect(**order: Any) -> Step:
    return {"do": "collect", "order": order}


def some(dice: Random) -> Step:
    """An ordinary collection, so that what else was drawn has something to act on."""
    return collect(
        created=dice.randrange(1, 6), updated=dice.randrange(3), deleted=dice.randrange(2)
    )


def breath(dice: Random) -> Step:
    """Time for the service to do something, anything or everything."""
    if dice.random() < 0.4:
        return {"do": "rest", "ms": 1500}
    return {"do": "pause", "ms": int(dice.expovariate(1 / 80))}


def single(do: str, **fields: Any) -> Draw:
    return lambda dice: [{"do": do} | {k: v(dice) if callable(v) else v for k, v in fields.items()}]


def seconds(low: float, high: float) -> Callable[[Random], float]:
    return lambda dice: round(dice.uniform(low, high), 2)
