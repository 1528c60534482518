"""Outages of Redis or Postgres as a process sees them: a line at the beginning, one at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger()

LOOK_AGAIN_AFTER_S: Final = 1.0


@dataclass(slots=True)
class ServerOutage:
    """Told of every failure and success with one server; says only what is news."""

    server: str
    since: float | None = None
    failed_at: float = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the server is away, as far as this process knows."""
        return self.since is not None

    @property
    def is_fresh(self) -> bool:
        """Whether the last failure was just now: another try would prove nothing yet."""
        return self.lasts and time.monotonic() - self.failed_at < LOOK_AGAIN_AFTER_S

    def failed(self, error: BaseException) -> None:
        """The server did not answer."""
        self.failed_at = time.monotonic()
        if self.since is None:
            self.since = self.failed_at
            log.warning(f"{self.server}_away", error=type(error).__name__)

    def answered(self) -> None:
        """The server did what it was asked for."""
        # Connections fail one after the other: a success in between is no end of the outage.
        if self.since is None or self.is_fresh:
            return
        log.warning(f"{self.server}_back", away_s=round(time.monotonic() - self.since, 1))
        self.since = None
