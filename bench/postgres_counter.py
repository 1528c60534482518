"""Count a client's work at Postgres on the wire: nothing that a driver sends can be missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit, urlunsplit

ENDS_A_COMMAND: Final = b"CIsE"
"""CommandComplete, EmptyQueryResponse, PortalSuspended, ErrorResponse. A statement that is prepared
only, or a login, has none of them."""
READY: Final = ord("Z")
NO_TRANSACTION: Final = ord("I")
HEAD_BYTES: Final = 5


@dataclass(slots=True)
class PostgresCounter:
    """A proxy before a server; `url` leads through it, without TLS.

    round_trips: commands that were waited for, BEGIN and COMMIT too; what only prepares a statement
    is not counted. transactions: how often a session was without one afterwards.
    """

    target: str
    round_trips: int = 0
    transactions: int = 0
    url: str = ""
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        parts = urlsplit(self.target)
        login = parts.netloc.rpartition("@")[0]
        at = f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"
        self.url = urlunsplit(parts._replace(netloc=at, query="sslmode=disable"))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await _connect(self.target)
        answers = _Answers(self)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, far_writer, lambda _: None))
            group.create_task(_pump(far_reader, writer, answers.hear))


@dataclass(slots=True)
class _Answers:
    """What one session's server says, message by message."""

    counter: PostgresCounter
    heard: bytearray
    worked: bool

    def __init__(self, counter: PostgresCounter) -> None:
        self.counter, self.heard, self.worked = counter, bytearray(), False

    def hear(self, data: bytes) -> None:
        self.heard += data
        while len(self.heard) >= HEAD_BYTES:
            length = 1 + int.from_bytes(self.heard[1:HEAD_BYTES])
            if len(self.heard) < length:
                return
            self._note(self.heard[0], self.heard[HEAD_BYTES:length])
            del self.heard[:length]

    def _note(self, kind: int, body: bytearray) -> None:
        if kind in ENDS_A_COMMAND:
            self.worked = True
        elif kind == READY and self.worked:
            self.worked = False
            self.counter.round_trips += 1
            self.counter.transactions += body[0] == NO_TRANSACTION


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts, options = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
    host = options.get("host", parts.hostname or "127.0.0.1")
    port = int(options.get("port", parts.port or 5432))
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, heard: Callable[[bytes], None]
) -> None:
    with suppress(ConnectionError):
        while data := await source.read(2**16):
            heard(data)
            target.write(data)
            await target.drain()
    target.close()
