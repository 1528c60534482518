"""One database for all tests of a module, emptied before each test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from tests.support.kept_database import execute, with_database
from worker.infra.postgres import Pool


@asynccontextmanager
async def database_from(template: str, postgres_url: str) -> AsyncIterator[str]:
    """The URL of a copy of the template, which is dropped at the end."""
    name = f"pluggy_sync_module_{uuid.uuid4().hex[:8]}"
    await execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_database(postgres_url, name)
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def delete_events(db: Pool) -> None:
    """Empty the tables that accept() writes. A running receiver may lock them in another order."""
    while True:
        with suppress(asyncpg.DeadlockDetectedError):
            await db.execute(
                "TRUNCATE pluggy_sync.webhook_events, pluggy_sync.item_sync,"
                " pluggy_sync.item_leases, pluggy_sync.delivery_counts CASCADE"
            )
            return
