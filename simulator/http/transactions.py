"""Endpoints of transactions: the cursor listing, the retired page listing, a row, its category."""

from itertools import islice

import msgspec
from aiohttp import web

from simulator.bank.accounts import Account
from simulator.bank.categories import CATEGORIES
from simulator.bank.history import is_uuid
from simulator.bank.rows import Row, render
from simulator.http.answers import (
    PAGE_SIZE,
    bytes_answer,
    find_account,
    json_answer,
    json_body,
    only_queries,
    paged,
    time_query,
    uuid_query,
)
from simulator.http.cursor import next_query, read_cursor, write_cursor
from simulator.http.errors import ApiError, bad_request, not_found
from simulator.http.views import world_of
from simulator.state import state_of

_MAX_IDS = 500
_ENCODER = msgspec.json.Encoder()


async def list_by_cursor(request: web.Request) -> web.Response:
    only_queries(request, "accountId", "ids", "dateFrom", "dateTo", "createdAtFrom", "after")
    account_id = uuid_query(request, "accountId")
    ids = _ids(request)
    date_from, date_to = (
        time_query(request, "dateFrom"),
        time_query(request, "dateTo", end_of_day=True),
    )
    created_from = time_query(request, "createdAtFrom")
    if date_from is not None and created_from is not None:
        raise bad_request("dateFrom and createdAtFrom are mutually exclusive")
    after = request.query.get("after")
    key = None if after is None else read_cursor(after)
    account = find_account(account_id, request)
    found = account.listed(
        after=key,
        date_from=date_from,
        date_to=date_to,
        created_from=created_from,
        only=None if ids is None else _named(request, account, ids),
    )
    rows = [] if _is_withheld(request, account) else list(islice(found, PAGE_SIZE + 1))
    return _page(request, rows)


def _named(request: web.Request, account: Account, ids: frozenset[str]) -> list[Row]:
    """Ids of deleted rows, or of another account's, are simply absent."""
    known = world_of(request).rows
    return [row for row in map(known.get, ids) if row is not None and row.account.id == account.id]


def _page(request: web.Request, rows: list[Row]) -> web.Response:
    following = None
    if len(rows) > PAGE_SIZE:
        rows = rows[:PAGE_SIZE]
        following = next_query(request.query.items(), write_cursor(rows[-1].date, rows[-1].id))
        request["page_end"] = rows[-1]
    shown = [render(row) for row in rows]
    return bytes_answer(_ENCODER.encode({"results": shown, "next": following}))


def _ids(request: web.Request) -> frozenset[str] | None:
    """Both spellings: ids=a,b and ids=a&ids=b."""
    if "ids" not in request.query:
        return None
    ids = [part for text in request.query.getall("ids") for part in text.split(",") if part]
    if len(ids) > _MAX_IDS:
        raise ApiError(
            400,
            f"The ids parameter cannot have more than {_MAX_IDS} transaction ids",
            "IDS_PARAMETER_EXCEEDS_MAX_LENGTH",
        )
    if not all(is_uuid(part) for part in ids):
        raise bad_request("each value in ids must be a UUID")
    return frozenset(part.lower() for part in ids)


def _is_withheld(request: web.Request, account: Account) -> bool:
    return world_of(request).item_of(account).withheld


async def list_by_page(request: web.Request) -> web.Response:
    if not state_of(request).options.legacy_transactions:
        raise ApiError(
            410,
            "This endpoint is deprecated. Use GET /v2/transactions with cursor pagination instead.",
            "ENDPOINT_DEPRECATED",
            errorId="simulated",
        )
    account = find_account(uuid_query(request, "accountId"), request)
    rows = [] if _is_withheld(request, account) else _legacy_rows(request, account)
    page = paged(request, rows)
    return json_answer(page | {"results": [render(row) for row in page["results"]]})


def _legacy_rows(request: web.Request, account: Account) -> list[Row]:
    ids, bill_id = _ids(request), request.query.get("billId")
    found = account.listed(
        only=None if ids is None else _named(request, account, ids),
        date_from=time_query(request, "from"),
        date_to=time_query(request, "to", end_of_day=True),
        created_from=time_query(request, "createdAtFrom"),
    )
    return [row for row in found if bill_id in (None, row.bill_id)]


def _row(request: web.Request) -> Row:
    row = world_of(request).rows.get(request.match_info["id"])
    if row is None or _is_withheld(request, row.account):
        raise ApiError(404, "Transaction not found", "TRANSACTION_NOT_FOUND")
    request["item_id"] = row.account.item_id
    return row


async def get_transaction(request: web.Request) -> web.Response:
    return json_answer(render(_row(request)))


async def update_transaction(request: web.Request) -> web.Response:
    row, body = _row(request), await json_body(request)
    if body.get("categoryId") not in CATEGORIES:
        raise not_found("Category", "CATEGORY_NOT_FOUND")
    row.category = body["categoryId"]
    row.updated = state_of(request).clock.now_ms()
    return json_answer(render(row))


ROUTES = [
    web.get("/v2/transactions", list_by_cursor),
    web.get("/transactions", list_by_page),
    web.get("/transactions/{id}", get_transaction),
    web.patch("/transactions/{id}", update_transaction),
]
