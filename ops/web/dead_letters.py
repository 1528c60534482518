"""POST /v1/dead-letters/{id}/requeue: send an event that was given up on back to work."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Final

import structlog
from aiohttp import web
from redis.exceptions import RedisError

from ops.web.responses import Refused, answer
from ops.web.services import OpsServices, services_of
from worker.infra.outage_words import redis_outage
from worker.store import operating

log = structlog.get_logger()

ROW_ID: Final = re.compile(r"\d{1,19}", re.ASCII)
MAX_ROW_ID: Final = 2**63 - 1
WAKE_TIMEOUT_S: Final = 2.0


async def requeue(request: web.Request) -> web.Response:
    """POST /v1/dead-letters/{id}/requeue: 200, 400, 404 if it is no dead letter (any more)."""
    text = request.match_info["event_row_id"]
    if not ROW_ID.fullmatch(text) or int(text) > MAX_ROW_ID:
        raise Refused(400, "malformed_id", "the id of a dead letter is a number")
    services = services_of(request)
    rows = await services.ask(
        lambda conn: operating.requeue_dead_letters(
            conn, ids=[int(text)], reason=None, item_id=None, connector_id=None
        )
    )
    if not rows:
        raise Refused(404, "dead_letter_not_found", "no dead letter has this id")
    [row] = rows
    log.info("dead_letter_requeued", event_row_id=row.id, item_id=str(row.item_id))
    if row.item_id is not None and row.made_due:
        await wake(services, row.item_id)
    return answer({"id": row.id, "event": row.event, "item_id": row.item_id, "status": "requeued"})


async def wake(services: OpsServices, item_id: uuid.UUID) -> None:
    """Wake a worker; if Redis fails, the sweep of the workers finds the item."""
    try:
        async with asyncio.timeout(WAKE_TIMEOUT_S):
            await services.waker.wake([item_id])
    except (RedisError, OSError) as error:
        log.warning(redis_outage(error), error=type(error).__name__)
