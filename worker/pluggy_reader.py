"""What we read of Pluggy, one method an endpoint; each counts the requests it takes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from worker.events import Lane
from worker.failures import PluggyUnavailable
from worker.pluggy_client import Answer, PluggyClient
from worker.pluggy_payloads import (
    Unreadable,
    clean_json,
    decode_envelope,
    decode_object,
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of rows, undecoded. next is Pluggy's cursor, to be used verbatim; None: the last."""

    rows: Sequence[msgspec.Raw]
    next: str | None
    pluggy_now: datetime


@dataclass(slots=True)
class PluggyReader:
    """Reads in one lane on behalf of one claim. Every method raises PluggyError."""

    client: PluggyClient
    lane: Lane
    requests: int = 0

    async def item(self, item_id: uuid.UUID) -> bytes:
        """GET /items/{id}: the item's JSON."""
        return await self._object(f"/items/{item_id}")

    async def accounts(self, item_id: uuid.UUID) -> Page:
        """GET /accounts?itemId=: all accounts of an item, never paged."""
        return await self._page(f"/accounts?itemId={item_id}")

    async def account(self, account_id: uuid.UUID) -> bytes:
        """GET /accounts/{id}; PluggyNotFound proves its absence."""
        return await self._object(f"/accounts/{account_id}")

    async def transactions(
        self,
        account_id: uuid.UUID,
        *,
        created_at_from: datetime | None = None,
        ids: Sequence[uuid.UUID] = (),
    ) -> Page:
        """First page of GET /v2/transactions: a delta, the rows asked for by id, or all.

        https://docs.pluggy.ai/reference/transactions-list: createdAtFrom is inclusive.
        """
        query = f"?accountId={account_id}"
        if created_at_from is not None:
            query += f"&createdAtFrom={_milliseconds(created_at_from)}"
        if ids:
            query += "&ids=" + ",".join(map(str, ids))
        return await self._page(f"/v2/transactions{query}")

    async def next_transactions(self, cursor: str) -> Page:
        """The page behind `next`: a query string in production, absolute in some documents."""
        return await self._page(f"/v2/transactions{_query_of(cursor)}")

    async def _object(self, path: str) -> bytes:
        answer = await self._get(path)
        body = clean_json(answer.body)
        try:
            decode_object(body)
        except Unreadable as error:
            raise PluggyUnavailable("unreadable_answer", status=answer.status) from error
        return body

    async def _page(self, path: str) -> Page:
        answer = await self._get(path)
        try:
            envelope = decode_envelope(answer.body)
        except Unreadable as error:
            raise PluggyUnavailable("unreadable_answer", status=answer.status) from error
        return Page(envelope.results, envelope.next, _pluggy_now(answer))

    async def _get(self, path: str) -> Answer:
        return await self.client.call(path, lane=self.lane, count=self._count)

    def _count(self) -> None:
        self.requests += 1


def _pluggy_now(answer: Answer) -> datetime:
    """Pluggy's clock. An answer without Date could move no watermark, so it is no good answer."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError) as error:
        raise PluggyUnavailable("no_date_header") from error


def _milliseconds(moment: datetime) -> str:
    # Rounded down: createdAtFrom is inclusive.
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _query_of(cursor: str) -> str:
    query = cursor[cursor.index("?") :] if "?" in cursor else ""
    if not query or len(cursor) > 8192:
        raise PluggyUnavailable("unusable_cursor")
    return query
