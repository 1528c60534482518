"""Read multi-page lists: restart when a cursor is refused, with a limit on memory."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from worker.pluggy_api.errors import MAX_RESTARTS, CursorRefused, PluggyError, PluggyUnavailable
from worker.pluggy_api.payloads import MAX_CURSOR_LENGTH

T = TypeVar("T")

# An encoded query: no characters that would end a request line or begin a fragment.
QUERY: Final = re.compile(r"[!\"$-~]+")
LIST_BYTES: Final = 32 * 1024 * 1024
LIST_ROWS: Final = 50_000


async def with_restarts(read: Callable[[], Awaitable[T]]) -> T:
    """Await a read of several pages, and restart it when a cursor is refused.

    Raises CursorRefused after MAX_RESTARTS restarts, and the errors of the read.
    """
    for _ in range(MAX_RESTARTS):
        with suppress(CursorRefused):
            return await read()
    return await read()


def as_cursor_refusal(error: PluggyError) -> PluggyError:
    """The error of a further page, as CursorRefused if it is about the cursor."""
    return CursorRefused.of(error) or error


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


def query_of(cursor: str) -> str:
    """The query part of a cursor, verbatim; a host in it is ignored. Raises PluggyUnavailable."""
    # Length first, and fullmatch: a search would scan a long cursor from each "?".
    _, mark, query = cursor.partition("?") if len(cursor) <= MAX_CURSOR_LENGTH else ("", "", "")
    if not QUERY.fullmatch(query):
        raise PluggyUnavailable("unusable_cursor")
    return mark + query
