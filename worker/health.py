"""HTTP health server of a worker: liveness, readiness and Prometheus metrics."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog
from aiohttp import web
from redis.exceptions import RedisError

from worker.infra.http_server import BoundedRunner, HttpLimits, listening_port, metrics
from worker.infra.outage_words import Outage, postgres_outage, redis_outage
from worker.infra.postgres import POSTGRES_AWAY, connection_within
from worker.infra.redis_client import PROBE_EXPIRES_MS, WRITE_PROBE
from worker.maintenance.sweep import Sweep
from worker.store.sweep import probe_worker

log = structlog.get_logger()

TICK_TIMEOUT_S: Final = 60.0
SWEEP_TIMEOUT_S: Final = 15.0
PROBE_TIMEOUT_S: Final = 2.0
LIMITS: Final = HttpLimits(connections=100)
PORTS_TO_TRY: Final = 50
LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A loop that must make progress: at() is its last progress, by the monotonic clock."""

    name: str
    timeout_s: float
    at: Callable[[], float]

    @property
    def is_due(self) -> bool:
        """Whether the loop has made no progress for longer than the time-out."""
        return time.monotonic() - self.at() >= self.timeout_s


class Readiness:
    """Probes Postgres and Redis by a write, as a sync needs it."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._asking: asyncio.Future[list[Outage]] | None = None

    async def outages(self) -> list[Outage]:
        """Current outages, within PROBE_TIMEOUT_S. Concurrent callers share one probe."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> list[Outage]:
        found = await asyncio.gather(self._postgres(), self._redis())
        return [word for word in found if word is not None]

    async def _postgres(self) -> Outage | None:
        sweep = self._sweep
        try:
            async with connection_within(sweep.db, PROBE_TIMEOUT_S) as conn:
                await probe_worker(conn, worker_id=sweep.worker_id)
        except (*POSTGRES_AWAY, asyncpg.PostgresError) as error:
            return postgres_outage(error)
        return None

    async def _redis(self) -> Outage | None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._sweep.waker.redis.set(WRITE_PROBE, 1, px=PROBE_EXPIRES_MS)
        except (RedisError, OSError) as error:
            # During an outage the client fails fast and remembers the cause.
            return Outage(self._sweep.redis.word or redis_outage(error))
        return None


def sweep_heartbeat(sweep: Sweep) -> Heartbeat:
    """Heartbeat of the sweep, which also runs while Postgres or Redis is away."""
    return Heartbeat("sweep", TICK_TIMEOUT_S, lambda: sweep.ticked_at)


def health_app(sweep: Sweep, heartbeats: Sequence[Heartbeat]) -> web.Application:
    """`/livez` fails if a loop is stuck, `/readyz` if Postgres or Redis takes no writes."""
    readiness = Readiness(sweep)

    async def livez(_: web.Request) -> web.Response:
        stuck = [heartbeat.name for heartbeat in heartbeats if heartbeat.is_due]
        return _answer(not stuck, "no_progress", f"stuck: {', '.join(stuck)}")

    async def readyz(_: web.Request) -> web.Response:
        if outages := await readiness.outages():
            return _answer(False, outages[0], ", ".join(outages))
        # On a machine that has just started the monotonic clock may be below SWEEP_TIMEOUT_S.
        swept = 0 < sweep.swept_at > time.monotonic() - SWEEP_TIMEOUT_S
        return _answer(swept, "no_sweep", f"no sweep ended in {SWEEP_TIMEOUT_S:g} s; see the log")

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


async def start_health_server(
    sweep: Sweep, port: int, heartbeats: Sequence[Heartbeat], limits: HttpLimits = LIMITS
) -> web.AppRunner:
    """Listen on the port, or on the next free one (several workers on one machine).

    heartbeats is read at each request: its content changes when the worker has started.
    """
    runner = BoundedRunner(health_app(sweep, heartbeats), limits)
    await runner.setup()
    for candidate in range(port, min(port + PORTS_TO_TRY, LAST_PORT + 1)):
        try:
            await web.TCPSite(runner, port=candidate).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        log.info("health_server_started", port=listening_port(runner))
        return runner
    await runner.cleanup()
    raise OSError(errno.EADDRINUSE, f"no free port from METRICS_PORT={port} on")


def _answer(good: bool, error: str, detail: str) -> web.Response:
    if good:
        return web.json_response({"status": "ok"})
    return web.json_response({"error": error, "detail": detail}, status=503)
