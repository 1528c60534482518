"""The simulator's clock: runs faster than real time, stands still, or is stepped forward."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from typing import Any

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def day_text(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


@lru_cache(maxsize=86_400)
def _second_text(second: int) -> str:
    minutes, of_minute = divmod(second, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{of_minute:02d}"


def iso(ms: int) -> str:
    """Pluggy's usual shape of a time: UTC, milliseconds, Z."""
    # Every row has three of them: repeated ones come from a cache.
    day, rest = divmod(ms, DAY_MS)
    return f"{day_text(day)}T{_second_text(rest // 1000)}.{rest % 1000:03d}Z"


@lru_cache(maxsize=4096)
def shared_iso(ms: int) -> str:
    """The same, cached whole, for the few times that many rows share."""
    return iso(ms)


def parse_iso(text: str) -> int:
    """Whole milliseconds since 1970; no zone means UTC. ValueError if it is not ISO 8601."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def iso_or_none(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def without_zone(day: int) -> str:
    """The midnight of a day (counted from 1970) as bills and loans have it."""
    return iso(day * DAY_MS)[:19]


# Timers kept before cancelled ones are removed for the first time.
_TIMERS = 1_000


class Timer:
    """A call to make once, at a time of the simulator's clock."""

    __slots__ = ("action", "due_ms")

    def __init__(self, due_ms: int, action: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None

    def fire(self) -> None:
        action, self.action = self.action, None
        if action is not None:
            action()


class Clock:
    """Wall time times `scale` (0: it stands still), plus what `advance` added."""

    def __init__(self, *, scale: float = 1.0, start_ms: int | None = None) -> None:
        self.scale = scale
        self._monotonic = time.monotonic()
        self._base_ms = start_ms if start_ms is not None else time.time_ns() // 1_000_000
        self._timers: list[tuple[int, int, Timer]] = []
        self._numbers = itertools.count()
        self._tidy_at = _TIMERS
        self._alarm: asyncio.TimerHandle | None = None
        self._busy: set[asyncio.Task[None]] = set()

    def now_ms(self) -> int:
        return self._base_ms + int((time.monotonic() - self._monotonic) * self.scale * 1000)

    def now(self) -> str:
        return iso(self.now_ms())

    def http_date(self) -> str:
        return formatdate(self.now_ms() // 1000, usegmt=True)

    def real_seconds(self, ms: int) -> float:
        """How long `ms` of this clock take on the wall; a clock that stands still counts as 1:1."""
        return ms / 1000 / (self.scale or 1.0)

    def call_at(self, due_ms: int, action: Callable[[], None]) -> Timer:
        timer = Timer(due_ms, action)
        heapq.heappush(self._timers, (due_ms, next(self._numbers), timer))
        if len(self._timers) > self._tidy_at:
            self._tidy()
        self._arm()
        return timer

    def _tidy(self) -> None:
        """Drop cancelled timers: most auto-syncs are planned again long before they are due."""
        self._timers = [entry for entry in self._timers if entry[2].action is not None]
        heapq.heapify(self._timers)
        self._tidy_at = 2 * len(self._timers) + _TIMERS

    def call_later(self, delay_ms: int, action: Callable[[], None]) -> Timer:
        return self.call_at(self.now_ms() + delay_ms, action)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        timer = self.call_later(round(seconds * 1000), woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that a timer began and `advance` waits for; it must not sleep on this clock."""
        task = asyncio.ensure_future(work)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def advance(self, seconds: float) -> None:
        """Step forward, firing each timer on the way at its own time, in order."""
        left_ms = round(seconds * 1000)
        while self._timers and self._timers[0][0] - self.now_ms() <= left_ms:
            due_ms, _, timer = heapq.heappop(self._timers)
            step_ms = max(0, due_ms - self.now_ms())
            self._base_ms += step_ms
            left_ms -= step_ms
            timer.fire()
            # Tasks that slept until now run before time moves on.
            await asyncio.sleep(0)
            await asyncio.gather(*self._busy)
        self._base_ms += left_ms
        self._arm()

    async def drop_timers(self) -> None:
        """Drop every timer, once the work that one began is done."""
        await asyncio.gather(*self._busy)
        self._timers = []
        self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._timers and self.scale > 0:
            wait_s = self.real_seconds(max(0, self._timers[0][0] - self.now_ms()))
            # asyncio refuses alarms that are too far off; checking every hour costs nothing.
            self._alarm = asyncio.get_running_loop().call_later(min(wait_s, 3600.0), self._wake)

    def _wake(self) -> None:
        now_ms = self.now_ms()
        while self._timers and self._timers[0][0] <= now_ms:
            heapq.heappop(self._timers)[2].fire()
        self._arm()
