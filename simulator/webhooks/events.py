"""The bodies of webhooks, as real traffic has them."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from simulator.bank.rows import Row
from simulator.clock import iso

# One event fits one GET by ids.
UPDATED_BLOCK = 400

Event = dict[str, Any]


def item_event(
    name: str,
    *,
    item_id: str,
    client_user_id: str | None,
    triggered_by: str | None,
    error: dict[str, Any] | None = None,
) -> Event:
    body: Event = {"event": name, "itemId": item_id, "clientUserId": client_user_id}
    if triggered_by is not None:
        body["triggeredBy"] = triggered_by
    if error is not None:
        body["error"] = error
    return body


def connector_event(connector_id: int, status: str) -> Event:
    return {
        "event": "connector/status_updated",
        "id": str(connector_id),
        "connectorId": connector_id,
        "data": {"status": status},
    }


def transactions_created(
    rows: Sequence[Row], *, item_id: str, client_user_id: str | None, base_url: str, legacy: bool
) -> Event:
    account_id = rows[0].account.id
    created_from = iso(min(row.created for row in rows))
    query = f"accountId={account_id}&createdAtFrom={quote(created_from)}"
    path = "/transactions" if legacy else "/v2/transactions"
    return {
        "event": "transactions/created",
        "id": item_id,
        "itemId": item_id,
        "clientUserId": client_user_id,
        "accountId": account_id,
        "transactionsCount": len(rows),
        "transactionsMinDate": iso(min(row.date for row in rows)),
        "transactionsCreatedAtFrom": created_from,
        "createdTransactionsLink": f"{base_url}{path}?{query}",
        "createdTransactionsLinkV2": f"{base_url}/v2/transactions?{query}",
    }


def transactions_changed(
    name: str, ids: Sequence[str], *, item_id: str, account_id: str, client_user_id: str | None
) -> Iterator[Event]:
    """transactions/updated in blocks of 400, transactions/deleted in one."""
    block = UPDATED_BLOCK if name == "transactions/updated" else max(1, len(ids))
    for start in range(0, len(ids), block):
        yield {
            "event": name,
            "itemId": item_id,
            "clientUserId": client_user_id,
            "accountId": account_id,
            "transactionIds": list(ids[start : start + block]),
        }
