"""Ingredients of webhooks: lost, doubled, late, in another order."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.oracle.acts.steps import Draw, breath, single, some
from tests.oracle.scenario import Step


def hold(*, shuffled: bool) -> Draw:
    """Webhooks of several collections are late, and come in order or in another."""

    def draw(dice: Random) -> list[Step]:
        between = [some(dice) for _ in range(dice.randrange(1, 3))]
        between[dice.randrange(len(between))]["order"]["created"] = 2
        order = dice.randrange(2**31) if shuffled else None
        waits = [breath(dice)] if dice.random() < 0.5 else []
        return [{"do": "hold"}, *between, *waits, {"do": "release", "order": order}]

    return draw


def lose(dice: Random) -> list[Step]:
    return [{"do": "lose", "count": dice.randrange(1, 4)}, some(dice)]


def twice(dice: Random) -> list[Step]:
    return [{"do": "twice", "count": dice.randrange(1, 4)}, some(dice)]


WEBHOOKS: Final[dict[str, Draw]] = {
    "lost webhook": lose,
    "duplicate webhook": twice,
    "delayed webhook": hold(shuffled=False),
    "reordered webhook": hold(shuffled=True),
    "registration": single("register"),
}
