"""Probes of the ops process."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ops.web.responses import answer, unavailable
from ops.web.services import services_of
from worker.infra.postgres import Connection
from worker.store.items_list import clock

PROBE_TIMEOUT_S: Final = 2.0


async def livez(request: web.Request) -> web.Response:
    """GET /livez: the process answers, and its poll for waits runs."""
    if any(task.done() for task in services_of(request).polling):
        raise unavailable("not_polling", "waits are not polled for any more; restart this process")
    return answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: Postgres answers."""

    async def probe(conn: Connection) -> None:
        await clock(conn)

    await services_of(request).ask(probe, timeout_s=PROBE_TIMEOUT_S)
    return answer({"status": "ok"})
