"""Endpoints of items: create, read, list, refresh, answer MFA, stop the auto-sync, delete."""

from typing import Any

from aiohttp import web

from simulator.clock import HOUR_MS, iso
from simulator.http.answers import bytes_answer, find_item, json_answer, json_body, only_queries
from simulator.http.cursor import next_query, read_cursor, write_cursor
from simulator.http.errors import ApiError, bad_request
from simulator.items.connectors import MEU_PLUGGY, PRODUCTS
from simulator.items.item import Item
from simulator.state import Simulator, state_of
from simulator.webhooks.hooks import check_url

_LISTED = 500
_MAX_USER_ID = 255
_MAX_FAILURES = 5
NO_CONTENT = 204


def _item(request: web.Request) -> Item:
    return find_item(request.match_info["id"], request)


async def get_item(request: web.Request) -> web.Response:
    return bytes_answer(_item(request).json())


async def create_item(request: web.Request) -> web.Response:
    state, body = state_of(request), await json_body(request)
    connector = _connector(state, body.get("connectorId"))
    parameters = _parameters(connector, body.get("parameters"))
    settings = _settings(state, body)
    _refuse_creation(state, connector, parameters, avoid=body.get("avoidDuplicates") is True)
    item = state.world.new_item(connector_id=connector["id"], **settings)
    item.parameters, item.oauth_redirect_uri = parameters, body.get("oauthRedirectUri")
    state.lifecycle.start(item, "CLIENT")
    item.execution_status = "CREATED"
    request["item_id"] = item.id
    return json_answer(item.shown())


def _connector(state: Simulator, connector_id: Any) -> dict[str, Any]:
    offered = state.world.offered()
    if not isinstance(connector_id, int) or connector_id not in offered:
        raise bad_request("connectorId must be the id of a connector")
    return offered[connector_id]


def _parameters(connector: dict[str, Any], given: Any) -> dict[str, Any]:
    parameters = _readable(given)
    asked = [] if isinstance(given, str) else connector["credentials"]
    missing = [
        credential["name"]
        for credential in asked
        if not credential["mfa"] and not parameters.get(credential["name"])
    ]
    if missing:
        raise ApiError(
            400,
            "Connector parameters do not match validation rules",
            "CONNECTOR_VALIDATION_ERROR",
            details=[
                {"code": "001", "parameter": name, "message": f"{name} parameter is required"}
                for name in missing
            ],
        )
    return parameters


def _readable(given: Any) -> dict[str, Any]:
    """Encrypted parameters are a string that only Pluggy can read: they count as user-ok's."""
    if isinstance(given, str):
        return {}
    if not isinstance(given, dict):
        raise bad_request("parameters must be an object or an encrypted string")
    return given


def _settings(state: Simulator, body: dict[str, Any]) -> dict[str, Any]:
    """The fields that POST and PATCH share, as far as they are given."""
    settings: dict[str, Any] = {}
    if (user_id := body.get("clientUserId")) is not None:
        if not isinstance(user_id, str) or len(user_id) > _MAX_USER_ID:
            raise bad_request("clientUserId must be a string of at most 255 characters")
        settings["client_user_id"] = user_id
    if (url := body.get("webhookUrl")) is not None:
        check_url(url, allow_loopback=not state.options.public_webhook_urls_only)
        settings["webhook_url"] = url
    if (names := body.get("products")) is not None:
        if not isinstance(names, list) or not set(names) <= set(PRODUCTS):
            raise bad_request("each value in products must be a product")
        settings["products"] = [name for name in PRODUCTS if name in names]
    return settings


def _refuse_creation(
    state: Simulator, connector: dict[str, Any], parameters: dict[str, Any], *, avoid: bool
) -> None:
    limit = state.options.items_limit
    if limit and len(state.world.items) >= limit:
        raise ApiError(
            409,
            f"Client exceeded item creation limit ({limit} items) for the current subscription.",
            "ITEM_CREATION_LIMIT_EXCEEDED",
            data={"itemsLimit": limit},
        )
    names = ("user", "cpf")
    same = [
        item.id
        for item in state.world.items.values()
        if item.connector is connector
        and any(name in parameters for name in names)
        and all(item.parameters.get(name) == parameters.get(name) for name in names)
    ]
    if avoid and same:
        raise ApiError(
            400,
            "There are other items with the same credentials, you can't create a new one",
            "ITEM_USER_ALREADY_EXISTS",
            items=same,
        )


async def list_items(request: web.Request) -> web.Response:
    """Newest first. Pluggy enables this listing per team."""
    state = state_of(request)
    only_queries(request, "clientUserId", "connectorId", "after")
    if not state.options.list_items:
        message = "This client is not enabled to list its items."
        raise ApiError(403, message, "LIST_ITEMS_FEATURE_NOT_ENABLED")
    user_id, connector_id = request.query.get("clientUserId"), request.query.get("connectorId")
    after = request.query.get("after")
    key = None if after is None else read_cursor(after)
    found = [
        item
        for item in sorted(state.world.items.values(), key=_newest_first)
        if item.connector["id"] != MEU_PLUGGY
        and user_id in (None, item.client_user_id)
        and connector_id in (None, str(item.connector["id"]))
        and (key is None or _newest_first(item) > key)
    ]
    following = None
    if len(found) > _LISTED:
        last = found[_LISTED - 1]
        following = next_query(request.query.items(), write_cursor(last.created, last.id))
    shown = [item.shown() for item in found[:_LISTED]]
    return json_answer({"results": shown, "next": following})


def _newest_first(item: Item) -> tuple[int, str]:
    return (-item.created, item.id)


async def update_item(request: web.Request) -> web.Response:
    """Store the fields sent, then collect the item."""
    state, item, body = state_of(request), _item(request), await json_body(request)
    settings = _settings(state, body)
    _refuse_update(state, item, body)
    for name, value in settings.items():
        setattr(item, name, value)
    if body.get("parameters") is not None:
        item.parameters = item.parameters | _readable(body["parameters"])
    item.auto_sync_disabled = None
    state.lifecycle.start(item, "CLIENT")
    return bytes_answer(item.json())


def _refuse_update(state: Simulator, item: Item, body: dict[str, Any]) -> None:
    if item.connector["id"] == MEU_PLUGGY:
        raise ApiError(400, "MeuPluggy item cant be updated")
    if item.in_progress:
        raise ApiError(400, "Item is already updating", "ITEM_IS_ALREADY_UPDATING")
    if item.connector["health"]["status"] == "OFFLINE":
        raise ApiError(400, "The connector is offline", "CONNECTOR_OFFLINE")
    if item.failures > _MAX_FAILURES:
        raise ApiError(
            400,
            "There has been more than 5 failing syncronizations, please contact support",
            "TOO_MANY_CONSECUTIVE_ERRORS",
        )
    if item.status == "LOGIN_ERROR" and not item.withheld and not body.get("parameters"):
        raise ApiError(
            400, "The last execution had a login error", "LAST_EXECUTION_HAD_LOGIN_ERROR"
        )
    _refuse_early_update(state, item)


def _refuse_early_update(state: Simulator, item: Item) -> None:
    hours, last = state.options.min_update_hours, item.last_updated
    if not hours or last is None or state.clock.now_ms() >= last + hours * HOUR_MS:
        return
    raise ApiError(
        409,
        f"Client updates on this item are allowed at most every {hours} hours. "
        f"Last update was at {iso(last)}",
        "CLIENT_IS_UPDATING_BEFORE_ALLOWED_FREQUENCY",
        data={"minUpdateFrequencyAllowedInHours": hours, "lastUpdatedAt": iso(last)},
    )


async def send_mfa(request: web.Request) -> web.Response:
    state, item, body = state_of(request), _item(request), await json_body(request)
    if item.status != "WAITING_USER_INPUT" or item.parameter is None:
        if item.execution_status == "USER_INPUT_TIMEOUT":
            raise ApiError(400, "The MFA has expired", "ITEM_MFA_EXPIRED")
        if item.execution_status == "LOGIN_MFA_IN_PROGRESS":
            raise ApiError(400, "The MFA was already provided", "ITEM_MFA_ALREADY_PROVIDED")
        raise ApiError(400, "The item asks for no MFA", "ITEM_MFA_NOT_FOUND")
    name = item.parameter["name"]
    if set(body) != {name}:
        raise ApiError(
            400, f"The parameter '{name}' is expected", "ITEM_MFA_PARAMETER_EXPECTED_MISMATCH"
        )
    state.lifecycle.answer_mfa(item, str(body[name]), "CLIENT")
    return bytes_answer(item.json())


async def disable_auto_sync(request: web.Request) -> web.Response:
    item = _item(request)
    state_of(request).lifecycle.stop_auto_sync(item)
    return bytes_answer(item.json())


async def delete_item(request: web.Request) -> web.Response:
    """One page of Pluggy says 204, its specification 200 with a body."""
    state = state_of(request)
    state.lifecycle.delete(_item(request))
    if state.options.deleted_item_status == NO_CONTENT:
        return web.Response(status=NO_CONTENT)
    return json_answer({"count": 1})


ROUTES = [
    web.post("/items", create_item),
    web.get("/v2/items", list_items),
    web.get("/items/{id}", get_item),
    web.patch("/items/{id}", update_item),
    web.patch("/items/{id}/disable-auto-sync", disable_auto_sync),
    web.post("/items/{id}/mfa", send_mfa),
    web.delete("/items/{id}", delete_item),
]
