"""Connectors and categories: lists common to all items, refreshed by one worker at a time."""

from __future__ import annotations

import asyncio
import random
import uuid
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
from worker.lease.runs import OwnRun, run_of_its_own
from worker.maintenance.reference_data_rows import REFERENCE_DATA, HeldVersion, Key, ReferenceData
from worker.planner.state import WHOLE_ITEM
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import (
    MAX_RETRY_AGE,
    Failure,
    PluggyError,
    PluggyHalt,
    PluggyNotFound,
    PluggyUnavailable,
    classify,
    retry_pause_s,
)
from worker.pluggy_api.payloads import Unreadable, decode_object, row_hash
from worker.store import reference_data, rejected_rows
from worker.sync.schema_drift import note_novelties

log = structlog.get_logger()

LEASE: Final = timedelta(seconds=60)
READ_TIMEOUT_S: Final = 40.0
ENDPOINT_RETIRED: Final = 410
ASKED_AT_ONCE: Final = 20
"""Rows asked for by id in one refresh: a truncated list must not cost more requests."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A leased refresh; started_at and read_seq: time and place in the order of its start."""

    product: str
    token: uuid.UUID
    started_at: datetime
    read_seq: int
    attempts: int
    failing_since: datetime | None
    dead_at: datetime | None
    absences_due: bool

    @property
    def reference_data(self) -> ReferenceData:
        return REFERENCE_DATA[self.product]


@dataclass(frozen=True, slots=True)
class Found:
    """Pluggy's answers: rows by id, ids that it does not know, and unreadable rows."""

    rows: Mapping[Key, bytes]
    gone: Sequence[Key]
    unreadable: Sequence[bytes]


async def refresh_reference_data(db: Pool, client: PluggyClient) -> bool:
    """Refresh connectors or categories if either is due; returns whether one was.

    Never raises for failures of Pluggy. Errors: those of a Postgres that is away.
    """
    unknown = await reference_data.load_unknown_connectors(db)
    record = await reference_data.lease_reference_data(
        db, lease_for=LEASE, has_unknown=bool(unknown)
    )
    if record is None:
        return False
    turn = Turn(**msgspec.structs.asdict(record))
    reader = PluggyReader(client, Lane.RETRY)
    try:
        await _refresh(db, reader, turn, unknown)
    except POSTGRES_AWAY:
        raise
    except asyncio.CancelledError:
        await asyncio.shield(_release(db, turn, timedelta()))
        raise
    except Exception as error:
        await _record_failure(db, turn, error)
    return True


async def _refresh(db: Pool, reader: PluggyReader, turn: Turn, unknown: Sequence[int]) -> None:
    connectors = turn.product == "connectors"
    events = (
        await reference_data.load_connector_events(db, read_seq=turn.read_seq) if connectors else []
    )
    held = {version.id: version for version in await turn.reference_data.load_versions(db)}
    live = {key for key, version in held.items() if version.deleted_at is None}
    wanted: set[Key] = {event.connector_id for event in events if event.connector_id in live}
    wanted.update(unknown if connectors else ())
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            found = await _read(reader, turn, live=live, wanted=wanted)
    except TimeoutError as error:
        raise PluggyUnavailable("timeout") from error
    async with db.acquire() as conn, conn.transaction():
        fence = await reference_data.fence_reference_data(
            conn, product=turn.product, token=turn.token, lease_for=LEASE
        )
        if fence is None:
            log.warning("lease_lost", product=turn.product)
            return
        event_ids = [event.id for event in events]
        async with run_of_its_own(conn, "reference_data", event_ids=event_ids) as run:
            run.api_requests, run.plan = reader.requests, [turn.product]
            await _store(conn, turn, run, found, held, fence.now)
            await reference_data.settle_connector_events(
                conn, event_ids=event_ids, read_seq=turn.read_seq, run_id=run.id
            )
        rate_limited = [str(key) for key in found.gone if key not in held]
        await reference_data.mark_reference_data_complete(
            conn,
            product=turn.product,
            token=turn.token,
            absences_asked=turn.absences_due,
            unknown_ids=rate_limited,
        )
    log.info("reference_data_refreshed", product=turn.product, run_id=run.id, events=len(events))


async def _read(reader: PluggyReader, turn: Turn, *, live: set[Key], wanted: set[Key]) -> Found:
    """Read the list in one request, and ask by id for rows missing from it.

    Absence from the list is no proof: a 404 by id is. Missing rows are asked for once a day, or
    when an event names one; connectors that an item has and we do not, once.
    """
    rows: dict[Key, bytes] = {}
    unreadable: list[bytes] = []
    for raw in map(bytes, await reader.rows(turn.reference_data.list_path)):
        key = _key(turn, raw)
        if key is None:
            unreadable.append(raw)
        else:
            rows[key] = raw
    if not rows and live:
        raise PluggyUnavailable("empty_answer")
    gone: list[Key] = []
    for key in _to_ask(turn, absent=live - rows.keys(), wanted=wanted - rows.keys()):
        try:
            rows[key] = await reader.row(turn.reference_data.row_path(key))
        except PluggyNotFound:
            gone.append(key)
    return Found(rows, gone, unreadable)


def _to_ask(turn: Turn, *, absent: set[Key], wanted: set[Key]) -> list[Key]:
    others = sorted(absent - wanted, key=str) if turn.absences_due else []
    # In random order: rows that still exist must not always come before those that are gone.
    random.shuffle(others)
    return [*sorted(wanted, key=str), *others][:ASKED_AT_ONCE]


def _key(turn: Turn, raw: bytes) -> Key | None:
    try:
        return turn.reference_data.read_id(decode_object(raw).get("id"))
    except Unreadable:
        return None


async def _store(
    conn: Connection,
    turn: Turn,
    run: OwnRun,
    found: Found,
    held: Mapping[Key, HeldVersion],
    now: datetime,
) -> None:
    run.counts.seen = len(found.rows) + len(found.unreadable)
    rejected = [(row_hash(raw).hex(), "id is unreadable", raw) for raw in found.unreadable]
    changed = {k: raw for k, raw in found.rows.items() if not _same(turn, raw, held.get(k))}
    run.counts.unchanged = len(found.rows) - len(changed)
    await note_novelties(conn, run.id, turn.product, map(decode_object, changed.values()))
    for key, raw in changed.items():
        if (reason := await _upsert(conn, turn, run, key, raw, now)) is not None:
            rejected.append((str(key), reason, raw))
    gone = [key for key in found.gone if key in held]
    tombstoned = await turn.reference_data.tombstone(conn, ids=gone, run_id=run.id, now=now)
    run.counts.deleted = len(tombstoned)
    await _set_aside(conn, turn, run, rejected)


def _same(turn: Turn, raw: bytes, held: HeldVersion | None) -> bool:
    return (
        held is not None
        and held.row_hash == row_hash(raw)
        and held.deleted_at is None
        and held.row_version >= turn.reference_data.version
    )


async def _upsert(
    conn: Connection, turn: Turn, run: OwnRun, key: Key, raw: bytes, now: datetime
) -> str | None:
    """Store one row, for few ever change; returns the error if Postgres refuses it."""
    document = turn.reference_data.mapper(decode_object(raw)) | {
        "id": key,
        "payload": msgspec.Raw(raw),
        "row_hash": "\\x" + row_hash(raw).hex(),
        "row_version": turn.reference_data.version,
    }
    body = msgspec.json.encode(document).decode()
    try:
        async with conn.transaction():
            is_new = await turn.reference_data.upsert(conn, row=body, run_id=run.id, now=now)
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
    conn: Connection, turn: Turn, run: OwnRun, rejected: Sequence[tuple[str, str, bytes]]
) -> None:
    run.counts.rejected = len(rejected)
    if rejected:
        row_ids, reasons, bodies = map(list, zip(*rejected, strict=True))
        # Reference data belongs to no item: the nil UUID stands for the item, too.
        await rejected_rows.reject_rows(
            conn,
            item_id=WHOLE_ITEM,
            product=turn.product,
            scope_id=WHOLE_ITEM,
            run_id=run.id,
            row_ids=row_ids,
            reasons=reasons,
            bodies=bodies,
        )


async def _record_failure(db: Pool, turn: Turn, error: Exception) -> None:
    failure = classify(error)
    facts = {"product": turn.product, "code": failure.code, "error_id": failure.error_id}
    if failure.failure_class == "later":
        log.info("reference_data_deferred", **facts, wait_s=failure.wait_s)
        await _release(db, turn, timedelta(seconds=failure.wait_s or 0.0))
        return
    log.warning(
        "reference_data_failed",
        **facts,
        failure_class=failure.failure_class,
        exc_info=None if isinstance(error, PluggyError) else error,
    )
    if isinstance(error, PluggyHalt):
        await halt(db, error)
        await _release(db, turn, timedelta())
        return
    attempts, pause = _next_try(turn, failure)
    await reference_data.fail_reference_data(
        db,
        product=turn.product,
        token=turn.token,
        failure_class=failure.failure_class,
        code=failure.code,
        error_id=failure.error_id,
        attempts=attempts,
        pause=pause,
    )


def _next_try(turn: Turn, failure: Failure) -> tuple[int, timedelta | None]:
    """Attempts so far, and the pause before the next; None: dead until something asks again."""
    attempts = 1 if turn.dead_at is not None else turn.attempts + 1
    since = None if turn.dead_at is not None else turn.failing_since
    exhausted = since is not None and turn.started_at - since >= MAX_RETRY_AGE
    retired = failure.status == ENDPOINT_RETIRED
    if failure.failure_class == "reject" or retired or exhausted:
        return attempts, None
    return attempts, timedelta(seconds=retry_pause_s(attempts))


async def _release(db: Pool, turn: Turn, pause: timedelta) -> None:
    await reference_data.release_reference_data(
        db, product=turn.product, token=turn.token, pause=pause
    )
