"""The ingredient of connectors: Pluggy withdraws one, and the person connects the bank again."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.oracle.acts.steps import Draw
from tests.oracle.scenario import Step


def reconnect(dice: Random) -> list[Step]:
    """After all else the item is deleted with its connector, and connected again."""
    days = dice.choice((365, 200, 90))
    return [{"do": "reconnect", "historyDays": days, "reworded": dice.random() < 0.5}]


CONNECTORS: Final[dict[str, Draw]] = {"connector withdrawn": reconnect}
