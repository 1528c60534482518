"""Read and decompress response bodies within a size limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Final

import aiohttp

from worker.pluggy_api.errors import PluggyUnavailable

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Maximum of a decompressed body; a full page of 500 rows has about one MiB."""
CHUNK_BYTES: Final = 64 * 1024
YIELD_AFTER_BYTES: Final = 1024 * 1024
"""Decompressed bytes between two yields to the event loop: a small body may expand a lot."""
ENCODINGS: Final = "gzip, deflate"
GZIP_OR_ZLIB: Final = 47


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
