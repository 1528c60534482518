"""The log of requests that clients made, with counts per endpoint."""

from collections import Counter, deque
from random import Random
from typing import Any, NamedTuple

from simulator.bank.history import new_id
from simulator.clock import Clock, iso

KEPT = 20_000


class Entry(NamedTuple):
    method: str
    path: str
    query: str
    status: int
    at_ms: int
    item_id: str | None
    request_id: str


class RequestLog:
    """Counts are exact; of the requests themselves the last 20,000 are kept."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._random = Random(f"requests:{seed}")
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._counts: Counter[str] = Counter()

    def new_id(self) -> str:
        """The x-request-id of one request."""
        return new_id(self._random)

    def note(
        self,
        endpoint: str,
        method: str,
        path: str,
        query: str,
        status: int,
        item_id: str | None,
        request_id: str,
    ) -> None:
        self._counts[endpoint] += 1
        self._entries.append(
            Entry(method, path, query, status, self._clock.now_ms(), item_id, request_id)
        )

    def shown(self, last: int) -> dict[str, Any]:
        kept = list(self._entries)[-last:] if last else []
        return {
            "total": self._counts.total(),
            "endpoints": dict(sorted(self._counts.items())),
            "log": [_shown(entry) for entry in kept],
        }

    def reset(self) -> None:
        self._entries.clear()
        self._counts.clear()


def _shown(entry: Entry) -> dict[str, Any]:
    shown = entry._asdict() | {
        "at": iso(entry.at_ms),
        "item": entry.item_id,
        "requestId": entry.request_id,
    }
    del shown["at_ms"], shown["item_id"], shown["request_id"]
    return shown
