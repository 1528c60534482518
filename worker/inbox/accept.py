"""Accept events: store them and make their items due, in the one statement that allows a 2xx."""

from __future__ import annotations

import uuid
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from worker.inbox.events import WebhookEvent
from worker.infra.postgres import Pool, connection_within
from worker.infra.time_slices import beside
from worker.store import accept

T = TypeVar("T")


class Accepted(msgspec.Struct, frozen=True):
    """Result of one event: new or duplicate, and whether its item needs a wake-up.

    made_due: the event made its item due, or moved a due item to the live lane.
    """

    is_new: bool
    made_due: bool
    row_id: int | None


COPY: Final = Accepted(is_new=False, made_due=False, row_id=None)


class UnstorableEvent(ValueError):
    """Postgres refuses this event's data; the rest of the group is stored."""


async def accept_events(
    db: Pool, events: Sequence[WebhookEvent], *, timeout_s: float = 3.0
) -> list[Accepted | UnstorableEvent]:
    """Commit a group of events and make their items due; results in the order given.

    A group that fails on its data is repeated event by event, so that only the faulty one is
    refused. timeout_s applies to each statement. Raises TimeoutError, and asyncpg's errors during
    an outage.
    """
    try:
        return list(await _accept(db, events, timeout_s))
    except (
        asyncpg.DataError,
        asyncpg.IntegrityConstraintViolationError,
        asyncpg.ProgramLimitExceededError,
    ) as error:
        if len(events) == 1:
            return [UnstorableEvent(type(error).__name__)]
    answers: list[Accepted | UnstorableEvent] = []
    for event in events:
        answers += await accept_events(db, [event], timeout_s=timeout_s)
    return answers


async def _accept(db: Pool, events: Sequence[WebhookEvent], timeout_s: float) -> list[Accepted]:
    digests, statement = await beside(sum(len(e.body) for e in events), _statement, events)
    async with connection_within(db, timeout_s) as conn:
        rows = await statement(conn)
    found = {
        (row.event_id, row.body_sha256): Accepted(row.is_new, row.made_due, row.id) for row in rows
    }
    keys = zip((e.event_id for e in events), digests, strict=True)
    return [_first_of(found, key) for key in keys]


def _first_of(found: dict[tuple[str, bytes], Accepted], key: tuple[str, bytes]) -> Accepted:
    """The result of a key; its copy later in the same group is a duplicate."""
    answer, found[key] = found[key], COPY
    return answer


def _statement(
    events: Sequence[WebhookEvent],
) -> tuple[list[bytes], partial[Coroutine[Any, Any, list[accept.AcceptedRow]]]]:
    """The digests of the bodies, and the statement with its arrays, for a connection to run."""
    digests = [e.body_sha256 for e in events]
    return digests, partial(
        accept.accept_events,
        event_ids=[e.event_id for e in events],
        body_sha256s=digests,
        events=[e.event for e in events],
        item_ids=[e.item_id for e in events],
        account_ids=_column([e.account_id for e in events]),
        transaction_ids=_column([_array_literal(e.transaction_ids) for e in events]),
        created_at_froms=_column([e.created_at_from for e in events]),
        expected_rows=_column([e.expected_rows for e in events]),
        lanes=[int(e.lane) for e in events],
        states=[e.state for e in events],
        reasons=_column([e.reason for e in events]),
        bodies=[e.body for e in events],
        received_ats=[e.received_at for e in events],
        connector_ids=_column([e.connector_id for e in events]),
    )


def _column(values: list[T | None]) -> list[T | None] | None:
    # Each array costs some microseconds on both sides, and most events leave these out.
    return values if any(value is not None for value in values) else None


def _array_literal(ids: tuple[uuid.UUID, ...] | None) -> str | None:
    # unnest() flattens arrays of arrays, so each list travels as Postgres's text form of it.
    return None if ids is None else "{" + ",".join(i.hex for i in ids) + "}"
