"""Records a failed step: its attempts with the time of the next one, or a dead letter.

A read that answers 404 for its account or investment re-reads the parent's own list first: if the
parent is missing there too, it is treated as deleted.
"""

from __future__ import annotations

import random
import traceback
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from worker.entities.accounts import ENTITY as ACCOUNTS
from worker.entities.declaration import Listing
from worker.entities.investments import ENTITY as INVESTMENTS
from worker.infra.metrics import FAILURES
from worker.infra.postgres import POSTGRES_AWAY, Connection
from worker.lease.halt import raise_if_down, raise_if_unable
from worker.lease.lease import LeaseLost, SyncSession
from worker.lease.parked_products import park_if_refused
from worker.planner.state import Step
from worker.pluggy_api.errors import (
    Failure,
    PluggyDown,
    PluggyError,
    PluggyHalt,
    PluggyNotFound,
    PluggyUnavailable,
    RetryState,
    classify,
)
from worker.store import account_walks, product_sync, runs
from worker.sync.full_list import live_ids, sync_listing

log = structlog.get_logger()

MAX_JITTER_S = 30.0
PARENT_LISTS: Final[Mapping[str, Listing]] = {
    listing.absent: listing for listing in (ACCOUNTS, INVESTMENTS)
}


async def attempt(session: SyncSession, step: Step, work: Awaitable[object]) -> bool:
    """Await a step's work; on failure record it and return False.

    Raises LeaseLost, PluggyHalt, and the errors of a Postgres that is away.
    """
    tried_at = session.now
    try:
        await work
    except (LeaseLost, PluggyHalt, *POSTGRES_AWAY):
        # Not a failed attempt. The client turns Pluggy's OSErrors into its own errors.
        raise
    except Exception as error:
        await record_failure(session, step, error, tried_at=tried_at)
        return False
    return True


async def unless_gone(session: SyncSession, owner_id: uuid.UUID, work: Awaitable[object]) -> None:
    """Await a read of rows that an account or an investment owns.

    If it answers 404 for the parent, the parent's own list is read again; if the parent is missing
    there too, it is tombstoned and its steps are reset. Raises PluggyError, LeaseLost.
    """
    try:
        await work
    except PluggyNotFound as answer:
        owners = PARENT_LISTS.get(answer.code)
        if owners is None:
            raise
        await sync_listing(session, owners, source_updated_at=None, suspects=[owner_id])
        if owner_id in await live_ids(session, owners):
            raise
        async with session.page() as conn:
            await account_walks.reset_owner(conn, session.item_id, owner_id)


async def record_failure(
    session: SyncSession, step: Step, error: Exception, *, tried_at: datetime
) -> None:
    """Store a failed attempt. Raises PluggyHalt if all items fail alike, LeaseLost.

    A step is dead as of the claim's position: an event that became pending later, though before the
    answer, may change the answer and gets an attempt of its own. tried_at is for people.
    """
    failure = classify(error)
    if failure.error_id is None:
        # An answer that Pluggy takes for good: its request is known by its header alone.
        failure = replace(failure, error_id=session.pluggy.request_id)
    FAILURES.labels(product=step.product, failure_class=failure.failure_class).inc()
    _log_failure(step, failure, None if isinstance(error, PluggyError) else _where(error))
    if session.lease.probe and failure.failure_class == "retry":
        raise PluggyDown  # a probe has failed again: that does not count against its item
    if isinstance(error, PluggyUnavailable):
        await raise_if_down(session)
    await _store_failure(session, step, failure, tried_at=tried_at)
    if failure.failure_class in ("reject", "refused"):
        await _judge(session, step, failure)


def _log_failure(step: Step, failure: Failure, where: str | None) -> None:
    facts = {
        "product": step.product,
        "scope_id": str(step.scope_id),
        "code": failure.code,
        "error_id": failure.error_id,
        "endpoint": failure.endpoint,
    }
    if failure.failure_class == "deferred":
        # A rate limit is normal; pluggy_ops.overview shows one that lasts.
        log.info("step_deferred", **facts, wait_s=failure.wait_s)
    else:
        log.warning("step_failed", **facts, failure_class=failure.failure_class, where=where)


async def _store_failure(
    session: SyncSession, step: Step, failure: Failure, *, tried_at: datetime
) -> None:
    async with session.page() as conn:
        await runs.note_run_failure(
            conn, run_id=session.run.id, code=failure.code, error_id=failure.error_id
        )
        if failure.failure_class == "deferred":
            await _defer(conn, session, step, failure)
            return
        state = RetryState(step.attempts, step.failing_since, step.dead_at)
        attempts, pause = state.after(failure, now=session.now)
        await product_sync.record_failure(
            conn,
            session.item_id,
            step.product,
            step.scope_id,
            failure_class=failure.failure_class,
            code=failure.code,
            error_id=failure.error_id,
            attempts=attempts,
            pause=pause,
            tried_at=tried_at,
            tried_seq=session.read_seq,
            endpoint=failure.endpoint,
        )


async def _defer(conn: Connection, session: SyncSession, step: Step, failure: Failure) -> None:
    await product_sync.defer_step(
        conn,
        session.item_id,
        step.product,
        step.scope_id,
        reason=failure.code,
        pause=timedelta(seconds=_with_jitter(failure.wait_s or 0.0)),
    )
    if failure.is_own_limit:
        await product_sync.note_own_limit(
            conn,
            session.item_id,
            step.product,
            step.scope_id,
            code=failure.code,
            endpoint=failure.endpoint,
            error_id=failure.error_id,
        )


async def _judge(session: SyncSession, step: Step, failure: Failure) -> None:
    """Check whether the refusal concerns all items or the whole product instead of this one."""
    if step.product == "items":
        await raise_if_unable(session, failure)
    else:
        await park_if_refused(session, step, failure)


def _with_jitter(wait_s: float) -> float:
    return wait_s + random.uniform(0.0, min(0.3 * wait_s, MAX_JITTER_S))  # noqa: S311 - jitter


def _where(error: Exception) -> str:
    """The last frames of a bug of ours; without the error's text, which may quote a row."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
