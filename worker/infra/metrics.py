"""Prometheus counters of one worker process. Totals over all workers come from pluggy_ops."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

CLAIMS: Final = Counter("pluggy_sync_claims", "Items claimed, by lane", ["lane"])
EVENTS: Final = Counter("pluggy_sync_events", "Events settled, by state", ["state"])
REQUESTS: Final = Counter(
    "pluggy_sync_pluggy_requests",
    "Requests to Pluggy, by endpoint group and status",
    ["group", "status"],
)
ROWS: Final = Counter("pluggy_sync_rows", "Rows of closed runs, by change", ["change"])
FAILURES: Final = Counter(
    "pluggy_sync_step_failures", "Failed steps, by product and class", ["product", "failure_class"]
)
