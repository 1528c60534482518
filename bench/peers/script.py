"""`python -m bench.peers.script backfill|delta ITEM...`: a mirror by a script, with no webhooks.

Prints its seconds and CPU, its start left out.

aiohttp and asyncpg under uvloop: four items at once, warm connections, one transaction a page,
batched upserts into the same table with the same columns and indexes. A delta lists what was
created since the newest row of each account less an hour.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import click
import msgspec
import uvloop

from bench.peers.rows import ACCOUNT, ITEM, NEWEST, SCHEMA, UPSERT, mapped, since

AT_ONCE = 4


@dataclass(slots=True)
class Script:
    """One run over some items."""

    db: asyncpg.Pool[asyncpg.Record]
    session: aiohttp.ClientSession
    base_url: str
    delta: bool

    async def get(self, path: str) -> bytes:
        """The body of an answer. Raises aiohttp's errors."""
        async with self.session.get(self.base_url + path) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def mirror(self, item: str) -> None:
        """The item, its accounts, and their transactions."""
        item_id = uuid.UUID(item)
        body = await self.get(f"/items/{item}")
        await self.db.execute(ITEM, item_id, body.decode())
        accounts: list[dict[str, Any]] = msgspec.json.decode(
            await self.get(f"/accounts?itemId={item}")
        )["results"]
        rows = [(item_id, uuid.UUID(a["id"]), msgspec.json.encode(a).decode()) for a in accounts]
        await self.db.executemany(ACCOUNT, rows)
        for account in accounts:
            await self.transactions(item_id, account["id"])

    async def transactions(self, item_id: uuid.UUID, account: str) -> None:
        """All pages of an account, or of what is new."""
        query = f"?accountId={account}"
        if self.delta and (newest := await self.db.fetchval(NEWEST, item_id, uuid.UUID(account))):
            query += f"&createdAtFrom={since(newest)}"
        while query:
            body = await self.get(f"/v2/transactions{query}")
            if rows := mapped(item_id, body):
                async with self.db.acquire() as conn, conn.transaction():
                    await conn.executemany(UPSERT, rows)
            query = msgspec.json.decode(body)["next"]
            query = query and "?" + query.lstrip("?")


async def run(items: list[str], *, delta: bool) -> None:
    """Mirror the items, AT_ONCE at a time."""
    base_url = os.environ["PLUGGY_BASE_URL"]
    key = {"clientId": os.environ["PLUGGY_CLIENT_ID"]}
    key["clientSecret"] = os.environ["PLUGGY_CLIENT_SECRET"]
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=AT_ONCE, max_size=AT_ONCE) as db,
        aiohttp.ClientSession() as session,
    ):
        await db.execute(SCHEMA)
        async with session.post(f"{base_url}/auth", json=key) as answer:
            session.headers["X-API-KEY"] = (await answer.json())["apiKey"]
        script, slots = Script(db, session, base_url, delta), asyncio.Semaphore(AT_ONCE)

        async def one(item: str) -> None:
            async with slots:
                await script.mirror(item)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))


@click.command()
@click.argument("kind", type=click.Choice(["backfill", "delta"]))
@click.argument("items", nargs=-1)
def main(kind: str, items: tuple[str, ...]) -> None:
    """Mirror the items once."""
    began = time.perf_counter(), time.process_time()
    uvloop.run(run(list(items), delta=kind == "delta"))
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    click.echo(json.dumps({"wall_s": took[0], "cpu_s": took[1]}))


if __name__ == "__main__":
    main()
