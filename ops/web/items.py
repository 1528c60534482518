"""GET /v1/items/{id}: the state, the light and the freshness of an item, without personal data."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from ops.web.responses import Refused, answer
from ops.web.services import services_of
from worker.infra.parsing import parse_uuid
from worker.infra.postgres import Connection
from worker.store import operating, waits
from worker.store.operating import ShownItem
from worker.store.waits import ItemFreshness

BY_US: Final = ("us", "pluggy")


async def show(request: web.Request) -> web.Response:
    """GET /v1/items/{id}: 200, 404 for an unknown item, 410 for a deleted one."""
    item_id = item_id_of(request)

    async def load(conn: Connection) -> tuple[ShownItem | None, int | None, list[ItemFreshness]]:
        return (
            await operating.show_item(conn, item_id),
            await operating.load_receipt(conn, item_id),
            await waits.freshness_of_items(conn, item_ids=[item_id]),
        )

    item, receipt, freshness = await services_of(request).ask(load)
    if receipt is not None or (item is not None and item.deleted_at is not None):
        raise deleted()
    if item is None:
        raise unknown()
    return answer(_document(item, freshness))


def item_id_of(request: web.Request) -> uuid.UUID:
    """The item of a path. Raises Refused: 400."""
    item_id = parse_uuid(request.match_info["item_id"])
    if item_id is None:
        raise Refused(400, "malformed_item_id", "the id of an item is a UUID")
    return item_id


def unknown() -> Refused:
    """404: nothing is known of the item, or Pluggy does not know it."""
    return Refused(404, "item_not_found", "no such item: register it, or see whether Pluggy has it")


def deleted() -> Refused:
    """410: Pluggy has deleted the item."""
    return Refused(410, "item_deleted", "the item was deleted at Pluggy")


def products(freshness: Sequence[ItemFreshness]) -> list[dict[str, Any]]:
    """The freshness of each product, and of each account where it is read by account."""
    return [
        {name: value for name, value in msgspec.structs.asdict(row).items() if name != "item_id"}
        for row in freshness
    ]


def light_of(freshness: Sequence[ItemFreshness]) -> str:
    """red: something is stale for us or for Pluggy; yellow: something else is not fresh."""
    if any(row.state == "stale" and row.blocked_on in BY_US for row in freshness):
        return "red"
    is_fresh = bool(freshness) and all(row.state == "fresh" for row in freshness)
    return "green" if is_fresh else "yellow"


def _document(item: ShownItem, freshness: Sequence[ItemFreshness]) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "state": state_of(item),
        "light": light_of(freshness),
        "connector_id": item.connector_id,
        "connector_name": item.connector_name,
        "status": item.status,
        "execution_status": item.execution_status,
        "last_updated_at": item.last_updated_at,
        "next_auto_sync_at": item.next_auto_sync_at,
        "consent_expires_at": item.consent_expires_at,
        "products": products(freshness),
    }


def state_of(item: ShownItem) -> str:
    """new: nothing is stored yet; syncing: a worker has it; waiting: it has work; idle: none."""
    if item.first_seen_at is None:
        return "new"
    if item.is_running:
        return "syncing"
    return "idle" if item.run_at is None else "waiting"
