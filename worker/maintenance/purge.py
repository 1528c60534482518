"""Purge: deletes what is personal in an item when its retention time after deletion is over.

It holds the item's lease like a sync, so nothing else writes the item; a new event goes first.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from worker.entities.registry import ENTITIES
from worker.inbox.accept import accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.postgres import Connection, Pool
from worker.lease.halt import halt
from worker.lease.lease import LEASE, Lease, LeaseLost, SyncSession
from worker.lease.runs import close_lost_runs, run_of_its_own
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import (
    ITEM_NOT_FOUND,
    Deferred,
    PluggyError,
    PluggyHalt,
    PluggyNotFound,
    retry_pause_s,
)
from worker.store import purge
from worker.store.lease import release_item
from worker.store.purge import ItemToPurge
from worker.sync.tombstones import tombstone_all

log = structlog.get_logger()

BATCH: Final = 5000
"""Rows per transaction: its locks and writes stay small, however many rows the item has."""
PURGE_TIMEOUT_S: Final = 20.0

MIRRORED: Final = tuple(reversed(ENTITIES))
"""What is owned before its owner."""
OF_THEIR_OWN: Final = {
    "walk_pages": purge.purge_walk_pages,
    "runs": purge.purge_runs,
    "id_progress": purge.purge_id_progress,
    "webhook_events": purge.purge_webhook_events,
}
"""Tables whose rows do not name the item, or stay and lose what is personal."""
STATE: Final = (
    *OF_THEIR_OWN,
    "restatements",
    "account_links",
    "row_links",
    "balance_snapshots",
    "rejected_rows",
    "account_walks",
    "product_sync",
    "drift",
    "missed_webhooks",
)


@dataclass(frozen=True, slots=True)
class Purger:
    """Purges items deleted longer ago than `after`, one at a time."""

    db: Pool
    client: PluggyClient
    after: timedelta

    async def purge(self) -> bool:
        """Do a portion of what is due; returns whether there may be more.

        Never raises for failures of Pluggy. Errors: those of a Postgres that is away; the lease
        then lapses, and the next purge continues.
        """
        late = await purge.purge_late_events(self.db, limit=BATCH)
        record = await purge.claim_item_to_purge(self.db, retention=self.after, lease_for=LEASE)
        if record is None:
            return late == BATCH
        lease = Lease(record.item_id, record.token, Lane.AUDIT, record.now)
        await close_lost_runs(self.db, lease.item_id, lease.token)
        reader = PluggyReader(self.client, lease.lane)
        session = SyncSession(self.db, reader, lease, lease.now, ZoneInfo("UTC"), ())
        with structlog.contextvars.bound_contextvars(item_id=str(lease.item_id)):
            try:
                await self._purge(session, record)
            except LeaseLost:
                log.warning("lease_lost")
            except asyncio.CancelledError:
                await asyncio.shield(_release(session))
                raise
        return True

    async def _purge(self, session: SyncSession, record: ItemToPurge) -> None:
        try:
            answers = await _item_answers(session)
        except PluggyError as error:
            await _record_failure(session, record.attempts, error)
        else:
            await (self._keep(session) if answers else _delete(session, is_ended=record.is_ended))
        await _release(session)

    async def _keep(self, session: SyncSession) -> None:
        """Keep an item that exists again: its tombstone was wrong, and all of it is read again."""
        await accept_events(
            self.db, [own_event("sync/verify", session.item_id, lane=Lane.AUDIT, now=session.now)]
        )
        await purge.delete_purge(self.db, session.item_id)
        log.warning("purge_refused", reason="item_answers")


async def _item_answers(session: SyncSession) -> bool:
    """Whether the item exists after all, asked before anything is deleted. Raises PluggyError."""
    try:
        await session.pluggy.item(session.item_id)
    except PluggyNotFound as answer:
        if answer.code != ITEM_NOT_FOUND:
            raise
        return False
    return True


async def _delete(session: SyncSession, *, is_ended: bool) -> None:
    """Delete batch by batch until nothing is left, time is up, or a new event arrives."""
    clock = asyncio.get_running_loop().time
    until = clock() + PURGE_TIMEOUT_S
    run_of_rows = await session.open_run("purge")
    generation = session.generation
    async with session.page() as conn:
        await purge.begin_purge(conn, session.item_id)
        if is_ended:
            await tombstone_all(conn, session.item_id, run_id=run_of_rows.id, now=session.now)
    for table in (*MIRRORED, *STATE):
        run_of_rows.plan.append(table)
        while await _delete_batch(session, table) == BATCH:
            if clock() > until or session.generation > generation:
                return
    await session.close_run("done")
    # A run of its own: after this nothing would claim the item and close a lost run.
    async with session.page() as conn:
        if session.generation > generation:
            return
        async with run_of_its_own(conn, "purge", item_id=session.item_id) as run:
            receipt = await purge.finish_purge(
                conn, session.item_id, run_id=run.id, now=session.now
            )
            run.counts.deleted = 1
    log.info("item_purged", receipt=receipt)


async def _delete_batch(session: SyncSession, table: str) -> int:
    async with session.page() as conn:
        rows = await _delete_rows(conn, session.item_id, table)
        if rows:
            await purge.count_purged(conn, session.item_id, table=table, rows=rows)
    session.run.counts.deleted += rows if table in MIRRORED else 0
    return rows


async def _delete_rows(conn: Connection, item_id: uuid.UUID, table: str) -> int:
    if table in OF_THEIR_OWN:
        return await OF_THEIR_OWN[table](conn, item_id=item_id, limit=BATCH)
    schema = "pluggy" if table in MIRRORED else "pluggy_sync"
    return await purge.purge_rows(conn, table=f"{schema}.{table}", item_id=item_id, limit=BATCH)


async def _record_failure(session: SyncSession, attempts: int, error: PluggyError) -> None:
    """Schedule another attempt, for as long as it takes: a promised deletion has to happen."""
    log.warning("purge_failed", code=error.code, error_id=error.error_id)
    if isinstance(error, PluggyHalt):
        await halt(session.db, error)
        return
    if isinstance(error, Deferred):
        pause_s = error.wait_s
    else:
        attempts += 1
        pause_s = retry_pause_s(attempts)
    await purge.fail_purge(
        session.db,
        session.item_id,
        attempts=attempts,
        code=error.code,
        error_id=error.error_id,
        pause=timedelta(seconds=pause_s),
    )


async def _release(session: SyncSession) -> None:
    """Release the item; an unfinished purge is found again by the item's tombstone."""
    await session.close_run("released")
    await release_item(session.db, session.item_id, token=session.lease.token)
