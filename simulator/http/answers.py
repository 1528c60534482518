"""Reading requests and writing answers: JSON, envelopes, checked parameters."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from simulator.bank.accounts import Account
from simulator.bank.history import is_uuid
from simulator.clock import parse_iso
from simulator.http.errors import ApiError, bad_request, not_found
from simulator.http.views import world_of
from simulator.items.item import Item

T = TypeVar("T")
PAGE_SIZE = 500


def json_answer(body: Any, status: int = 200) -> web.Response:
    return bytes_answer(msgspec.json.encode(body), status)


def bytes_answer(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def error_answer(error: ApiError) -> web.Response:
    answer = json_answer(error.body, error.status)
    answer.headers.update(error.headers)
    return answer


def envelope(rows: Sequence[Any]) -> dict[str, Any]:
    """All rows on one page; no rows are no pages."""
    return {"page": 1, "total": len(rows), "totalPages": 1 if rows else 0, "results": rows}


def paged(
    request: web.Request, rows: Sequence[Any], default_size: int = PAGE_SIZE
) -> dict[str, Any]:
    size = int_query(request, "pageSize", default_size, low=1, high=PAGE_SIZE)
    page = int_query(request, "page", 1, low=1, high=10**9)
    return {
        "page": page,
        "total": len(rows),
        "totalPages": -(-len(rows) // size),
        "results": rows[(page - 1) * size : page * size],
    }


async def json_body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = msgspec.json.decode(raw or b"{}")
    except msgspec.DecodeError as error:
        raise bad_request(f"Body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise bad_request("Body must be a JSON object")
    return body


async def read_order(request: web.Request, kind: type[T]) -> T:
    """The body of a control call."""
    return to_order(await json_body(request), kind)


def to_order(body: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise bad_request(str(error)) from error


def only_queries(request: web.Request, *known: str) -> None:
    """The /v2 listings refuse unknown parameters; the older endpoints ignore them."""
    unknown = [name for name in request.query if name not in known]
    if unknown:
        raise bad_request(", ".join(f"property {name} should not exist" for name in unknown))


def uuid_query(request: web.Request, name: str) -> str:
    value = request.query.get(name)
    if value is None:
        raise bad_request(f"{name} should not be null or undefined, {name} must be a UUID")
    if not is_uuid(value):
        raise bad_request(f"{name} must be a UUID")
    return value.lower()


def int_query(request: web.Request, name: str, default: int, *, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise bad_request(f"{name} must be an integer from {low} to {high}")
    return int(text)


def bool_query(request: web.Request, name: str) -> bool | None:
    text = request.query.get(name)
    if text is None:
        return None
    if text not in {"true", "false"}:
        raise bad_request(f"{name} must be a boolean value")
    return text == "true"


def time_query(request: web.Request, name: str, *, end_of_day: bool = False) -> int | None:
    """Milliseconds; a bare date as an upper bound means its last millisecond."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        # A plus sign that a client forgot to encode arrives as a blank.
        moment = parse_iso(text.replace(" ", "+"))
    except ValueError as error:
        raise bad_request(f"{name} must be a valid ISO 8601 date string") from error
    return moment + 86_399_999 if end_of_day and len(text) == 10 else moment


def item_query(request: web.Request) -> Item:
    """The item that the query names; unknown or deleted ones are 404."""
    return find_item(uuid_query(request, "itemId"), request)


def find_connector(request: web.Request, among: dict[int, Any] | None = None) -> dict[str, Any]:
    """The connector of the path; among: those to find it in, all if None."""
    text = request.match_info["id"]
    connectors = world_of(request).connectors if among is None else among
    connector: dict[str, Any] | None = connectors.get(int(text) if text.isdecimal() else -1)
    if connector is None:
        raise not_found("connector", "CONNECTOR_NOT_FOUND")
    return connector


def find_account(account_id: str, request: web.Request) -> Account:
    account = world_of(request).accounts.get(account_id)
    if account is None:
        raise not_found("account", "ACCOUNT_NOT_FOUND")
    request["item_id"] = account.item_id
    return account


def find_item(item_id: str, request: web.Request) -> Item:
    item = world_of(request).items.get(item_id)
    if item is None:
        raise not_found("item", "ITEM_NOT_FOUND")
    request["item_id"] = item.id
    return item
