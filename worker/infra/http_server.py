"""Limits of our HTTP servers on connections, header size and time, applied before any handler.

aiohttp alone decompresses request bodies, waits for headers without a time-out, and reads unwanted
bodies for ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware
from prometheus_client import Counter, generate_latest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
MALFORMED: Final = b'{"error":"malformed_http","detail":"the request cannot be read"}'
SAFE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of answers to malformed HTTP, and of all of the ops process that do not set their own."""
MAX_CONNECTIONS: Final = 10_240
"""About 20 KiB of memory each."""
OTHER_FILES: Final = 124
"""Open files that are no clients' connections."""
BAD_REQUESTS = Counter("pluggy_sync_bad_requests", "Malformed HTTP requests")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one server.

    connections: all clients together; below the usual limit of 1024 open files.
    head_timeout_s: from the first byte of a connection, or of a later request, to the end of its
    headers. idle_s: between requests; longer than the minute of load balancers, so that they close
    idle connections, not the server.
    unread_bytes, unread_s: bytes and seconds of a body that are read and dropped after the answer,
    because some clients read the answer only after they have sent everything.
    """

    connections: int = 900
    head_bytes: int = 32 * 1024
    head_timeout_s: float = 5.0
    idle_s: float = 65.0
    unread_bytes: int = 8 * 1024 * 1024
    unread_s: float = 1.0


def connection_limit(soft: int, hard: int) -> tuple[int, int]:
    """(limit of open files to set, connections) for the present limits of open files."""
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if resource.RLIM_INFINITY not in (soft, hard):
        wanted = min(wanted, max(soft, hard))
    elif soft == resource.RLIM_INFINITY:
        return soft, MAX_CONNECTIONS
    files = max(soft, wanted)
    return files, max(1, min(MAX_CONNECTIONS, files - OTHER_FILES))


def room_for_connections() -> int:
    """Raise the limit of open files as far as needed and allowed; the connections it leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files, connections = connection_limit(soft, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    except (OSError, ValueError):  # a system may allow less than it says
        return connection_limit(soft, soft)[1]
    return connections


class BoundedRunner(web.AppRunner):
    """An AppRunner with limits, and without an access log: paths may hold a secret.

    handler_cancellation: a handler ends when its client is gone.
    """

    def __init__(
        self,
        app: web.Application,
        limits: HttpLimits,
        *,
        shutdown_timeout: float = 60.0,
        handler_cancellation: bool = False,
    ) -> None:
        self._limits = limits
        self._handler_options: dict[str, Any] = {
            "keepalive_timeout": limits.idle_s,
            "lingering_time": limits.unread_s,
            "auto_decompress": False,
            "access_log": None,
            "logger": server_log(),
        }
        app.middlewares.insert(0, bounded(limits))
        super().__init__(
            app,
            shutdown_timeout=shutdown_timeout,
            handler_cancellation=handler_cancellation,
            **self._handler_options,
        )

    @property
    def server(self) -> web.Server | None:
        """The protocol factory that sites use as their server."""
        server = super().server
        if server is None:
            return None
        return cast(web.Server, _Connections(server, self._limits, self._handler_options))


class _Connections:
    """Protocol factory with a limit on connections.

    Above the limit, a new connection replaces the oldest one that has sent no request yet, so that
    silent clients block nobody. If there is none, the new connection gets a 503.
    """

    def __init__(
        self, server: web.Server, limits: HttpLimits, handler_options: dict[str, Any]
    ) -> None:
        self._server = server
        self._limits = limits
        self._handler_options = handler_options
        self._silent: dict[BoundedConnection, None] = {}

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._limits.connections:
            if not self._silent:
                return TurnedAway()
            next(iter(self._silent)).force_close()
        return BoundedConnection(
            self._server,
            self._limits,
            self._silent,
            loop=asyncio.get_running_loop(),
            **self._handler_options,
        )


async def metrics(_: web.Request) -> web.Response:
    """GET /metrics in Prometheus's text format."""
    headers = {"Content-Type": "text/plain; version=0.0.4"}
    return web.Response(body=generate_latest(), headers=headers)


async def until_stopped() -> None:
    """Wait for SIGINT or SIGTERM, of which the first one no longer ends the process."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def listening_port(runner: web.AppRunner) -> int:
    """The IPv4 port; with port 0, IPv6 may have another one."""
    ports = {len(address): int(address[1]) for address in runner.addresses}
    return ports.get(2) or next(iter(ports.values()))


class TurnedAway(asyncio.Protocol):
    """Answers 503 at once; Pluggy repeats the delivery."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.Transport, transport)
        writer.write(TURNED_AWAY)
        writer.close()


class BoundedConnection(web.RequestHandler):
    """A connection that is closed if headers or unread bytes exceed their limits."""

    def __init__(
        self,
        server: web.Server,
        limits: HttpLimits,
        silent: dict[BoundedConnection, None],
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._limits = limits
        self._silent = silent
        self._unparsed_bytes = 0
        self._discarded_until: int | None = None
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._silent[self] = None
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._silent.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def discard(self, body_bytes: int | None) -> None:
        """Stop parsing, drop the rest of the body, then close."""
        max_bytes = self._limits.unread_bytes
        self._unparsed_bytes = 0
        self._discarded_until = max_bytes if body_bytes is None else min(body_bytes, max_bytes)

    def data_received(self, data: bytes) -> None:
        if self._discarded_until is not None:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes >= self._discarded_until:
                self.force_close()
            return
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._unparsed_bytes = 0
            self._silent.pop(self, None)
            self._stop_timer()
            return
        self._unparsed_bytes += len(data)
        if self._awaits_head:
            self._expect_head()
            self._bound(self._limits.head_bytes, HEAD_TOO_LARGE)
        else:
            self._bound(self._limits.unread_bytes)

    @property
    def _awaits_head(self) -> bool:
        """Whether no request is being handled, so that new bytes belong to the next head.

        The waiter is done once a head was parsed, and stays until the loop gets to its task. uvloop
        reads on before that.
        """
        return self._waiter is not None and not self._waiter.done()

    def force_close(self) -> None:
        self._silent.pop(self, None)
        super().force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to malformed HTTP: aiohttp's own quotes it, and what it quotes may hold a
        secret, or be a page."""
        super().handle_error(request, status, exc, message)
        response = web.Response(
            status=status, body=MALFORMED, content_type="application/json", headers=SAFE_HEADERS
        )
        response.force_close()
        return response

    def _bound(self, max_bytes: int, answer: bytes = b"") -> None:
        if self._unparsed_bytes > max_bytes and self.transport is not None:
            self.transport.write(answer)
            self.force_close()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(self._limits.head_timeout_s, self.force_close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def bounded(limits: HttpLimits) -> Middleware:
    """Middleware of BoundedRunner: close connections after a 4xx or an unread body."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if sum(map(len, chain.from_iterable(request.raw_headers))) > limits.head_bytes:
            response: web.StreamResponse = web.Response(status=431)
        else:
            response = await handler(request)
        if 400 <= response.status < 500 or not request.content.is_eof():
            response.force_close()
        if not request.content.is_eof() and isinstance(request.protocol, BoundedConnection):
            size = request.content_length
            request.protocol.discard(None if size is None else size - request.content.total_bytes)
        return response

    return middleware


def server_log() -> logging.Logger:
    """aiohttp's server logger without malformed requests, which are counted instead.

    A line for each would let anybody fill the log, and aiohttp quotes the malformed bytes, which
    may hold a secret.
    """
    logger = logging.getLogger("aiohttp.server")
    if _is_ours not in logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        BAD_REQUESTS.inc()
        return False
    return True
