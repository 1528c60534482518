"""Pluggy's endpoints: list or get each kind of row, page by page, and count the requests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from worker.infra.lanes import Lane
from worker.infra.time_slices import beside
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.errors import CursorRefused, Deferred, PluggyError, PluggyUnavailable
from worker.pluggy_api.http import Answer, http_date
from worker.pluggy_api.paging import (
    FullList,
    ListPages,
    PagesSoFar,
    query_of,
    with_restarts,
)
from worker.pluggy_api.payloads import (
    Envelope,
    NotAList,
    TooManyValues,
    Unreadable,
    clean_json,
    decode_envelope,
    decode_object,
)
from worker.pluggy_api.tickets import TICKET, since_ticket, wait_for_ticket

MAX_LIST_PAGES: Final = 1000
LIST_TIMEOUT_S: Final = 30.0
"""A list is read within one session; one that takes longer fails visibly."""
MAX_PAGES_OF_IDS: Final = 10


@dataclass(frozen=True, slots=True)
class Page:
    """One page of undecoded rows. next: Pluggy's cursor, used verbatim; None on the last page."""

    rows: Sequence[msgspec.Raw]
    next: str | None
    pluggy_now: datetime


@dataclass(slots=True)
class PluggyReader:
    """Reads in one lane for one sync session. Every method raises PluggyError.

    pluggy_now: Pluggy's clock at the last answer. request_id: Pluggy's id of the last request, if
    it was answered. rate_limited: a rate limit deferred a call.
    of_unknown: the item is not stored, so webhooks that name it get only a share of the limit.
    granted: the next call of the item is reserved already.
    between_pages: awaited between pages of a list, to renew the lease.
    """

    client: PluggyClient
    lane: Lane
    requests: int = 0
    ledger: CallLedger | None = None
    item_id: uuid.UUID | None = None
    pluggy_now: datetime | None = None
    request_id: str | None = None
    rate_limited: bool = False
    of_unknown: bool = False
    granted: bool = False
    between_pages: Callable[[], Awaitable[None]] | None = None

    async def item(self, item_id: uuid.UUID) -> bytes:
        """GET /items/{id}: the item's JSON."""
        if not self.granted:
            await self.reserve_item()
        body = await self.row(f"/items/{item_id}")
        self.of_unknown = False
        return body

    async def reserve_item(self) -> float:
        """Wait for the rate limit of the item's call before it is made. Raises Deferred.

        Returns the seconds that it had to wait.
        Unknown items in the live and retry lanes come from webhooks: stored items go first.
        """
        by_webhook = self.lane <= Lane.RETRY
        lane = max(self.lane, Lane.RETRY) if self.of_unknown else self.lane
        try:
            waited_s = await self.client.reserve(
                "/items/{id}",
                lane,
                of_unknown=self.of_unknown and by_webhook,
                named=self.item_id if by_webhook else None,
            )
        except Deferred:
            self.rate_limited = True
            raise
        self.granted = True
        return waited_s

    async def rows(self, path: str) -> FullList:
        """GET a list: the rows of all its pages. It is read again if a further page is refused."""
        began = asyncio.get_running_loop().time()
        return await with_restarts(lambda: self._all_pages(path, began))

    async def envelope(self, path: str) -> Envelope:
        """GET one page of a list."""
        return await self._list(path)

    async def row(self, path: str) -> bytes:
        """GET one object: its JSON. PluggyNotFound proves its absence."""
        answer = await self._get(path)
        try:
            return await beside(len(answer.body), _readable_object, answer.body)
        except Unreadable as error:
            raise PluggyUnavailable("unreadable_answer", status=answer.status) from error

    async def transactions(
        self,
        account_id: uuid.UUID,
        *,
        created_at_from: datetime | None = None,
        date_from: date | None = None,
        ids: Sequence[uuid.UUID] = (),
    ) -> Page:
        """First page of GET /v2/transactions: a delta, recent days, rows by id, or all rows.

        A read by id returns all pages as one: ids that it leaves out do not exist.
        Source: https://docs.pluggy.ai/reference/transactions-list. Both times are inclusive;
        Pluggy refuses them together.
        """
        query = f"?accountId={account_id}"
        if date_from is not None:
            query += f"&dateFrom={date_from.isoformat()}"
        if created_at_from is not None:
            query += f"&createdAtFrom={_milliseconds(created_at_from)}"
        if ids:
            query += "&ids=" + ",".join(map(str, ids))
        path = f"/v2/transactions{query}"
        return await self._whole(path) if ids else await self._page(path)

    async def next_transactions(self, cursor: str) -> Page:
        """The page of a cursor: a query string in production, an absolute URL in some documents.

        Raises CursorRefused if Pluggy refuses the cursor itself, and PluggyError.
        """
        try:
            return await self._page(f"/v2/transactions{query_of(cursor)}")
        except PluggyError as error:
            raise CursorRefused.of(error) or error from error

    async def _whole(self, path: str) -> Page:
        """All pages of a cursor list as one; restarts a few times if a cursor is refused."""
        until = asyncio.get_running_loop().time() + LIST_TIMEOUT_S
        return await with_restarts(lambda: self._pages_of(path, until))

    async def _pages_of(self, path: str, until: float) -> Page:
        first = page = await self._page(path)
        rows, so_far = [*first.rows], PagesSoFar()
        for _ in range(MAX_PAGES_OF_IDS):
            so_far.add(page.rows)
            if page.next is None:
                return replace(first, rows=rows, next=None)
            if asyncio.get_running_loop().time() > until:
                raise PluggyUnavailable("slow_list")
            await self._pause_between_pages()
            page = await self.next_transactions(page.next)
            rows += page.rows
        raise PluggyUnavailable("endless_list")

    async def _all_pages(self, path: str, began: float) -> FullList:
        pages = ListPages(path)
        following = pages.add(await self._list(path))
        while following is not None:
            if pages.pages >= MAX_LIST_PAGES:
                raise PluggyUnavailable("endless_list")
            if asyncio.get_running_loop().time() > since_ticket(began) + LIST_TIMEOUT_S:
                raise PluggyUnavailable("slow_list")
            following = pages.add(await self._further(following))
        return FullList(pages.rows, pages.is_complete)

    async def _further(self, path: str) -> Envelope:
        await self._pause_between_pages()
        try:
            return await self._list(path)
        except PluggyError as error:
            raise CursorRefused.of(error) or error from error

    async def _pause_between_pages(self) -> None:
        if self.between_pages is not None:
            await self.between_pages()

    async def _page(self, path: str) -> Page:
        answer = await self._get(path)
        envelope = await _decode_list(answer)
        return Page(envelope.results, envelope.next, _pluggy_now(answer))

    async def _list(self, path: str) -> Envelope:
        return await _decode_list(await self._get(path))

    async def _get(self, path: str) -> Answer:
        """GET; the answer of a step that was begun ahead of its turn waits for it."""
        try:
            answer = await self._call(path)
        except PluggyError:
            await wait_for_ticket()
            self.request_id = None
            raise
        await wait_for_ticket()
        self.request_id = answer.request_id
        with suppress(PluggyUnavailable):  # no Date header; only some answers need it
            self.pluggy_now = _pluggy_now(answer)
        return answer

    async def _call(self, path: str) -> Answer:
        ticket = TICKET.get()
        granted = self.granted and path.startswith("/items/")
        self.granted = self.granted and not granted
        try:
            answer = await self.client.call(
                path,
                lane=self.lane if ticket is None else ticket.lane,
                count=self._count,
                granted=granted,
            )
        except PluggyUnavailable:
            await self._note(failed=True)
            raise
        except Deferred:
            self.rate_limited = True
            raise
        await self._note(failed=False)
        return answer

    async def _note(self, *, failed: bool) -> None:
        if self.ledger is not None and self.item_id is not None:
            await self.ledger.note(self.item_id, failed=failed)

    def _count(self) -> None:
        self.requests += 1


def _readable_object(body: bytes) -> bytes:
    body = clean_json(body)
    decode_object(body)
    return body


async def _decode_list(answer: Answer) -> Envelope:
    """Raises PluggyUnavailable."""
    try:
        return await beside(len(answer.body), decode_envelope, answer.body)
    except TooManyValues as error:
        raise PluggyUnavailable("answer_too_large", status=answer.status) from error
    except NotAList as error:
        raise PluggyUnavailable("not_a_list", status=answer.status) from error
    except Unreadable as error:
        raise PluggyUnavailable("unreadable_answer", status=answer.status) from error


def _pluggy_now(answer: Answer) -> datetime:
    """Pluggy's clock, from the Date header. Without it no watermark could be set: an error."""
    found = http_date(answer.headers.get("Date"))
    if found is None:
        raise PluggyUnavailable("no_date_header")
    return found


def _milliseconds(moment: datetime) -> str:
    # Rounded down: createdAtFrom is inclusive.
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
