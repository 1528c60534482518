"""The bodies of webhooks, as real traffic has them."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from simulator.bank.rows import Row
from simulator.clock import iso
from simulator.items.item import Item

# One event fits one GET by ids.
UPDATED_BLOCK = 400

Event = dict[str, Any]


class Links(msgspec.Struct, frozen=True):
    """The links in webhooks back to this server."""

    base_url: str
    legacy: bool = False


def item_event(name: str, item: Item, triggered_by: str | None) -> Event:
    body: Event = {"event": name, "itemId": item.id, "clientUserId": item.client_user_id}
    if triggered_by is not None:
        body["triggeredBy"] = triggered_by
    if name == "item/error" and item.error is not None:
        body["error"] = item.error
    return body


def connector_event(connector_id: int, status: str) -> Event:
    return {
        "event": "connector/status_updated",
        "id": str(connector_id),
        "connectorId": connector_id,
        "data": {"status": status},
    }


def transactions_created(rows: Sequence[Row], item: Item, links: Links) -> Event:
    account_id = rows[0].account.id
    created_from = iso(min(row.created for row in rows))
    query = f"accountId={account_id}&createdAtFrom={quote(created_from)}"
    path = "/transactions" if links.legacy else "/v2/transactions"
    return {
        "event": "transactions/created",
        "id": item.id,
        "itemId": item.id,
        "clientUserId": item.client_user_id,
        "accountId": account_id,
        "transactionsCount": len(rows),
        "transactionsMinDate": iso(min(row.date for row in rows)),
        "transactionsCreatedAtFrom": created_from,
        "createdTransactionsLink": f"{links.base_url}{path}?{query}",
        "createdTransactionsLinkV2": f"{links.base_url}/v2/transactions?{query}",
    }


def transactions_changed(
    name: str, ids: Sequence[str], item: Item, account_id: str
) -> Iterator[Event]:
    """transactions/updated in blocks of 400, transactions/deleted in one."""
    block = UPDATED_BLOCK if name == "transactions/updated" else max(1, len(ids))
    for start in range(0, len(ids), block):
        yield {
            "event": name,
            "itemId": item.id,
            "clientUserId": item.client_user_id,
            "accountId": account_id,
            "transactionIds": list(ids[start : start + block]),
        }
