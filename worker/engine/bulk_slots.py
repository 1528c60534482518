"""AIMD limit on concurrent bulk syncs of a process, which keeps slots free for live work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class BulkSlots:
    """AIMD limit on the concurrent bulk syncs of a process; the other slots are kept for live work.

    The limit is halved after a rate-limited sync, and raised by one after a sync that was not: a
    rate-limited sync wastes a claim and a settlement, and delays live work.
    """

    max_slots: int
    limit: int = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        self.limit = self.max_slots

    @property
    def free(self) -> int:
        """Slots that may be taken now."""
        return max(0, self.limit - self.taken)

    @contextmanager
    def slot(
        self, rate_limited: Callable[[], bool | None] = lambda: None, *, wanted: bool = True
    ) -> Iterator[bool]:
        """Hold a slot, if one is wanted and free; yields whether it is held.

        rate_limited is called at the end to adapt the limit; None: no call to Pluggy was made.
        """
        if not wanted or self.free <= 0:
            yield False
            return
        self.taken += 1
        try:
            yield True
        finally:
            self.taken -= 1
            self._adapt(rate_limited())

    def _adapt(self, rate_limited: bool | None) -> None:
        if rate_limited is not None:
            slots = self.limit // 2 if rate_limited else self.limit + 1
            self.limit = min(self.max_slots, max(1, slots))
