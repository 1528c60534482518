"""Endpoint of an item's resources: what the consent covers at the bank, with its authorization."""

from typing import Any
from uuid import UUID, uuid5

from aiohttp import web

from simulator.http.answers import find_item, json_answer, paged
from simulator.items.item import Item

AVAILABLE, PENDING = "AVAILABLE", "PENDING_AUTHORISATION"
_OF_ACCOUNTS = {"BANK": "ACCOUNT", "CREDIT": "CREDIT_CARD_ACCOUNT"}
_OF_INVESTMENTS = {"MUTUAL_FUND": "FUND", "EQUITY": "VARIABLE_INCOME", "ETF": "VARIABLE_INCOME"}


async def list_resources(request: web.Request) -> web.Response:
    item, status = find_item(request.match_info["id"], request), request.query.get("status")
    rows = [row for row in _resources(item) if status in (None, row["status"])]
    return json_answer(paged(request, rows))


def _resources(item: Item) -> list[dict[str, Any]]:
    """None of other connectors, and none without a consent."""
    if not item.open_finance or item.withheld or item.last_updated is None:
        return []
    rows = [
        *(_resource(a.id, _OF_ACCOUNTS[a.type]) for a in item.accounts.values()),
        *(
            _resource(i["id"], _OF_INVESTMENTS.get(i["type"], "BANK_FIXED_INCOME"))
            for i in item.investments.values()
        ),
        *(_resource(loan_id, "LOAN") for loan_id in item.loans),
    ]
    if item.pending_authorization:
        waiting = str(uuid5(UUID(item.id), "a second holder's account"))
        rows.append(_resource(waiting, "ACCOUNT", PENDING))
    return rows


def _resource(resource_id: str, kind: str, status: str = AVAILABLE) -> dict[str, Any]:
    return {"resourceId": resource_id, "type": kind, "status": status}


ROUTES = [web.get("/items/{id}/resources", list_resources)]
