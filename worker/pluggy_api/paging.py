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

# Encoded already: nothing that would end a request line, or begin a fragment.
QUERY: Final = re.compile(r"[!\"$-~]+")
LIST_BYTES: Final = 32 * 1024 * 1024
LIST_ROWS: Final = 50_000


async def with_restarts(read: Callable[[], Awaitable[T]]) -> T:
    """Await a read of several pages, again and again while a place in it is refused.

    Raises CursorRefused once it has begun anew MAX_RESTARTS times, and what the read raises.
    """
    for _ in range(MAX_RESTARTS):
        with suppress(CursorRefused):
            return await read()
    return await read()


def as_cursor_refusal(error: PluggyError) -> PluggyError:
    """What a further page was refused with: CursorRefused if that is about its place."""
    return CursorRefused.of(error) or error


@dataclass(slots=True)
class PagesSoFar:
    """What pages that are stored together take of memory."""

    rows: int = 0
    size: int = 0

    def add(self, rows: Sequence[msgspec.Raw]) -> None:
        """Raises PluggyUnavailable if it is too much."""
        self.rows += len(rows)
        self.size += sum(memoryview(row).nbytes for row in rows)
        if self.rows > LIST_ROWS or self.size > LIST_BYTES:
            raise PluggyUnavailable("list_too_large")


def query_of(cursor: str) -> str:
    """The query of a cursor as it is written, whatever host it names. Raises PluggyUnavailable."""
    # Its length first, and no search: an expression tries each "?" of a long one to the end.
    _, mark, query = cursor.partition("?") if len(cursor) <= MAX_CURSOR_LENGTH else ("", "", "")
    if not QUERY.fullmatch(query):
        raise PluggyUnavailable("unusable_cursor")
    return mark + query
