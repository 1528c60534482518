"""`python -m bench.peers.sdk backfill|delta ITEM...`: Pluggy's own SDK from PyPI, and psycopg."""
# The generated client takes ids as text and fields by their Python names; pydantic sees to both at
# run time, which mypy cannot know.
# mypy: disable-error-code="arg-type, call-arg"

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pluggy_sdk

from bench.peers.rows import OVERLAP, row_of
from bench.peers.threads import AT_ONCE, Rows, main


class Sdk:
    """One client for all threads, its connections warm."""

    def __init__(self) -> None:
        configuration = pluggy_sdk.Configuration(host=os.environ["PLUGGY_BASE_URL"])
        configuration.connection_pool_maxsize = AT_ONCE
        client = pluggy_sdk.ApiClient(configuration)
        keys = pluggy_sdk.AuthRequest(
            client_id=os.environ["PLUGGY_CLIENT_ID"],
            client_secret=os.environ["PLUGGY_CLIENT_SECRET"],
        )
        key = pluggy_sdk.AuthApi(client).auth_create(keys).api_key
        configuration.api_key["default"] = key
        self.items = pluggy_sdk.ItemsApi(client)
        self.accounts_of = pluggy_sdk.AccountApi(client)
        self.transactions = pluggy_sdk.TransactionApi(client)

    def item(self, item_id: str) -> str:
        return self.items.items_retrieve(item_id).to_json()

    def accounts(self, item_id: str) -> list[tuple[str, str]]:
        found = self.accounts_of.accounts_list(item_id).results or []
        return [(str(account.id), account.to_json()) for account in found]

    def pages(self, item_id: str, account_id: str, newest: datetime | None) -> Iterator[Rows]:
        since = newest - OVERLAP if newest else None
        after = None
        while True:
            page = self.transactions.transactions_list_by_cursor(
                account_id, created_at_from=since, after=after
            )
            now = datetime.now(UTC)
            yield [
                row_of(uuid.UUID(item_id), row.to_dict(), row.to_json().encode(), now)
                for row in page.results
            ]
            if page.next is None:
                return
            after = parse_qs(page.next.removeprefix("?"))["after"][0]


if __name__ == "__main__":
    main(Sdk)
