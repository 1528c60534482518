"""A scenario as data: items to connect and steps to take, so that it can be played again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

Step = dict[str, Any]
MEU_PLUGGY: Final = 200
OPEN_FINANCE: Final = 601
"""A connector with items that no client may update, and whose consents name another item."""
WITHDRAWN: Final = 203
"""A direct connector that Pluggy withdraws, before any item of it is connected."""
SUCCESSOR: Final = 603
"""The connector of the same bank to connect with again."""
WAITING: Final = frozenset({"pause", "rest"})
"""Steps that only let the service do its work."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """items: the options each is made with; seed: what it was drawn from."""

    seed: int
    items: list[dict[str, Any]]
    steps: list[Step] = field(default_factory=list)

    @property
    def acts(self) -> int:
        """Steps that do something."""
        return sum(step["do"] not in WAITING for step in self.steps)


def write_trace(path: Path, scenario: Scenario, failure: str) -> None:
    """Write a scenario as it was played, and its failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = asdict(scenario) | {"failure": failure.splitlines()}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read_trace(path: Path) -> Scenario:
    """The scenario of a trace."""
    document = json.loads(path.read_text())
    return Scenario(document["seed"], document["items"], document["steps"])
