"""AIMD limit on concurrent bulk syncs of a process, which keeps slots free for live work."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class BulkSlots:
    """How much bulk work a process does at once: the other slots are kept for live work.

    No more than the rate limits carry: half as much when one has waited for a call in vain, one
    more when one has not. Who waits in vain costs claims and settlements, and live work its time.
    """

    most: int
    limit: int = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        self.limit = self.most

    @property
    def free(self) -> int:
        """How many more may be taken now."""
        return max(0, self.limit - self.taken)

    def take(self) -> bool:
        """Take a slot if there is one."""
        taken = self.free > 0
        self.taken += taken
        return taken

    def give_back(self, *, rate_limited: bool | None = None) -> None:
        """Return a slot that was taken; None: no call was made."""
        self.taken -= 1
        if rate_limited is not None:
            self.limit = max(1, self.limit // 2) if rate_limited else min(self.most, self.limit + 1)
