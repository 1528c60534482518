"""POST /v1/items: register an item that the Connect widget has just made."""

from __future__ import annotations

from aiohttp import web

from ops.web.dead_letters import wake
from ops.web.responses import Refused, answer, read_document
from ops.web.services import services_of
from worker.infra.parsing import parse_uuid
from worker.store.waits import register_item


async def register(request: web.Request) -> web.Response:
    """POST /v1/items {"itemId"}: 202 accepted, or duplicate if it was registered before; 400."""
    item_id = parse_uuid((await read_document(request)).get("itemId"))
    if item_id is None:
        raise Refused(400, "malformed_request", "no itemId, or it is no UUID")
    services = services_of(request)
    stored = await services.ask(lambda conn: register_item(conn, item_id))
    if stored.made_due:
        await wake(services, item_id)
    return answer({"status": "accepted" if stored.is_new else "duplicate"}, 202)
