"""Requests and responses of Pluggy's API: names in limits and logs, bodies within a size limit."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from multidict import CIMultiDictProxy

from worker.infra.lanes import Lane
from worker.pluggy_api.errors import PluggyUnavailable

READ_STATUS: Final = (200, 201)
CHANGED_STATUS: Final = (200, 201, 204)
"""Pluggy's pages disagree about the status of changes, and 204 has no body."""
REQUEST_ID: Final = re.compile(r"[0-9A-Za-z-]{1,120}")
ID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\d+")
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Maximum of a decompressed body; a full page of 500 rows has about one MiB."""
CHUNK_BYTES: Final = 64 * 1024
YIELD_AFTER_BYTES: Final = 1024 * 1024
"""Decompressed bytes between two yields to the event loop: a small body may expand a lot."""
ENCODINGS: Final = "gzip, deflate"
GZIP_OR_ZLIB: Final = 47


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. The repr shows only the status: the rest is private."""

    status: int
    body: bytes = field(repr=False)
    headers: CIMultiDictProxy[str] = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """Pluggy's id of this request, which every answer carries; None if it is no plain id."""
        stated = self.headers.get("x-request-id", "")
        return stated if REQUEST_ID.fullmatch(stated) else None


@dataclass(frozen=True, slots=True)
class Change:
    """A request other than GET. The body is private: that of a webhook holds our secret."""

    method: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A call in a lane. count is called once per request sent for it, key renewals included."""

    path: str
    group: str
    lane: Lane
    count: Callable[[], None]
    change: Change | None = None


def http_date(text: str | None) -> datetime | None:
    """The time of an HTTP date header, in UTC; None if it is missing or unreadable."""
    try:
        stated = parsedate_to_datetime(text or "")
        # "-0000" is UTC too, and not the zone of this machine.
        return stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def endpoint_group(path: str) -> str:
    """The group whose limit a GET counts against; https://docs.pluggy.ai/docs/rate-limits."""
    head = path.split("?", 1)[0].strip("/").split("/")
    if head[0] in ("v2", "v1"):
        head = head[1:]
    if head[0] == "investments" and head[-1] == "transactions":
        return "investment_transactions"
    return head[0]


def endpoint_of(path: str) -> str:
    """A path without its query and its ids, such as /investments/{id}/transactions."""
    parts = path.split("?", 1)[0].split("/")
    return "/".join("{id}" if ID.fullmatch(part) else part for part in parts)


async def read_body(
    response: aiohttp.ClientResponse, *, max_bytes: int = MAX_ANSWER_BYTES
) -> bytes:
    """Read a response's body, decompressed.

    Raises PluggyUnavailable if it is larger than `max_bytes`, or not packed as its headers say.
    """
    packed = _is_packed(response)
    body = bytearray()
    inflate = _Inflate()
    yield_at = YIELD_AFTER_BYTES
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        for part in inflate.parts(chunk) if packed else (chunk,):
            body += part
            if len(body) > max_bytes:
                response.close()  # the rest is not even received
                raise PluggyUnavailable("answer_too_large", status=response.status)
            if len(body) > yield_at:
                yield_at = len(body) + YIELD_AFTER_BYTES
                await asyncio.sleep(0)
    if packed and body and not inflate.ended:
        raise PluggyUnavailable("broken_encoding", status=response.status)
    return bytes(body)


def _is_packed(response: aiohttp.ClientResponse) -> bool:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return False
    if encoding in ("gzip", "x-gzip", "deflate"):
        return True
    raise PluggyUnavailable("unknown_encoding", status=response.status)


class _Inflate:
    """Decompresses gzip and zlib, also several gzip members, into parts of bounded size."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(GZIP_OR_ZLIB)

    @property
    def ended(self) -> bool:
        """Whether the input so far ends at the end of a member."""
        return self._stream.eof

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress a chunk. Raises PluggyUnavailable."""
        try:
            while chunk:
                if self._stream.eof:
                    self._stream = zlib.decompressobj(GZIP_OR_ZLIB)
                yield self._stream.decompress(chunk, CHUNK_BYTES)
                chunk = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error:
            raise PluggyUnavailable("broken_encoding") from None
