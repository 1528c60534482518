"""Requests to Pluggy of each kind of event, and how many items its limit keeps fresh."""

from __future__ import annotations

from typing import Any, Final

import embedded
from bench.work import counted
from bench.work import measure as work_of_each
from ops.migrations import migrate

LIMIT_A_MINUTE: Final = 360
"""Of each egress address and group of endpoints."""


async def measure(*, quick: bool) -> dict[str, Any]:
    """Counts: the same however long it takes, so `quick` changes nothing."""
    with embedded.database() as database, embedded.redis() as redis:
        await migrate(database)
        async with counted(database, redis) as service:
            found = await work_of_each(service)
    return {f"requests, {name}": work.requests for name, work in found.items()}
