"""A stub of Pluggy with fixed answers, for behaviour that the simulator does not have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from arq.connections import ArqRedis

from tests.support.stack import CLIENT_ID, CLIENT_SECRET, fill_budget
from worker.infra.lanes import Lane
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.rate_limit import RateBudget


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. wait_s: seconds before it is sent."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A received request: method and path, with the query verbatim."""

    method: str
    path: str
    key: str | None


class PluggyStub:
    """Answers GETs in the order given, and repeats the last answer; /auth gives key-1, key-2 …

    paths: fixed answers for paths with these prefixes.
    """

    def __init__(
        self,
        *answers: Said,
        auth: tuple[Said, ...] = (),
        paths: Mapping[str, Said] | None = None,
    ) -> None:
        self.answers = list(answers) or [Said()]
        self.auth = list(auth)
        self.paths = dict(paths or {})
        self.asked: list[Asked] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def count(self, method: str) -> int:
        return sum(asked.method == method for asked in self.asked)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(Asked(request.method, request.raw_path, request.headers.get("X-API-KEY")))
        said = self._next(request)
        await asyncio.sleep(said.wait_s)
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        return web.Response(status=said.status, body=body, headers=said.headers)

    def _next(self, request: web.Request) -> Said:
        for path, said in self.paths.items():
            if request.path.startswith(path):
                return said
        if request.path != "/auth":
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if self.auth:
            return self.auth.pop(0) if len(self.auth) > 1 else self.auth[0]
        return Said(body={"apiKey": f"key-{self.count('POST')}"})


class WireStub:
    """Answers every GET with the same bytes and closes; /auth works."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"apiKey":"k-1"}'
        writer.write(key.replace(b"15", b"16") if head.startswith(b"POST") else self._wire)
        try:
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def connected(
    url: str, redis: ArqRedis, *, secret: str = CLIENT_SECRET, call_timeout_s: float = 20.0
) -> AsyncIterator[PluggyClient]:
    await fill_budget(redis)
    async with PluggyClient(
        base_url=url,
        client_id=CLIENT_ID,
        client_secret=secret,
        budget=RateBudget(redis, per_minute=60_000),
        call_timeout_s=call_timeout_s,
    ) as client:
        yield client


def give_up_after(client: PluggyClient, seconds: float) -> None:
    """The calls from now on have this time-out; those before it had time enough."""
    client._call_timeout_s = seconds


@asynccontextmanager
async def reading(url: str, redis: ArqRedis, **options: Any) -> AsyncIterator[PluggyReader]:
    async with connected(url, redis, **options) as client:
        yield PluggyReader(client, Lane.LIVE)
