"""Connectors and categories: lists common to all items, refreshed by one worker at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import msgspec
import structlog

from worker.infra.lanes import Lane
from worker.infra.postgres import POSTGRES_AWAY, Connection, Pool
from worker.lease.halt import halt
from worker.lease.runs import Run, run_of_its_own
from worker.maintenance.reference_data_rows import REFERENCE_DATA, Key, StoredVersion
from worker.planner.state import WHOLE_ITEM
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import (
    HTTP_GONE,
    PluggyError,
    PluggyHalt,
    PluggyNotFound,
    PluggyUnavailable,
    RetryState,
    classify,
)
from worker.pluggy_api.payloads import Unreadable, decode_object, row_hash
from worker.store import reference_data, rejected_rows
from worker.store.reference_data import RefreshLease
from worker.sync.schema_drift import note_novelties

log = structlog.get_logger()

LEASE_FOR: Final = timedelta(seconds=60)
READ_TIMEOUT_S: Final = 40.0
ASKED_AT_ONCE: Final = 20
"""Rows asked for by id in one refresh: a truncated list must not cost more requests."""


@dataclass(frozen=True, slots=True)
class Found:
    """Pluggy's answers: rows by id, ids that it does not know, and unreadable rows.

    incomplete_reason: why the list may have more rows; None: it has not. listed: ids of the list;
    the other rows were asked for by id. request_id: Pluggy's id of the request of its last page.
    """

    rows: Mapping[Key, bytes]
    gone: Sequence[Key]
    unreadable: Sequence[bytes]
    incomplete_reason: str | None
    listed: frozenset[Key]
    request_id: str | None


async def refresh_reference_data(db: Pool, client: PluggyClient) -> bool:
    """Refresh connectors or categories if either is due; returns whether one was.

    Never raises for failures of Pluggy. Errors: those of a Postgres that is away.
    """
    unknown = await reference_data.load_unknown_connectors(db)
    lease = await reference_data.lease_reference_data(
        db, lease_for=LEASE_FOR, has_unknown=bool(unknown)
    )
    if lease is None:
        return False
    reader = PluggyReader(client, Lane.RETRY)
    try:
        await _refresh(db, reader, lease, unknown)
    except POSTGRES_AWAY:
        raise
    except asyncio.CancelledError:
        await asyncio.shield(_release(db, lease, timedelta()))
        raise
    except Exception as error:
        await _record_failure(db, lease, error)
    return True


async def _refresh(
    db: Pool, reader: PluggyReader, lease: RefreshLease, unknown: Sequence[int]
) -> None:
    connectors = lease.product == "connectors"
    events = (
        await reference_data.load_connector_events(db, read_seq=lease.read_seq)
        if connectors
        else []
    )
    stored = {
        version.id: version for version in await REFERENCE_DATA[lease.product].load_versions(db)
    }
    live = {key for key, version in stored.items() if version.deleted_at is None}
    wanted: set[Key] = {event.connector_id for event in events if event.connector_id in live}
    wanted.update(unknown if connectors else ())
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            found = await _read(reader, lease, live=live, wanted=wanted)
    except TimeoutError as error:
        raise PluggyUnavailable("timeout") from error
    async with db.acquire() as conn, conn.transaction():
        fence = await reference_data.fence_reference_data(
            conn, product=lease.product, token=lease.token, lease_for=LEASE_FOR
        )
        if fence is None:
            log.warning("lease_lost", product=lease.product)
            return
        event_ids = [event.id for event in events]
        async with run_of_its_own(conn, "reference_data", event_ids=event_ids) as run:
            run.api_requests, run.plan = reader.requests, [lease.product]
            await _store(conn, lease, run, found, stored, fence.now)
            await reference_data.settle_connector_events(
                conn, event_ids=event_ids, read_seq=lease.read_seq, run_id=run.id
            )
        unknown_keys = [str(key) for key in found.gone if key not in stored]
        await reference_data.mark_reference_data_complete(
            conn,
            product=lease.product,
            token=lease.token,
            absences_asked=lease.absences_due and found.incomplete_reason is None,
            unknown_ids=unknown_keys,
            incomplete_reason=found.incomplete_reason,
        )
    log.info("reference_data_refreshed", product=lease.product, run_id=run.id, events=len(events))


async def _read(
    reader: PluggyReader, lease: RefreshLease, *, live: set[Key], wanted: set[Key]
) -> Found:
    """Read the list in one request, and ask by id for rows missing from it.

    Absence from the list is no proof: a 404 by id is. Missing rows are asked for once a day, or
    when an event names one; connectors that an item has and we do not, once. A list that may go on
    has no missing rows.
    """
    rows: dict[Key, bytes] = {}
    unreadable: list[bytes] = []
    page = await reader.rows(REFERENCE_DATA[lease.product].list_path)
    request_id = reader.request_id
    for raw in map(bytes, page.rows):
        key = _key(lease, raw)
        if key is None:
            unreadable.append(raw)
        else:
            rows[key] = raw
    if not rows and live:
        raise PluggyUnavailable("empty_answer", error_id=request_id)
    gone: list[Key] = []
    listed = frozenset(rows)
    absent = live - rows.keys() if page.is_complete else set()
    for key in _to_ask(lease, absent=absent, wanted=wanted - rows.keys()):
        try:
            rows[key] = await reader.row(REFERENCE_DATA[lease.product].row_path(key))
        except PluggyNotFound:
            gone.append(key)
    return Found(rows, gone, unreadable, page.incomplete_reason, listed, request_id)


def _to_ask(lease: RefreshLease, *, absent: set[Key], wanted: set[Key]) -> list[Key]:
    others = sorted(absent - wanted, key=str) if lease.absences_due else []
    # In random order: rows that still exist must not always come before those that are gone.
    random.shuffle(others)
    return [*sorted(wanted, key=str), *others][:ASKED_AT_ONCE]


def _key(lease: RefreshLease, raw: bytes) -> Key | None:
    try:
        return REFERENCE_DATA[lease.product].read_id(decode_object(raw).get("id"))
    except Unreadable:
        return None


async def _store(
    conn: Connection,
    lease: RefreshLease,
    run: Run,
    found: Found,
    stored: Mapping[Key, StoredVersion],
    now: datetime,
) -> None:
    run.counts.seen = len(found.rows) + len(found.unreadable)
    rejected = [(row_hash(raw).hex(), "id is unreadable", raw) for raw in found.unreadable]
    changed = {k: raw for k, raw in found.rows.items() if not _same(lease, raw, stored.get(k))}
    run.counts.unchanged = len(found.rows) - len(changed)
    await note_novelties(
        conn,
        run,
        lease.product,
        map(decode_object, changed.values()),
        request_id=found.request_id,
    )
    for key, raw in changed.items():
        if (reason := await _upsert(conn, lease, run, key, raw, now)) is not None:
            rejected.append((str(key), reason, raw))
    gone = [key for key in found.gone if key in stored]
    tombstoned = await REFERENCE_DATA[lease.product].tombstone(
        conn, ids=gone, run_id=run.id, now=now
    )
    run.counts.deleted = len(tombstoned)
    await _set_aside(conn, lease, run, rejected, found.request_id)
    if lease.product == "connectors":
        await _record_withdrawals(conn, run, found, now)


async def _record_withdrawals(conn: Connection, run: Run, found: Found, now: datetime) -> None:
    """Record connectors that Pluggy withdraws: only such a record keeps an item that it deletes."""
    is_complete = found.incomplete_reason is None
    answering = found.rows.keys() - found.listed
    await reference_data.record_withdrawn_connectors(
        conn,
        listed=[int(key) for key in found.listed],
        unlisted=[int(key) for key in (*answering, *found.gone)] if is_complete else [],
        gone=[int(key) for key in found.gone],
        run_id=run.id,
        now=now,
    )


def _same(lease: RefreshLease, raw: bytes, stored: StoredVersion | None) -> bool:
    return (
        stored is not None
        and stored.row_hash == row_hash(raw)
        and stored.deleted_at is None
        and stored.row_version >= REFERENCE_DATA[lease.product].version
    )


async def _upsert(
    conn: Connection, lease: RefreshLease, run: Run, key: Key, raw: bytes, now: datetime
) -> str | None:
    """Store one row, for few ever change; returns the error if Postgres refuses it."""
    document = REFERENCE_DATA[lease.product].mapper(decode_object(raw)) | {
        "id": key,
        "payload": msgspec.Raw(raw),
        "row_hash": "\\x" + row_hash(raw).hex(),
        "row_version": REFERENCE_DATA[lease.product].version,
    }
    body = msgspec.json.encode(document).decode()
    try:
        async with conn.transaction():
            is_new = await REFERENCE_DATA[lease.product].upsert(
                conn, row=body, run_id=run.id, now=now
            )
    except (
        asyncpg.DataError,
        asyncpg.ProgramLimitExceededError,
        asyncpg.IntegrityConstraintViolationError,
    ) as error:
        return type(error).__name__
    run.counts.inserted += is_new
    run.counts.changed += not is_new
    return None


async def _set_aside(
    conn: Connection,
    lease: RefreshLease,
    run: Run,
    rejected: Sequence[tuple[str, str, bytes]],
    request_id: str | None,
) -> None:
    run.counts.rejected = len(rejected)
    if rejected:
        run.note_odd(request_id)
        row_ids, reasons, bodies = map(list, zip(*rejected, strict=True))
        # Reference data belongs to no item: the nil UUID stands for the item, too.
        await rejected_rows.reject_rows(
            conn,
            WHOLE_ITEM,
            lease.product,
            WHOLE_ITEM,
            run_id=run.id,
            row_ids=row_ids,
            reasons=reasons,
            bodies=bodies,
        )


async def _record_failure(db: Pool, lease: RefreshLease, error: Exception) -> None:
    failure = classify(error)
    facts = {"product": lease.product, "code": failure.code, "error_id": failure.error_id}
    if failure.failure_class == "deferred":
        log.info("reference_data_deferred", **facts, wait_s=failure.wait_s)
        await _release(db, lease, timedelta(seconds=failure.wait_s or 0.0))
        return
    log.warning(
        "reference_data_failed",
        **facts,
        failure_class=failure.failure_class,
        exc_info=None if isinstance(error, PluggyError) else error,
    )
    if isinstance(error, PluggyHalt):
        await halt(db, error)
        await _release(db, lease, timedelta())
        return
    state = RetryState(lease.attempts, lease.failing_since, lease.dead_at)
    is_retired = failure.status == HTTP_GONE
    attempts, pause = state.after(failure, now=lease.started_at, is_final=is_retired)
    await reference_data.fail_reference_data(
        db,
        product=lease.product,
        token=lease.token,
        failure_class=failure.failure_class,
        code=failure.code,
        error_id=failure.error_id,
        attempts=attempts,
        pause=pause,
    )


async def _release(db: Pool, lease: RefreshLease, pause: timedelta) -> None:
    await reference_data.release_reference_data(
        db, product=lease.product, token=lease.token, pause=pause
    )
