"""First uses in a session of Postgres, made when a worker starts rather than by its first events.

A session looks up types, prepares each statement, reads the catalog and compiles functions when it
first meets them. That is a third of the work of the first syncs.
"""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Final

import asyncpg

from worker.entities.registry import ENTITIES, LISTINGS
from worker.infra.postgres import POSTGRES_AWAY, Connection, Pool
from worker.store import id_progress, product_sync
from worker.store.entities import transactions
from worker.store.item_state import load_item_state
from worker.store.lease import fence

SESSIONS: Final = 4
"""As many as a few items at once use; a session is closed if it is not used for five minutes."""
NO_ITEM: Final = uuid.UUID(int=0)
NO_TIME: Final = timedelta(0)


async def use_sessions(db: Pool) -> None:
    """Open sessions, and run in each what most syncs need. If that fails only time is lost."""
    async with AsyncExitStack() as taken:
        with suppress(*POSTGRES_AWAY, asyncpg.PostgresError):
            for _ in range(SESSIONS):
                await _use(await taken.enter_async_context(db.acquire()))


async def _use(conn: Connection) -> None:
    """Run the statements for an item that does not exist, and roll them back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        await _read(conn)
        await _write(conn)
    finally:
        await transaction.rollback()


async def _read(conn: Connection) -> None:
    await load_item_state(conn, NO_ITEM, token=NO_ITEM, lease_for=NO_TIME)
    for listing in LISTINGS.values():
        await listing.load_live(conn, NO_ITEM, NO_ITEM)
    for entity in ENTITIES.values():
        await entity.load_versions(conn, NO_ITEM, ids=[])
        if entity.load_hashes is not None:
            await entity.load_hashes(conn, NO_ITEM, ids=[], version=entity.version)
    await transactions.load_witnesses(conn, NO_ITEM, NO_ITEM, suspected=[], asked=[], event_ids=[])


async def _write(conn: Connection) -> None:
    await fence(conn, NO_ITEM, token=NO_ITEM, lease_for=NO_TIME)
    now = await conn.fetchval("SELECT now()")
    for entity in ENTITIES.values():
        await entity.upsert(conn, rows="[]", item_id=NO_ITEM, run_id=0, now=now)
    await id_progress.note_ids_asked(
        conn, event_ids=[], pending_seqs=[], ask_again_ats=[], dones=[], came_backs=[]
    )
    await product_sync.mark_complete(
        conn,
        NO_ITEM,
        "accounts",
        NO_ITEM,
        complete_read_at=None,
        source_updated_at=None,
        read_seq=None,
    )
    await product_sync.complete_transactions(
        conn,
        NO_ITEM,
        NO_ITEM,
        complete_read_at=None,
        source_updated_at=None,
        read_up_to=None,
        read_since=None,
        read_seq=None,
        walked=False,
        page_rows=0,
        narrow_for=NO_TIME,
        overlap=NO_TIME,
        collected_as=None,
        has_new_rows=True,
    )
