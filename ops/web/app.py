"""The routes of the ops process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from ops.web import connect, connect_tokens, dead_letters, health, items, page, registration, waits
from ops.web.access import ACCESS, guarded
from ops.web.responses import MAX_BODY_BYTES, add_headers, json_errors
from ops.web.services import SERVICES, OpsServices
from webhook_receiver.responses import handle_expect, not_found
from worker.infra.http_server import BoundedRunner, HttpLimits, metrics
from worker.infra.tasks import end

STOP_TIMEOUT_S: Final = 5.0


def ops_app(services: OpsServices) -> web.Application:
    """The app with its routes; every one is guarded, also those that do not exist."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[json_errors, guarded])
    app.on_response_prepare.append(add_headers)
    app[SERVICES] = services
    app[ACCESS] = services.access
    for method, path, handler in (
        ("GET", "/", page.overview),
        ("GET", "/style.css", page.style),
        ("POST", "/v1/items", registration.register),
        ("GET", "/v1/items/{item_id}", items.show),
        ("GET", "/v1/items/{item_id}/wait", waits.wait),
        ("POST", "/v1/connect-tokens", connect_tokens.create),
        ("GET", "/connect", connect.show),
        ("GET", "/connect.js", connect.script),
        ("GET", "/connect/items/{item_id}", connect.progress),
        ("POST", "/connect/simulated", connect.simulate),
        ("POST", "/v1/dead-letters/{event_row_id}/requeue", dead_letters.requeue),
        ("GET", "/livez", health.livez),
        ("GET", "/readyz", health.readyz),
        ("GET", "/metrics", metrics),
        ("*", "/{anything:.*}", not_found),
    ):
        for each in ("GET", "HEAD") if method == "GET" else (method,):
            app.router.add_route(each, path, handler, expect_handler=handle_expect)
    app.cleanup_ctx.append(_polling)
    app.on_shutdown.append(_end_waits)
    return app


def ops_runner(services: OpsServices, connections: int) -> web.AppRunner:
    """A runner of the app, ready for a site. A wait ends when its client is gone."""
    return BoundedRunner(
        ops_app(services),
        HttpLimits(connections=connections),
        shutdown_timeout=STOP_TIMEOUT_S,
        handler_cancellation=True,
    )


async def _polling(app: web.Application) -> AsyncIterator[None]:
    services = app[SERVICES]
    task = asyncio.create_task(services.barrier.run())
    services.polling.append(task)
    yield
    await end(task)


async def _end_waits(app: web.Application) -> None:
    app[SERVICES].barrier.close()
