"""The log of requests that clients made, with counts per endpoint."""

from collections import Counter, deque
from random import Random
from typing import Any

import msgspec

from simulator.bank.history import new_id
from simulator.clock import Clock

KEPT = 20_000


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    method: str
    path: str
    query: str
    status: int
    at: str
    item: str | None
    request_id: str


class RequestLog:
    """Counts are exact; of the requests themselves the last 20,000 are kept."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._random = Random(f"requests:{seed}")
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._counts: Counter[str] = Counter()
        self._agents: Counter[str] = Counter()

    def new_id(self) -> str:
        """The x-request-id of one request."""
        return new_id(self._random)

    def note(self, endpoint: str, agent: str, **request: Any) -> None:
        """Count and keep a request: the fields of its entry but the time. agent: its User-Agent."""
        self._counts[endpoint] += 1
        self._agents[agent] += 1
        self._entries.append(Entry(at=self._clock.now(), **request))

    def shown(self, last: int) -> dict[str, Any]:
        return {
            "total": self._counts.total(),
            "endpoints": dict(sorted(self._counts.items())),
            "agents": dict(sorted(self._agents.items())),
            "log": list(self._entries)[-last:] if last else [],
        }

    def reset(self) -> None:
        self._entries.clear()
        self._counts.clear()
        self._agents.clear()
