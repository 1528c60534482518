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


def rename(kind: str) -> Draw:
    """The next events come under another name: the singular, or one that is not known."""

    def draw(dice: Random) -> list[Step]:
        changed = some(dice)
        changed["order"]["created"] = 2
        return [{"do": "rename", "kind": kind, "count": dice.randrange(1, 4)}, changed]

    return draw


WEBHOOKS: Final[dict[str, Draw]] = {
    "lost webhook": lose,
    "duplicate webhook": twice,
    "delayed webhook": hold(shuffled=False),
    "reordered webhook": hold(shuffled=True),
    "singular event name": rename("singular"),
    "unknown event name": rename("unknown"),
    "registration": single("register"),
    "items list": lambda dice: [{"do": "items_list"}, some(dice)],
    "balance read": lambda dice: [
        {"do": "balance", "nth": dice.randrange(4), "refreshes": dice.random() < 0.7},
        breath(dice),
    ],
}
