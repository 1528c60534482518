"""Requests to Pluggy of each kind of event, and how many syncs a minute its limit allows.

The limit is of each egress address and group of endpoints: syncs of one kind end where their most
used group does.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import embedded
from bench.work import costs, counted
from ops.migrations import migrate
from worker.infra.settings import SyncSettings
from worker.pluggy_api.http import endpoint_group

LIMIT_A_MINUTE: Final = int(SyncSettings.model_fields["pluggy_requests_per_minute"].default)

SYNCS: Final = (
    "item/created: the first sync",
    "item/updated with news of transactions, an investment and a loan",
    "transactions/created with news",
)


async def measure(*, quick: bool) -> dict[str, Any]:
    """Counts: the same however long it takes, so `quick` changes nothing."""
    figures: dict[str, Any] = {}
    with embedded.database() as database, embedded.redis() as redis:
        await migrate(database)
        async with counted(database, redis) as service:
            async for name, work in costs(service):
                figures[f"requests, {name}"] = work.requests
                if name in SYNCS:
                    allowed = _allowed(service.asked)
                    figures[f"syncs a minute inside {LIMIT_A_MINUTE}, {name}"] = allowed
    return figures


def _allowed(asked: Counter[str]) -> str:
    """Events a minute. A text, because more is better: the counts that may not rise are above."""
    groups: Counter[str] = Counter()
    for endpoint, count in asked.items():
        groups[endpoint_group(endpoint.removeprefix("GET "))] += count
    return f"{LIMIT_A_MINUTE / max(groups.values()):g}"
