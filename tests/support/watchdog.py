"""Measure the CPU time of each callback of the event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from unittest.mock import patch

MAX_CALLBACK_S: Final = 0.05
"""CPU time of this thread, so that a busy machine does not count."""


@dataclass(slots=True)
class Watched:
    """The longest callbacks, in seconds, by function."""

    callbacks: int = 0
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def note(self, took_s: float, what: str) -> None:
        self.callbacks += 1
        if took_s > MAX_CALLBACK_S / 5:
            self.slowest = sorted([(took_s, what), *self.slowest], reverse=True)[:5]

    def assert_quick(self) -> None:
        """Assert that no callback blocked the loop."""
        assert self.callbacks > 0
        slow = [
            f"{took_s:.3f} s {what}" for took_s, what in self.slowest if took_s > MAX_CALLBACK_S
        ]
        assert not slow, slow


@contextmanager
def watched() -> Iterator[Watched]:
    """Time every callback of asyncio's own loop, on which the tests run."""
    found, run = Watched(), asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        try:
            run(handle)
        finally:
            found.note(time.thread_time() - began, repr(handle))

    # What the test process holds besides is not the service's to collect.
    gc.collect()
    gc.freeze()
    try:
        with patch.object(asyncio.Handle, "_run", timed):
            yield found
    finally:
        gc.unfreeze()
