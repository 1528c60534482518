"""Two people at the simulator, mirrored once for all tests of a module that only read.

ana has a bank of open finance, connected twice, and bruno one without
categories and conversions: a part of what he spends is in dollars and euros.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from ops.demo.processes import ZONE
from tests.support.kept_database import execute, with_database
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect

ANA, BRUNO = "ana", "bruno"
OPEN_FINANCE, DIRECT = 601, 0
CHANGES: Final = {"created": 6, "updated": 4, "deleted": 3, "scheduled": 4, "calendar": True}
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class People:
    """The database, and everything that Pluggy holds of each person's items."""

    url: str
    db: Pool
    stack: Stack
    truths: dict[str, list[Document]]

    def rows(self, table: str, user: str | None) -> list[Document]:
        """Pluggy's rows of a person or of all, each with its `itemId`."""
        found = [t for name, each in self.truths.items() if user in (None, name) for t in each]
        return [row | {"itemId": t["items"][0]["id"]} for t in found for row in t[table]]

    def accounts(self, user: str | None) -> dict[str, Document]:
        return {row["id"]: row for row in self.rows("accounts", user)}

    def transactions(self, user: str | None) -> list[Document]:
        """Rows with `day`, `signed`, `currency` and `sign`, worked out as docs/consume.md says."""
        accounts = self.accounts(user)
        found = []
        for row in self.rows("transactions", user):
            account = accounts[row["accountId"]]
            converted = row["amountInAccountCurrency"]
            amount = row["amount"] if converted is None else converted
            found.append(
                row
                | {
                    "day": day_of(row["date"]),
                    "signed": Decimal(amount) * (-1 if account["type"] == "CREDIT" else 1),
                    "currency": row["currencyCode"] if converted is None else "BRL",
                }
            )
        return found


def day_of(text: str) -> date:
    """The calendar day of a time of Pluggy's: midnight UTC and a bare time are dates."""
    if len(text) < len("2026-01-01T00:00:00Z") or text.endswith("T00:00:00.000Z"):
        return date.fromisoformat(text[:10])
    return datetime.fromisoformat(text).astimezone(ZoneInfo(ZONE)).date()


@asynccontextmanager
async def open_people(
    postgres_url: str, template: str, redis_url: str, simulator: SimulatorProcess
) -> AsyncIterator[People]:
    """Mirror them into a database of their own."""
    name = f"people_{uuid.uuid4().hex[:8]}"
    await execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    url = with_database(postgres_url, name)
    redis = connect(redis_url)
    db = await open_pool(url, max_size=4, statement_cache=100)
    await fill_budget(redis)
    async with build_client(simulator.url, redis) as client:
        stack = Stack(db, redis, simulator, client, build_worker(db, redis, client))
        yield People(url, db, stack, await _mirror(stack))
    await close_pool(db)
    await redis.aclose()
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _mirror(stack: Stack) -> dict[str, list[Document]]:
    first = await stack.synced_item(
        connectorId=OPEN_FINANCE, clientUserId=ANA, accounts=4, transactions=500
    )
    again = await stack.synced_item(
        connectorId=OPEN_FINANCE, clientUserId=ANA, reconnects=first["id"]
    )
    other = await stack.synced_item(
        connectorId=DIRECT,
        clientUserId=BRUNO,
        transactions=400,
        without=["categories", "conversions"],
    )
    for item in (first, other):
        await stack.process_all(await stack.collect(item["id"], **CHANGES))
    return {
        ANA: [await _truth(stack, item["id"]) for item in (first, again)],
        BRUNO: [await _truth(stack, other["id"])],
    }


async def _truth(stack: Stack, item_id: str) -> Document:
    document: Document = json.loads(await stack.simulator.truth(item_id), parse_float=Decimal)
    return document
