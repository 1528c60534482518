"""Drain the spool: accept spooled events in batches, then remove them from Redis."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from worker.inbox.accept import Accepted, UnstorableEvent, accept_events
from worker.inbox.events import MalformedEvent, WebhookEvent
from worker.inbox.spool import Spool, read_entry
from worker.infra.postgres import Pool

log = structlog.get_logger()

ACCEPT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Drained:
    """Result of a batch: number of entries that left the spool, and items made due."""

    entries: int = 0
    due: tuple[uuid.UUID, ...] = ()


async def drain(db: Pool, spool: Spool) -> Drained:
    """Accept one batch. Safe in several processes at once.

    An entry leaves Redis only after Postgres has committed it. After a crash between the two it is
    accepted again as a duplicate. Raises as accept_events(), and Redis's errors.
    """
    if not (await spool.figures()).entries:
        return Drained()
    entries = await spool.take()
    events = [_event(field, value) for field, value in entries.items()]
    answers = await accept_events(db, events, timeout_s=ACCEPT_TIMEOUT_S)
    done, due = dict(entries), list[uuid.UUID]()
    for field, event, answer in zip(entries, events, answers, strict=True):
        if isinstance(answer, UnstorableEvent):
            if not await _quarantine(db, event, answer):
                del done[field]
        elif answer.made_due and event.item_id is not None:
            due.append(event.item_id)
    await spool.remove(done)
    await spool.figures()
    return Drained(len(done), tuple(due))


def _event(field: bytes, value: bytes) -> WebhookEvent:
    """Decode an entry; an unreadable one becomes a dead letter."""
    try:
        return read_entry(value).event()
    except (msgspec.MsgspecError, MalformedEvent):
        name = hashlib.sha256(field).hexdigest()
        return WebhookEvent(
            event_id=f"spool:{name}",
            event="spool/unreadable",
            body=value,
            received_at=datetime.now(UTC),
            state="dead",
            reason="unreadable_in_spool",
        )


async def _quarantine(db: Pool, event: WebhookEvent, refused: UnstorableEvent) -> bool:
    """Store an event that Postgres refuses as a dead letter; False if it refuses that too.

    The delivery was answered 2xx, so it will not be sent again.
    """
    for remains in _remains(replace(event, state="dead", reason=f"unstorable: {refused}")):
        [answer] = await accept_events(db, [remains], timeout_s=ACCEPT_TIMEOUT_S)
        if isinstance(answer, Accepted):
            log.error("spooled_event_quarantined", row_id=answer.row_id, error=str(refused))
            return True
    log.error("spooled_event_stuck", error=str(refused))
    return False


def _remains(event: WebhookEvent) -> Iterator[WebhookEvent]:
    """The event, then copies with fewer of the fields that Postgres may have refused."""
    yield event
    bare = replace(
        event,
        item_id=None,
        account_id=None,
        transaction_ids=None,
        created_at_from=None,
        expected_rows=None,
        connector_id=None,
    )
    yield bare
    name = hashlib.sha256(event.event_id.encode() + event.body_sha256).hexdigest()
    yield replace(bare, event_id=f"spool:{name}", event="spool/unstorable", body=b"")
