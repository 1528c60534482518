"""Endpoints of accounts, investments, loans, identity, bills and consents."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from simulator.bank import openings
from simulator.bank.accounts import Account
from simulator.http.answers import find_account, item_query, json_answer, uuid_query
from simulator.http.errors import ApiError, not_found
from simulator.http.lists import listed
from simulator.http.views import world_of
from simulator.items.item import Item
from simulator.state import state_of

Payload = dict[str, Any]
# Of one account; Pluggy's quota is by person, bank and product.
BALANCES_A_MONTH = 420


async def list_accounts(request: web.Request) -> web.Response:
    item, kind = item_query(request), request.query.get("type")
    rows = [
        account.payload
        for account in item.accounts.values()
        if not item.withheld and kind in (None, account.type)
    ]
    return json_answer(listed(request, rows, one_page=True))


async def get_account(request: web.Request) -> web.Response:
    account = find_account(request.match_info["id"], request)
    if world_of(request).item_of(account).withheld:
        raise not_found("account", "ACCOUNT_NOT_FOUND")
    return json_answer(account.payload)


async def read_balance(request: web.Request) -> web.Response:
    """Ask the bank for the balance, which also changes the account; Open Finance only."""
    state = state_of(request)
    account = state.world.accounts.get(request.match_info["id"])
    if account is None:
        raise not_found("Balance", "BALANCE_NOT_FOUND")
    item, month = state.world.item_of(account), state.clock.now()[:7]
    request["item_id"] = item.id
    _refuse_balance(item, account, month)
    account.balance_reads[month] += 1
    openings.read_balance(item, account, state.clock.now_ms())
    return json_answer(
        {
            "balance": account.payload["balance"],
            "blockedBalance": 0,
            "automaticallyInvestedBalance": 0,
            "closingBalance": account.payload["balance"],
            "currencyCode": account.payload["currencyCode"],
            "updateDateTime": account.payload["updatedAt"],
        }
    )


def _refuse_balance(item: Item, account: Account, month: str) -> None:
    if not item.open_finance:
        message = "Real-time balance is only available for Open Finance accounts"
        raise ApiError(400, message, "BALANCE_INVALID_REQUEST")
    if item.withheld:
        raise ApiError(403, "The consent does not permit it", "BALANCE_CONSENT_ERROR")
    if item.connector["health"]["status"] == "OFFLINE":
        message = "The institution is not available"
        raise ApiError(502, message, "BALANCE_CONNECTOR_UNAVAILABLE")
    if account.balance_reads[month] >= BALANCES_A_MONTH:
        message = "Open Finance monthly rate limit reached for this account"
        raise ApiError(429, message, "BALANCE_OPEN_FINANCE_RATE_LIMIT")


async def list_investments(request: web.Request) -> web.Response:
    item, kind = item_query(request), request.query.get("type")
    rows = [] if item.withheld else list(item.investments.values())
    return json_answer(listed(request, [row for row in rows if kind in (None, row["type"])]))


async def list_investment_transactions(request: web.Request) -> web.Response:
    investment_id = request.match_info["id"]
    item = _owner(request, lambda item: item.investments)
    if item is None:
        raise not_found("investment", "INVESTMENT_NOT_FOUND")
    return json_answer(listed(request, item.movements.get(investment_id, [])))


async def list_loans(request: web.Request) -> web.Response:
    item = item_query(request)
    rows = [] if item.withheld else list(item.loans.values())
    return json_answer(listed(request, rows, one_page=True))


async def find_identity(request: web.Request) -> web.Response:
    item = item_query(request)
    if item.identity is None or item.withheld:
        raise not_found("identity", "IDENTITY_NOT_FOUND")
    return json_answer(item.identity)


async def list_bills(request: web.Request) -> web.Response:
    account = find_account(uuid_query(request, "accountId"), request)
    item = world_of(request).item_of(account)
    rows = [bill for bill in item.bills.values() if bill["accountId"] == account.id]
    return json_answer(listed(request, [] if item.withheld else rows[::-1]))


async def list_consents(request: web.Request) -> web.Response:
    rows = list(item_query(request).consents.values())
    return json_answer(listed(request, rows, one_page=True))


async def get_consent(request: web.Request) -> web.Response:
    """A consent describes the connection, not the person's data: it is never withheld."""
    owner = world_of(request).owners.get(request.match_info["id"])
    consent = owner.consents.get(request.match_info["id"]) if owner else None
    if owner is None or consent is None:
        raise ApiError(404, "Consent not found", "CONSENT_NOT_FOUND")
    request["item_id"] = owner.id
    return json_answer(consent)


def _owner(request: web.Request, rows_of: Callable[[Item], Mapping[str, Payload]]) -> Item | None:
    """The item that owns the id in the path, unless its data is withheld."""
    item = world_of(request).owners.get(request.match_info["id"])
    if item is None or item.withheld or request.match_info["id"] not in rows_of(item):
        return None
    request["item_id"] = item.id
    return item


def _one(rows_of: Callable[[Item], Mapping[str, Payload]], what: str, code: str) -> Any:
    """The handler of a GET by id."""

    async def get_one(request: web.Request) -> web.Response:
        item = _owner(request, rows_of)
        if item is None:
            raise not_found(what, code)
        return json_answer(rows_of(item)[request.match_info["id"]])

    return get_one


def _identities(item: Item) -> dict[str, Payload]:
    return {} if item.identity is None else {item.identity["id"]: item.identity}


ROUTES = [
    web.get("/accounts", list_accounts),
    web.get("/accounts/{id}", get_account),
    web.get("/accounts/{id}/balance", read_balance),
    web.get("/investments", list_investments),
    web.get(
        "/investments/{id}",
        _one(lambda item: item.investments, "investment", "INVESTMENT_NOT_FOUND"),
    ),
    web.get("/investments/{id}/transactions", list_investment_transactions),
    web.get("/loans", list_loans),
    web.get("/loans/{id}", _one(lambda item: item.loans, "loan", "LOAN_NOT_FOUND")),
    web.get("/identity", find_identity),
    web.get("/identity/{id}", _one(_identities, "identity", "IDENTITY_NOT_FOUND")),
    web.get("/bills", list_bills),
    web.get("/bills/{id}", _one(lambda item: item.bills, "Bill", "CREDIT_CARD_BILL_NOT_FOUND")),
    web.get("/consents", list_consents),
    web.get("/consents/{id}", get_consent),
]
