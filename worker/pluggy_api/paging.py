"""Read multi-page lists: restart when a cursor is refused, with a limit on memory."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from worker.pluggy_api.errors import MAX_RESTARTS, CursorRefused, PluggyUnavailable
from worker.pluggy_api.payloads import MAX_CURSOR_LENGTH, Envelope

T = TypeVar("T")

# An encoded query: no characters that would end a request line or begin a fragment.
QUERY: Final = re.compile(r"[!\"$-~]+")
LIST_BYTES: Final = 32 * 1024 * 1024
LIST_ROWS: Final = 50_000
UNKNOWN_LENGTH: Final = "list_length_unknown"
"""Why a product is incomplete whose list says neither `next` nor how long it is."""


async def with_restarts(read: Callable[[], Awaitable[T]]) -> T:
    """Await a read of several pages, and restart it when a cursor is refused.

    Raises CursorRefused after MAX_RESTARTS restarts, and the errors of the read.
    """
    for _ in range(MAX_RESTARTS):
        with suppress(CursorRefused):
            return await read()
    return await read()


@dataclass(slots=True)
class PagesSoFar:
    """Memory taken by the pages of one list so far."""

    rows: int = 0
    size: int = 0

    def add(self, rows: Sequence[msgspec.Raw]) -> None:
        """Add a page. Raises PluggyUnavailable above LIST_ROWS or LIST_BYTES."""
        self.rows += len(rows)
        self.size += sum(memoryview(row).nbytes for row in rows)
        if self.rows > LIST_ROWS or self.size > LIST_BYTES:
            raise PluggyUnavailable("list_too_large")


@dataclass(frozen=True, slots=True)
class FullList:
    """The rows of a list. is_complete: False if Pluggy did not say whether there are more."""

    rows: Sequence[msgspec.Raw]
    is_complete: bool = True

    @property
    def incomplete_reason(self) -> str | None:
        """A code for freshness; None if it is complete."""
        return None if self.is_complete else UNKNOWN_LENGTH


@dataclass(slots=True)
class ListPages:
    """Follows a list page by page, by what each answer itself tells of the next one.

    Pluggy lists by page number or by cursor, and moves from one to the other key by key.
    """

    path: str
    rows: list[msgspec.Raw] = field(default_factory=list)
    pages: int = 0
    is_complete: bool = True
    _so_far: PagesSoFar = field(default_factory=PagesSoFar)
    _cursors: set[str] = field(default_factory=set)
    _before: list[bytes] = field(default_factory=list)

    def add(self, envelope: Envelope) -> str | None:
        """Add an answer; the path of the next page, or None. Raises PluggyUnavailable.

        CursorRefused if a page repeats or is empty: rows have moved, or the cursor leads nowhere.
        """
        self.pages += 1
        self._so_far.add(envelope.results)
        self._refuse_repeated(envelope)
        self.rows += envelope.results
        if envelope.next is not None:
            return self._by_cursor(envelope.next)
        if self._has_next_page(envelope):
            if not envelope.results:
                raise CursorRefused("empty_page")
            mark = "&" if "?" in self.path else "?"
            return f"{self.path}{mark}page={self.pages + 1}"
        numbers = (envelope.total_pages, envelope.total)
        self.is_complete = envelope.is_last_by_cursor or numbers != (None, None)
        return None

    def _by_cursor(self, cursor: str) -> str:
        if cursor in self._cursors:
            raise CursorRefused("cursor_repeated")
        self._cursors.add(cursor)
        return self.path.partition("?")[0] + query_of(cursor)

    def _has_next_page(self, envelope: Envelope) -> bool:
        """By the number of pages, else by the number of rows, unless a cursor ends the list."""
        if envelope.total_pages is not None:
            return self.pages < envelope.total_pages
        if envelope.total is None or envelope.is_last_by_cursor:
            return False
        return len(self.rows) < envelope.total

    def _refuse_repeated(self, envelope: Envelope) -> None:
        """A page that comes twice although rows are still to come. Cursors have their own guard."""
        read = list(map(bytes, envelope.results))
        more = envelope.total is None or envelope.total > len(self.rows)
        if envelope.next is None and read and read == self._before and more:
            raise CursorRefused("page_repeated")
        self._before = read


def query_of(cursor: str) -> str:
    """The query part of a cursor, verbatim; a host in it is ignored. Raises PluggyUnavailable."""
    # Length first, and fullmatch: a search would scan a long cursor from each "?".
    _, mark, query = cursor.partition("?") if len(cursor) <= MAX_CURSOR_LENGTH else ("", "", "")
    if not QUERY.fullmatch(query):
        raise PluggyUnavailable("unusable_cursor")
    return mark + query
