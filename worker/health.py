"""The worker's own small HTTP server: is it alive, can it work, and its metrics."""

from __future__ import annotations

import errno
import time
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import generate_latest

from worker.sweep import Sweep

log = structlog.get_logger()

TICK_WITHIN_S: Final = 60.0
SWEEP_WITHIN_S: Final = 15.0
PORTS_TO_TRY: Final = 50
LAST_PORT: Final = 65535


def health_app(sweep: Sweep) -> web.Application:
    """`/livez` fails if nothing moves any more, `/readyz` if Postgres or Redis is away."""

    async def livez(_: web.Request) -> web.Response:
        return _answer(time.monotonic() - sweep.ticked_at < TICK_WITHIN_S, "no_progress")

    async def readyz(_: web.Request) -> web.Response:
        # The clock may be younger than that on a machine that has just started.
        swept = 0 < sweep.swept_at > time.monotonic() - SWEEP_WITHIN_S
        return _answer(swept, "no_sweep")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


async def start_health_server(sweep: Sweep, port: int) -> web.AppRunner:
    """Listen on the port, or on the next free one (several workers on one machine)."""
    runner = web.AppRunner(health_app(sweep), access_log=None)
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


def listening_port(runner: web.AppRunner) -> int:
    """The port on IPv4: port 0 may have given IPv6 another one."""
    ports = {len(address): int(address[1]) for address in runner.addresses}
    return ports.get(2) or next(iter(ports.values()))


def _answer(good: bool, error: str) -> web.Response:
    if good:
        return web.json_response({"status": "ok"})
    return web.json_response({"error": error, "detail": "see the log"}, status=503)
