"""From the acceptance of an event until its run is open, at 20 events a second, beside other ways.

arq with its defaults is what one takes first; BLPOP alone is the limit of Redis, without Postgres
(bench/peers/wakes.py). In turn, each at the same rate.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from typing import Any, Final

from bench.figures import p99, spread
from bench.peers.wakes import Wake, arq_wakes, blpop_wakes
from bench.visible import DELTAS_A_S, start

OURS: Final = "ours"
ARQ: Final = "arq, its defaults"
LIMIT: Final = "BLPOP alone"


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians of rounds; ratios are of the same round."""
    rounds, count = (3, 20) if quick else (5, 100)
    found: list[dict[str, list[float]]] = []
    async with AsyncExitStack() as on:
        service, redis = await start(on)
        arq = await on.enter_async_context(arq_wakes(redis))
        blpop = await on.enter_async_context(blpop_wakes(redis))
        for _ in range(rounds + 1):
            _, started = await service.deltas(count)
            one = {ARQ: await _woken(arq, count), LIMIT: await _woken(blpop, count)}
            found.append({OURS: started, **one})
    return _summary(found[1:])  # the first round warms up


async def _woken(wake: Wake, count: int) -> list[float]:
    begun = []
    for _ in range(count):
        begun.append(asyncio.ensure_future(wake()))
        await asyncio.sleep(1 / DELTAS_A_S)
    return list(await asyncio.gather(*begun))


def _summary(found: list[dict[str, list[float]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in (ARQ, LIMIT):
        ratios = [statistics.median(one[name]) / statistics.median(one[OURS]) for one in found]
        figures[f"accepted to started, p50: {name} / ours"] = spread(ratios, 2)
    for name in found[0]:
        times = [one[name] for one in found]
        figures[f"{name}: p50 ms"] = spread([statistics.median(one) for one in times], 1)
        figures[f"{name}: p99 ms"] = spread([p99(one) for one in times], 1)
    return figures
