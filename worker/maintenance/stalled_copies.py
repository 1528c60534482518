"""Ends COPYs whose worker stands still: it may be paused, or its network gone."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from worker.infra.postgres import Pool
from worker.store import sweep

log = structlog.get_logger()

STALL_LIMIT: Final = timedelta(seconds=15)
"""As the limit that the fence sets for a session that stands still between two statements.

Not less than COMMAND_TIMEOUT_S, within which a worker that is well ends or gives up a COPY.
"""


async def end_stalled_copies(db: Pool, *, stalled_for: timedelta = STALL_LIMIT) -> bool:
    """End the sessions of COPYs that began so long ago and wait for their worker."""
    if ended := await sweep.end_stalled_copies(db, stalled_for=stalled_for):
        log.warning("stalled_copies_ended", sessions=ended)
    return False
