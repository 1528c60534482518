"""Lists in both of Pluggy's models: by page number, and by cursor, to which Pluggy moves by key."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from simulator.http.answers import envelope, json_answer, paged, read_order
from simulator.http.cursor import next_query
from simulator.http.errors import bad_request
from simulator.items.paging import Paging
from simulator.state import state_of


class Lists(Paging, forbid_unknown_fields=True, rename="camel"):
    """The paging of all lists, or of those of one item."""

    item: str | None = None


def listed(request: web.Request, rows: Sequence[Any], *, one_page: bool = False) -> dict[str, Any]:
    """A list's answer, by the paging of its item. one_page: page numbers were never needed."""
    paging = state_of(request).lists.of(request.get("item_id"))
    if paging.model == "cursor":
        return _by_cursor(request, rows, paging.page_size)
    return envelope(rows) if one_page else paged(request, rows, paging.page_size)


def _by_cursor(request: web.Request, rows: Sequence[Any], size: int) -> dict[str, Any]:
    """Page numbers are refused, as the /v2 listings do."""
    for name in ("page", "pageSize"):
        if name in request.query:
            raise bad_request(f"property {name} should not exist")
    start = _behind(rows, request.query.get("after"))
    page = rows[start : start + size]
    following = None
    if start + size < len(rows):
        following = next_query(request.query.items(), _write(page[-1]["id"]))
    return {"results": page, "next": following}


def _write(row_id: Any) -> str:
    return base64.b64encode(f"|{row_id}".encode()).decode()


def _behind(rows: Sequence[Any], after: str | None) -> int:
    """Index of the first row behind a cursor: one of a row that has gone leads nowhere."""
    if after is None:
        return 0
    try:
        row_id = base64.b64decode(after, validate=True).decode().partition("|")[2]
    except (ValueError, binascii.Error) as error:
        raise bad_request("Invalid cursor") from error
    if not row_id:
        return 0
    found = [number for number, row in enumerate(rows) if str(row["id"]) == row_id]
    if not found:
        raise bad_request("Invalid cursor")
    return found[0] + 1


async def set_lists(request: web.Request) -> web.Response:
    """Set how lists are paged from now on: all of them, or those of one item."""
    order = await read_order(request, Lists)
    paging = Paging(order.model, order.page_size)
    state_of(request).lists.set(paging, order.item)
    return json_answer(paging)
