"""Keep the event loop responsive: split long work into slices, or run it in a thread, and collect
garbage rarely."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

SLICE_S: Final = 0.005
HEAVY_BYTES: Final = 32 * 1024
"""Larger bodies are parsed in a thread."""
GC_THRESHOLD: Final = 20_000
"""New objects between two collections. A page of rows is so many, and some hundred deliveries, and
they have no cycles: with Python's own threshold collections take a sixth of the time to decode and
map a page, and a tenth of that of a delivery."""

# One thread only: each further one would take interpreter time from the event loop.
_beside: Final = ThreadPoolExecutor(1, thread_name_prefix="beside")


def collect_rarely() -> None:
    """To be called once all is imported, which is never garbage: a full collection would go through
    it, and stop the loop for some 40 ms."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


async def yielding_to_others(things: Iterable[T], *, slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """Iterate, and yield to other tasks after so much work; 0: after each thing."""
    until = time.perf_counter() + slice_s
    for thing in things:
        yield thing
        if time.perf_counter() >= until:
            await asyncio.sleep(0)
            until = time.perf_counter() + slice_s


async def beside(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function: directly for small input (size in bytes), otherwise in a thread."""
    if size <= HEAVY_BYTES:
        return work(*args, **kwargs)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_beside, partial(work, *args, **kwargs))


def batches(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size` elements; an empty sequence has none."""
    for start in range(0, len(things), size):
        yield things[start : start + size]
