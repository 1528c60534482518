"""Deliveries a second on 64 connections, durable, in turn by three receivers: ours, and its peers.

bare aiohttp keeps nothing: it is the limit of the web server. INSERT + enqueue_job is what one
writes first (bench/peers/receivers.py). CPU is that of the receiver's process, without Postgres.
The server has recycled WAL files: while a new one creates a file, all commits wait, and the p99 of
a receiver would be the time that this takes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import embedded
from bench.figures import spread
from bench.wal_files import recycle_wal
from embedded.ports import free_port
from ops.demo.processes import children
from ops.migrations import migrate
from tests.support.receiver import SECRET, ReceiverProcess
from tests.support.service_process import cpu_s
from tests.support.waiting import listens, until

OURS, BARE, NAIVE = "ours", "bare aiohttp", "INSERT + enqueue_job"
HALF: Final = "ours at half of its load"
PEERS: Final = {BARE: "bare", NAIVE: "naive"}


async def measure(*, quick: bool) -> dict[str, Any]:
    """Medians and spreads of interleaved runs; ratios are of the same round."""
    rounds, seconds = (3, 1.0) if quick else (7, 3.0)
    async with AsyncExitStack() as on:
        database = on.enter_context(embedded.database(durable=True))
        redis = on.enter_context(embedded.redis())
        await migrate(database)
        await recycle_wal(database)
        servers = {"DATABASE_URL": database, "REDIS_URL": redis, "WEBHOOK_SECRET": SECRET}
        ours = await on.enter_async_context(ReceiverProcess(**servers | {"LOG_LEVEL": "INFO"}))
        at = {OURS: (await ours.port(), ours.child.pid)}
        launched = on.enter_context(children())
        for name, kind in PEERS.items():
            port = free_port()
            command = ["bench.peers.receivers", kind, "--port", str(port)]
            at[name] = port, launched.start(kind, command, **servers).pid
            await until(lambda port=port: listens(port), f"{name} listens")  # type: ignore[misc]
        found = [await _round(at, seconds) for _ in range(rounds + 1)][1:]
    return _summary(found)


async def _round(at: Mapping[str, tuple[int, int]], seconds: float) -> dict[str, dict[str, float]]:
    found = {}
    for name, (port, pid) in at.items():
        before = cpu_s(pid)
        found[name] = await deliver(port, seconds)
        found[name]["cpu_us"] = (cpu_s(pid) - before) / found[name]["requests"] * 1e6
    half = found[OURS]["per_s"] / 2
    found[HALF] = await deliver(at[OURS][0], seconds, half)
    return found


async def deliver(port: int, seconds: float, rate: float = 0.0) -> dict[str, float]:
    """The figures of bench/load.py, in a process of its own. Raises RuntimeError."""
    command = (sys.executable, "-m", "bench.load", f"http://127.0.0.1:{port}", "--secret", SECRET)
    process = await asyncio.create_subprocess_exec(
        *(*command, "--seconds", str(seconds), "--rate", str(rate)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("bench.load failed")
    figures: dict[str, float] = json.loads(output)
    return figures


def _summary(found: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for peer in PEERS:
        ratios = [one[OURS]["per_s"] / one[peer]["per_s"] for one in found]
        figures[f"deliveries/s: ours / {peer}"] = spread(ratios, 2)
    for name in (OURS, *PEERS):
        for key, unit, digits in (("per_s", "deliveries/s", 0), ("cpu_us", "CPU us a delivery", 0)):
            figures[f"{name}, {unit}"] = spread([one[name][key] for one in found], digits)
    for key in ("p50_ms", "p99_ms"):
        for name in (OURS, HALF):
            figures[f"{name}, {key.replace('_', ' ')}"] = spread(
                [one[name][key] for one in found], 1
            )
    return figures
