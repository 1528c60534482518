"""Endpoints of keys, connect tokens, connectors and categories."""

from typing import Any

from aiohttp import web

from simulator.bank.categories import CATEGORIES
from simulator.http.answers import bool_query, find_connector, find_item, json_answer, json_body
from simulator.http.errors import bad_request, not_found
from simulator.http.keys import CONNECT, CONNECT_TOKEN_S
from simulator.http.lists import listed
from simulator.state import state_of


async def create_key(request: web.Request) -> web.Response:
    body = await json_body(request)
    key = state_of(request).keys.log_in(body.get("clientId"), body.get("clientSecret"))
    return json_answer({"apiKey": key})


async def create_connect_token(request: web.Request) -> web.Response:
    """Only the fields inside `options` count, as with Pluggy."""
    state, body = state_of(request), await json_body(request)
    if body.get("itemId") is not None:
        find_item(str(body["itemId"]), request)
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise bad_request("options must be an object")
    claims = {"itemId": body.get("itemId"), "options": options}
    return json_answer({"accessToken": state.keys.issue(CONNECT, CONNECT_TOKEN_S, claims)})


def _with_health(connector: dict[str, Any], details: bool) -> dict[str, Any]:
    if not details:
        return connector
    rate = {"connectionRateLast6Hours": 0.98, "connectionsLast6Hours": 120}
    return connector | {"health": connector["health"] | {"details": rate, "incidents": []}}


async def list_connectors(request: web.Request) -> web.Response:
    wanted = [c for c in state_of(request).world.listed().values() if _is_wanted(request, c)]
    details = bool(bool_query(request, "healthDetails"))
    shown = [_with_health(connector, details) for connector in wanted]
    return json_answer(listed(request, shown, one_page=True))


def _is_wanted(request: web.Request, connector: dict[str, Any]) -> bool:
    """Sandbox connectors are listed with the others only if they are asked for."""
    if connector["isSandbox"] and not bool_query(request, "sandbox"):
        return False
    for name in (
        "isOpenFinance",
        "supportsPaymentInitiation",
        "supportsSmartTransfers",
        "supportsAutomaticPix",
    ):
        asked = bool_query(request, name)
        if asked is not None and connector[name] != asked:
            return False
    for name, field in (("countries", "country"), ("types", "type")):
        values = _values(request, name)
        if values and connector[field] not in values:
            return False
    return request.query.get("name", "").lower() in connector["name"].lower()


def _values(request: web.Request, name: str) -> list[str]:
    return [value for text in request.query.getall(name, []) for value in text.split(",")]


async def get_connector(request: web.Request) -> web.Response:
    connector = find_connector(request, state_of(request).world.offered())
    return json_answer(_with_health(connector, bool(bool_query(request, "healthDetails"))))


async def list_categories(request: web.Request) -> web.Response:
    parent = request.query.get("parentId")
    rows = [c for c in CATEGORIES.values() if parent is None or c["parentId"] == parent]
    return json_answer(listed(request, rows, one_page=True))


async def get_category(request: web.Request) -> web.Response:
    category = CATEGORIES.get(request.match_info["id"])
    if category is None:
        raise not_found("category", "CATEGORY_NOT_FOUND")
    return json_answer(category)


ROUTES = [
    web.post("/auth", create_key),
    web.post("/connect_token", create_connect_token),
    web.get("/connectors", list_connectors),
    web.get("/connectors/{id}", get_connector),
    web.get("/categories", list_categories),
    web.get("/categories/{id}", get_category),
]
