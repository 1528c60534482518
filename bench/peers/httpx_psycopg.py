"""`python -m bench.peers.httpx_psycopg backfill|delta ITEM...`: a script with httpx and psycopg."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import datetime

import httpx
import msgspec

from bench.peers.rows import mapped, since
from bench.peers.threads import AT_ONCE, Rows, main


class Script:
    """One client for all threads, its connections warm."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        self.client = httpx.Client(base_url=os.environ["PLUGGY_BASE_URL"], limits=limits)
        key = {"clientId": os.environ["PLUGGY_CLIENT_ID"]}
        key["clientSecret"] = os.environ["PLUGGY_CLIENT_SECRET"]
        answer = self.client.post("/auth", json=key).raise_for_status()
        self.client.headers["X-API-KEY"] = answer.json()["apiKey"]

    def get(self, path: str) -> bytes:
        """The body of an answer. Raises httpx's errors."""
        return bytes(self.client.get(path).raise_for_status().content)

    def item(self, item_id: str) -> str:
        return self.get(f"/items/{item_id}").decode()

    def accounts(self, item_id: str) -> list[tuple[str, str]]:
        found = msgspec.json.decode(self.get(f"/accounts?itemId={item_id}"))["results"]
        return [(account["id"], msgspec.json.encode(account).decode()) for account in found]

    def pages(self, item_id: str, account_id: str, newest: datetime | None) -> Iterator[Rows]:
        query = f"?accountId={account_id}"
        if newest is not None:
            query += f"&createdAtFrom={since(newest)}"
        while query:
            body = self.get(f"/v2/transactions{query}")
            yield mapped(uuid.UUID(item_id), body)
            following = msgspec.json.decode(body)["next"]
            query = following and "?" + following.lstrip("?")


if __name__ == "__main__":
    main(Script)
