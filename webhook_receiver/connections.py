"""How many connections the receiver holds, and for how long one may say nothing."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from aiohttp import web

MOST_CONNECTIONS: Final = 900
"""Below the 1024 files that a process may usually open."""
SILENT_FOR_S: Final = 65.0
"""Above the minute after which load balancers close what is idle: the closing is theirs to do."""
TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class LimitedRunner(web.AppRunner):
    """An AppRunner whose sites take no more connections than it is given."""

    def __init__(self, app: web.Application, *, most: int, **options: Any) -> None:
        super().__init__(app, keepalive_timeout=SILENT_FOR_S, **options)
        self._most = most

    @property
    def server(self) -> web.Server | None:
        """What sites make protocols of; to them it is the server."""
        server = super().server
        return None if server is None else cast(web.Server, Limited(server, self._most))


class Limited:
    """Makes a protocol for each connection; one too many is told so and closed."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._most:
            return TurnedAway()
        return self._server()


class TurnedAway(asyncio.Protocol):
    """Answers 503 to whatever would come; Pluggy sends it again."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.Transport, transport)
        writer.write(TURNED_AWAY)
        writer.close()
