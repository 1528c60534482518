"""AIMD limit on concurrent bulk syncs of a process, which keeps slots free for live work."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class BulkSlots:
    """AIMD limit on the concurrent bulk syncs of a process; the other slots are kept for live work.

    The limit is halved after a rate-limited sync, and raised by one after a sync that was not: a
    rate-limited sync wastes a claim and a settlement, and delays live work.
    """

    most: int
    limit: int = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        self.limit = self.most

    @property
    def free(self) -> int:
        """Slots that may be taken now."""
        return max(0, self.limit - self.taken)

    def take(self) -> bool:
        """Take a slot, if one is free."""
        taken = self.free > 0
        self.taken += taken
        return taken

    def give_back(self, *, rate_limited: bool | None = None) -> None:
        """Return a slot; rate_limited is None if no call was made."""
        self.taken -= 1
        if rate_limited is not None:
            self.limit = max(1, self.limit // 2) if rate_limited else min(self.most, self.limit + 1)
