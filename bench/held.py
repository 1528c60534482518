"""The receiver beside 10,000 connections that are held, each after one delivery.

Peak memory, and deliveries on 64 further connections meanwhile. Where the limit of open files
allows fewer connections, fewer are held, and the figures say so.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import click

import embedded
from bench.accept import deliver
from bench.load import ACCEPTED, requests
from ops.migrations import migrate
from tests.support.receiver import SECRET, ReceiverProcess
from tests.support.service_process import peak_memory_kb

HELD: Final = 10_000
OPENED_AT_ONCE: Final = 200
FURTHER_FILES: Final = 200
LOADED_FOR_S: Final = 3.0
BUSY: Final = b"HTTP/1.1 503"
"""As Pluggy does, such a delivery is sent again."""


class Held(asyncio.Protocol):
    """A connection that delivers once, and then stays open."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.body)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if data.startswith(BUSY):
            self.transport.write(self.body)  # type: ignore[attr-defined]
        elif not self.answered.done():
            self.answered.set_result(data.startswith(ACCEPTED))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if not self.answered.done():
            self.answered.set_result(False)


async def measure(connections: int) -> dict[str, Any]:
    """Memory of the receiver, and its deliveries beside so many held connections."""
    count = _allowed(connections)
    async with AsyncExitStack() as on:
        database = on.enter_context(embedded.database(durable=True))
        redis = on.enter_context(embedded.redis())
        await migrate(database)
        servers = {"DATABASE_URL": database, "REDIS_URL": redis, "WEBHOOK_SECRET": SECRET}
        receiver = await on.enter_async_context(ReceiverProcess(**servers | {"LOG_LEVEL": "INFO"}))
        port, pid = await receiver.port(), receiver.child.pid
        idle_kb = peak_memory_kb(pid)
        held = await _hold(port, count)
        beside = await deliver(port, LOADED_FOR_S)
        kept = sum(connection.is_open for connection in held)
        if kept < count:
            raise RuntimeError(f"the receiver has closed {count - kept} of {count} connections")
        found = {
            "receiver, idle: MB": round(idle_kb / 1024),
            f"receiver, {count:,} held connections: MB": round(peak_memory_kb(pid) / 1024),
            f"beside {count:,} held connections, deliveries/s": round(beside["per_s"]),
            f"beside {count:,} held connections, p99 ms": round(beside["p99_ms"], 1),
        }
        for connection in held:
            connection.transport.close()
    return found


def _allowed(connections: int) -> int:
    """How many connections this process may hold: its limit of open files is raised for them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FURTHER_FILES
    files = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if files < wanted:
        click.echo(f"the hard limit of open files is {hard}: fewer connections are held", err=True)
    return files - FURTHER_FILES


async def _hold(port: int, count: int) -> list[Held]:
    """Open the connections, each with a delivery that is answered by 202."""
    bodies = requests(f"127.0.0.1:{port}", SECRET)
    held: list[Held] = []
    while len(held) < count:
        some = await asyncio.gather(
            *(_opened(port, bodies) for _ in range(min(OPENED_AT_ONCE, count - len(held))))
        )
        held += some
    return held


async def _opened(port: int, bodies: Iterator[bytes]) -> Held:
    loop = asyncio.get_running_loop()
    _, held = await loop.create_connection(lambda: Held(next(bodies)), "127.0.0.1", port)
    if not await held.answered:
        raise RuntimeError("a delivery was not accepted")
    return held
