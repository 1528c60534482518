"""The simulator behind a proxy that alters its answers as a test orders."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.stack import Stack, build_client

Alter = Callable[[str, bytes], Awaitable[bytes | tuple[int, bytes]]]
"""The path asked for with its query, and the simulator's answer; gives the answer to send, with its
status if that is another."""
Date = Callable[[str, str], str]
"""The path asked for, and the Date header of the answer; gives the header to send."""
LIMITS = ("Retry-After", "RateLimit-Reset")


@asynccontextmanager
async def altered(
    stack: Stack, alter: Alter | None = None, *, date: Date | None = None
) -> AsyncIterator[None]:
    """Read the simulator through `alter` and `date` until the block ends."""
    engine = stack.worker.engine
    async with (
        aiohttp.ClientSession(auto_decompress=True) as session,
        _proxy(stack.simulator.url, session, alter, date) as url,
        build_client(url, stack.redis) as client,
    ):
        stack.worker.engine = replace(engine, client=client)
        try:
            yield
        finally:
            stack.worker.engine = engine


def item_body(alter: Callable[[bytes], bytes]) -> Alter:
    """Every item comes with its body altered."""

    async def alter_item(path: str, body: bytes) -> bytes:
        return alter(body) if path.startswith("/items/") else body

    return alter_item


def item_with(**fields: Any) -> Alter:
    """Every item comes with these fields."""
    return item_body(lambda body: json.dumps(json.loads(body) | fields).encode())


@asynccontextmanager
async def _proxy(
    target: str, session: aiohttp.ClientSession, alter: Alter | None, date: Date | None
) -> AsyncIterator[str]:
    async def forward(request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k in ("X-API-KEY", "Content-Type")}
        body = await request.read()
        url = target + request.raw_path
        async with session.request(request.method, url, headers=headers, data=body) as answer:
            read = await answer.read()
            said: bytes | tuple[int, bytes] = read
            if alter is not None and answer.status == 200:
                said = await alter(request.raw_path, read)
            status, altered_body = said if isinstance(said, tuple) else (answer.status, said)
            date_header = answer.headers["Date"]
            date_header = date_header if date is None else date(request.raw_path, date_header)
            limits = {k: v for k, v in answer.headers.items() if k in LIMITS}
            kept = {"Date": date_header, "Content-Type": "application/json"} | limits
            return web.Response(status=status, body=altered_body, headers=kept)

    async with serving(forward) as url:
        yield url


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """The address of a server that answers every request by the handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def without_rows(hidden: Collection[str]) -> Alter:
    """No list of transactions has the rows of these ids."""

    async def hide(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/transactions"):
            return body
        page = json.loads(body)
        page["results"] = [row for row in page["results"] if row["id"] not in hidden]
        return json.dumps(page).encode()

    return hide
