"""What a check finds, and how heavy it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARNING: Final = "warning"
ERROR: Final = "error"
ORDER: Final = (ERROR, WARNING, OK)


@dataclass(frozen=True, slots=True)
class Check:
    """One result. command: what to type to mend it; None: nothing to mend, or `what` says how."""

    state: str
    area: str
    what: str
    command: str | None = None


def in_order(checks: list[Check]) -> list[Check]:
    """The heaviest first."""
    return sorted(checks, key=lambda check: ORDER.index(check.state))
