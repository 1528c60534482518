"""The sender's own ledger: a line before each POST, and one for its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
UNANSWERED: Final = "unanswered"


class Ledger:
    """Writes the ledger; every line is with the system before the POST that it is about."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._posts = 0
        self.acknowledged: set[str] = set()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="ascii", buffering=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def sent(self, event_id: str) -> int:
        """Note a POST that is about to be made; returns its number."""
        self._posts += 1
        self._file.write(f"{self._posts} sent {event_id}\n")
        return self._posts

    def answered(self, post: int, event_id: str, outcome: str) -> None:
        """Note what became of a POST: acknowledged, refused, unanswered, or a status."""
        self._file.write(f"{post} {outcome} {event_id}\n")
        if outcome == ACKNOWLEDGED:
            self.acknowledged.add(event_id)


@dataclass(slots=True)
class Account:
    """What a ledger says: POSTs by outcome, and the events that were ever acknowledged."""

    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    open: dict[str, str] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Every POST was acknowledged, refused, or left without an answer; nothing else."""
        known = (ACKNOWLEDGED, REFUSED, UNANSWERED)
        return not self.open and self.sent == sum(self.outcomes[name] for name in known)


def read_ledger(lines: Iterable[str]) -> Account:
    """Add up a ledger."""
    account = Account()
    for line in lines:
        post, what, event_id = line.split()
        if what == "sent":
            account.sent += 1
            account.open[post] = event_id
            continue
        account.outcomes[what] += 1
        if account.open.pop(post) != event_id:
            raise ValueError(f"post {post} answers another event")
        if what == ACKNOWLEDGED:
            account.acknowledged.add(event_id)
    return account
