"""/connect: a person connects a bank in the browser, and sees the rows arrive. On loopback only.

The page has Pluggy's Connect widget, or with a simulator as Pluggy a list of its banks. Neither our
API key nor the webhook secret reaches the browser: it gets a connect token from
POST /v1/connect-tokens, and registers the item that was connected by POST /v1/items.
Source: https://docs.pluggy.ai/docs/connect-widget/introduction, package pluggy-connect-sdk 2.14.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from ops.web.connect_tokens import pluggy_refusal
from ops.web.items import light_of, products, state_of
from ops.web.page import heading, page
from ops.web.responses import Refused, answer, read_document
from ops.web.services import OpsServices, services_of
from worker.infra.lanes import Lane
from worker.infra.parsing import parse_uuid
from worker.infra.postgres import Connection
from worker.pluggy_api.errors import PluggyError
from worker.pluggy_api.http import Change
from worker.pluggy_api.payloads import Unreadable, decode_object
from worker.store import operating, waits

CDN: Final = "https://cdn.pluggy.ai"
WIDGET: Final = f"{CDN}/pluggy-connect/latest/pluggy-connect.js"
WIDGET_FRAME: Final = "https://connect.pluggy.ai"
OWN_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The widget puts its style into the page, and itself into a frame.
WIDGET_POLICY: Final = (
    f"default-src 'none'; script-src 'self' {CDN}; style-src 'self' 'unsafe-inline';"
    f" frame-src {WIDGET_FRAME}; img-src {CDN} data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SCRIPT: Final = Path(__file__).with_name("connect.js")
SIMULATED_TRANSACTIONS: Final = 300
SIMULATED_CHANGES: Final = {"created": 5, "consent": "renewed"}
PROGRESS: Final = """\
<p id="error" role="alert"></p>
<p id="state" role="status"></p>
<table id="table" hidden>
<thead><tr><th>product</th><th>state</th><th>rows</th></tr></thead>
<tbody id="products"></tbody>
</table>
<pre id="next"></pre>"""


async def show(request: web.Request) -> web.Response:
    """GET /connect[?item=ID]: the page; with an item it is connected again."""
    services = _local_services(request)
    item_id = _item_id(request.query["item"]) if "item" in request.query else None
    simulated = services.installation.is_simulator
    banks = "" if not simulated or item_id else _banks(await _connectors(services))
    widget = "" if simulated else f'<script src="{WIDGET}"></script>'
    return page(
        "Connect a bank",
        heading("", "Connect this bank again" if item_id else "Connect a bank"),
        _form(services, item_id, simulated=simulated),
        banks,
        PROGRESS,
        widget,
        '<script src="/connect.js"></script>',
        policy=OWN_POLICY if simulated else WIDGET_POLICY,
    )


async def script(request: web.Request) -> web.Response:
    """GET /connect.js"""
    _local_services(request)
    return web.Response(text=SCRIPT.read_text(encoding="utf-8"), content_type="text/javascript")


async def progress(request: web.Request) -> web.Response:
    """GET /connect/items/{id}: state, freshness of each product, and number of rows."""
    item_id = _item_id(request.match_info["item_id"])

    async def load(conn: Connection) -> dict[str, Any]:
        item = await operating.show_item(conn, item_id)
        freshness = await waits.freshness_of_items(conn, item_ids=[item_id])
        rows = await operating.count_item_rows(conn, item_id)
        return {
            "item_id": item_id,
            "state": "new" if item is None else state_of(item),
            "last_updated_at": None if item is None else item.last_updated_at,
            "light": light_of(freshness),
            "products": products(freshness),
            "rows": {each.entity: each.live for each in rows},
        }

    return answer(await _local_services(request).ask(load))


async def simulate(request: web.Request) -> web.Response:
    """POST /connect/simulated {"connectorId"} or {"itemId"}: what a person does in the widget, with
    the simulator. 201 with the item's id, 400, 404."""
    services = _local_services(request)
    if not services.installation.is_simulator:
        raise Refused(404, "no_simulator", "PLUGGY_BASE_URL is no simulator on this machine")
    asked = await read_document(request)
    if "itemId" in asked:
        item_id = _item_id(asked["itemId"])
        await _call(services, f"/_simulator/items/{item_id}/collect", SIMULATED_CHANGES)
        return answer({"itemId": item_id}, 201)
    wanted = {name: asked.get(name) for name in ("connectorId", "clientUserId")}
    made = await _call(
        services, "/_simulator/items", wanted | {"transactions": SIMULATED_TRANSACTIONS}
    )
    return answer({"itemId": _item_id(made.get("id"))}, 201)


def _local_services(request: web.Request) -> OpsServices:
    """Raises Refused: 404 where other machines may ask."""
    services = services_of(request)
    if not services.access.is_local:
        raise Refused(404, "not_found", "/connect is served on loopback only")
    return services


def _item_id(text: object) -> uuid.UUID:
    """Raises Refused: 400."""
    item_id = parse_uuid(text) if isinstance(text, str) else None
    if item_id is None:
        raise Refused(400, "malformed_item_id", "the id of an item is a UUID")
    return item_id


async def _connectors(services: OpsServices) -> list[Mapping[str, Any]]:
    """Those of the simulator, sandbox included. Raises Refused."""
    listed = (await _call(services, "/connectors?sandbox=true")).get("results")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


async def _call(
    services: OpsServices, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An answer of Pluggy, or of the simulator. Raises Refused."""
    change = None if body is None else Change("POST", body)
    try:
        reply = await services.client.call(path, lane=Lane.LIVE, count=lambda: None, change=change)
        return decode_object(reply.body)
    except Unreadable as error:
        raise Refused(502, "unreadable_answer", "Pluggy's answer cannot be read") from error
    except PluggyError as error:
        raise pluggy_refusal(error) from error


def _form(services: OpsServices, item_id: uuid.UUID | None, *, simulated: bool) -> str:
    """What the script has to know, and the fields before the first click."""
    parts = []
    if simulated and item_id is None:
        parts.append("Pluggy is a simulator here: pick a bank.")
    if services.access.token:
        parts.append('<label>OPS_TOKEN <input id="token" type="password"></label>')
    if item_id is None:
        parts.append('<label>clientUserId <input id="user" value="me" maxlength="255"></label>')
    if item_id is not None or not simulated:
        parts.append('<button id="open">Connect</button>')
    csrf, item = escape(services.access.csrf_token), item_id or ""
    data = f'data-csrf="{csrf}" data-item="{item}" data-simulator="{"yes" if simulated else ""}"'
    return f'<div id="connect" {data}><p>{"</p><p>".join(parts)}</p></div>'


def _banks(connectors: Sequence[Mapping[str, Any]]) -> str:
    buttons = (
        f'<button class="bank" data-connector="{escape(str(each.get("id")))}">'
        f"{escape(_shown_name(each))}</button>"
        for each in connectors
    )
    return f'<p id="banks">{" ".join(buttons)}</p>'


def _shown_name(connector: Mapping[str, Any]) -> str:
    """Several connectors of one bank differ in their kind."""
    kind = "Open Finance" if connector.get("isOpenFinance") else connector.get("type")
    return f"{connector.get('name')} · {str(kind).replace('_', ' ').lower()}"
