"""`python -m ops.demo.afternoon`: the webhook handler that one writes in an afternoon.

What Pluggy's documentation asks for, and no more: answer at once, then work; upsert the item and
its accounts after item/*, read the link of transactions/created, read updated ids again, delete
deleted ids (https://docs.pluggy.ai/docs/webhooks). Batched statements, one transaction a page, warm
connections, three attempts a request. It imports nothing of the service that it runs beside.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import aiohttp
import asyncpg
import click
from aiohttp import web

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS afternoon;
CREATE TABLE IF NOT EXISTS afternoon.items (id uuid PRIMARY KEY, body jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS afternoon.accounts (
    id uuid PRIMARY KEY, item_id uuid NOT NULL, body jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS afternoon.transactions (
    id uuid PRIMARY KEY, account_id uuid NOT NULL, date timestamptz NOT NULL, description text,
    amount numeric NOT NULL, status text, category text, body jsonb NOT NULL);
CREATE INDEX IF NOT EXISTS transactions_account ON afternoon.transactions (account_id, date);
CREATE TABLE IF NOT EXISTS afternoon.handled (event text NOT NULL, rows int, ms numeric NOT NULL);
"""
ITEM = "INSERT INTO afternoon.items VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = $2"
ACCOUNT = """INSERT INTO afternoon.accounts VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET body = excluded.body"""
TRANSACTION = """INSERT INTO afternoon.transactions VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE SET date = excluded.date, description = excluded.description,
    amount = excluded.amount, status = excluded.status, category = excluded.category,
    body = excluded.body"""
CLOSED = """WITH closed AS (
    DELETE FROM afternoon.accounts WHERE item_id = $1 AND id <> ALL ($2::uuid[]) RETURNING id)
DELETE FROM afternoon.transactions WHERE account_id IN (SELECT id FROM closed)"""
DELETED = "DELETE FROM afternoon.transactions WHERE id = ANY ($1::uuid[])"
HANDLED = "INSERT INTO afternoon.handled VALUES ($1, $2, $3)"
ATTEMPTS = 3
AGENT = "afternoon"
"""Its User-Agent, by which its requests are counted."""


@dataclass(slots=True)
class Handler:
    """The tables and Pluggy's API; tasks are the webhooks that are answered and not handled yet."""

    db: asyncpg.Pool[asyncpg.Record]
    session: aiohttp.ClientSession
    base_url: str
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle(self, event: dict[str, Any], received_at: float) -> None:
        """Store what one webhook is about."""
        match event["event"]:
            case "item/created" | "item/updated" | "item/error" as name:
                rows = await self.item(event["itemId"], whole=name == "item/created")
            case "item/deleted":
                await self.db.execute("DELETE FROM afternoon.items WHERE id = $1", event["itemId"])
                await self.db.execute(CLOSED, event["itemId"], [])
                rows = 1
            case "transactions/created":
                rows = await self.transactions(event["createdTransactionsLinkV2"])
            case "transactions/updated":
                ids = ",".join(event["transactionIds"])
                query = f"accountId={event['accountId']}&ids={ids}"
                rows = await self.transactions(f"{self.base_url}/v2/transactions?{query}")
            case "transactions/deleted":
                await self.db.execute(DELETED, event["transactionIds"])
                rows = len(event["transactionIds"])
            case _:
                return
        took_ms = Decimal(str((time.monotonic() - received_at) * 1000))
        await self.db.execute(HANDLED, event["event"], rows, took_ms)

    async def item(self, item_id: str, *, whole: bool) -> int:
        """The item and its accounts: closed ones go. whole: and all transactions of each."""
        item = await self.get(f"{self.base_url}/items/{item_id}")
        accounts = (await self.get(f"{self.base_url}/accounts?itemId={item_id}"))["results"]
        rows = [(account["id"], item_id, encode(account)) for account in accounts]
        async with self.db.acquire() as conn, conn.transaction():
            await conn.execute(ITEM, item_id, encode(item))
            await conn.executemany(ACCOUNT, rows)
            await conn.execute(CLOSED, item_id, [row[0] for row in rows])
        for account in accounts if whole else ():
            await self.transactions(f"{self.base_url}/v2/transactions?accountId={account['id']}")
        return len(rows)

    async def transactions(self, url: str | None) -> int:
        """All pages of a list, a transaction each; returns how many rows there were."""
        found = 0
        while url:
            page = await self.get(url)
            rows = [transaction(row) for row in page["results"]]
            async with self.db.acquire() as conn, conn.transaction():
                await conn.executemany(TRANSACTION, rows)
            found += len(rows)
            following = page["next"]
            url = following and f"{self.base_url}/v2/transactions?{following.lstrip('?')}"
        return found

    async def get(self, url: str) -> Any:
        """The JSON of an answer. Raises aiohttp.ClientError after three attempts."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.session.get(url) as answer:
                    answer.raise_for_status()
                    return json.loads(await answer.read(), parse_float=Decimal)
            except aiohttp.ClientError:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(2**attempt)
        raise AssertionError("unreachable")


HANDLER = web.AppKey("handler", Handler)


async def receive(request: web.Request) -> web.Response:
    """Answer within Pluggy's five seconds; the work comes afterwards."""
    secret = request.headers.get("X-Webhook-Secret", "")
    if not hmac.compare_digest(secret, os.environ["WEBHOOK_SECRET"]):
        return web.Response(status=401)
    handler = request.app[HANDLER]
    task = asyncio.create_task(handler.handle(await request.json(), time.monotonic()))
    handler.tasks.add(task)
    task.add_done_callback(handler.tasks.discard)
    return web.Response(status=202)


async def at_work(request: web.Request) -> web.Response:
    """How many webhooks are answered and not handled yet."""
    return web.Response(text=str(len(request.app[HANDLER].tasks)))


def transaction(row: dict[str, Any]) -> tuple[Any, ...]:
    """The columns of a transaction."""
    at = datetime.fromisoformat(row["date"])
    amount = Decimal(row["amount"])
    texts = row.get("status"), row.get("category")
    return row["id"], row["accountId"], at, row.get("description"), amount, *texts, encode(row)


def encode(body: Any) -> str:
    """JSON with numbers as Pluggy wrote them, as far as jsonb keeps them."""
    return json.dumps(body, default=float)


async def services(app: web.Application) -> AsyncIterator[None]:
    """Postgres and an API key."""
    key = {
        "clientId": os.environ["PLUGGY_CLIENT_ID"],
        "clientSecret": os.environ["PLUGGY_CLIENT_SECRET"],
    }
    base_url = os.environ["PLUGGY_BASE_URL"]
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=4) as db,
        aiohttp.ClientSession(headers={"User-Agent": AGENT}) as session,
    ):
        await db.execute(SCHEMA)
        async with session.post(f"{base_url}/auth", json=key) as answer:
            session.headers["X-API-KEY"] = (await answer.json())["apiKey"]
        app[HANDLER] = Handler(db, session, base_url)
        yield


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """Serve until a signal."""
    app = web.Application()
    app.router.add_post("/webhook", receive)
    app.router.add_get("/at-work", at_work)
    app.cleanup_ctx.append(services)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None)


if __name__ == "__main__":
    main()
