"""Pluggy's rate limits: fixed windows of one minute per address and group of endpoints."""

import math

from simulator.clock import MINUTE_MS, Clock
from simulator.http.errors import ApiError

PATCH_ITEMS_LIMIT = 20
_MESSAGE = "Too many requests. Please try again later (see Retry-After header in seconds)"


def group_of(method: str, path: str) -> str:
    """The group that a route counts in; `path` is the route's template."""
    if path in {"/transactions", "/v2/transactions", "/transactions/{id}"}:
        return "transactions"
    if path == "/investments/{id}/transactions":
        return "investment_transactions"
    if path.startswith(("/items", "/v2/items")):
        return "patch_items" if (method, path) == ("PATCH", "/items/{id}") else "items"
    return path.split("/")[1]


class Limits:
    """Counts requests; 0 turns every limit off."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._clock = clock
        self.per_minute = per_minute
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}

    def spend(self, address: str, group: str) -> None:
        if not self.per_minute:
            return
        limit = PATCH_ITEMS_LIMIT if group == "patch_items" else self.per_minute
        now_ms = self._clock.now_ms()
        window = now_ms // MINUTE_MS
        started, used = self._windows.get((address, group), (window, 0))
        used = used if started == window else 0
        if used >= limit:
            raise self._refusal(limit, (window + 1) * MINUTE_MS - now_ms)
        self._windows[address, group] = (window, used + 1)

    def _refusal(self, limit: int, left_ms: int) -> ApiError:
        refusal = ApiError(429, _MESSAGE)
        reset_s = max(1, math.ceil(self._clock.real_seconds(left_ms)))
        refusal.headers = {
            "RateLimit-Limit": str(limit),
            "RateLimit-Reset": str(reset_s),
            # Always a full minute, whatever is left of the window.
            "Retry-After": "60",
        }
        return refusal
