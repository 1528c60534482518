"""Ctrl-C and SIGTERM end a command at once and quietly, whatever it waits for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

import ops
from ops.__main__ import INTERRUPTED
from worker.inbox.accept import accept_events
from worker.inbox.events import registration
from worker.infra.postgres import Pool

ITEM: Final = "11111111-2222-4333-8444-555555555555"
RUN: Final = "from ops.__main__ import run; run()"
PIPE_BYTES: Final = 1024 * 1024
SIGNALS: Final = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: -signal.SIGTERM}


@dataclass(slots=True)
class SilentServer:
    """Accepts connections and never answers; asked: whether one has come."""

    port: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[SilentServer]:
        ended = asyncio.Event()

        async def answer_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.set()
            await ended.wait()
            writer.close()

        server = await asyncio.start_server(answer_nothing, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            ended.set()
            server.close()


async def start(
    arguments: str, settings: dict[str, str], *, code: str = RUN
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments.split()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(ops.__file__).parents[1],
        env={"PATH": os.environ.get("PATH", "")} | settings,
        # A shell that runs the tests in the background has interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


async def ends(
    process: asyncio.subprocess.Process, ready: Awaitable[object], number: signal.Signals
) -> None:
    """It is at what it waits for, ends by the signal, and says nothing of it."""
    await ready
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stderr is not None
    said = await process.stdout.read() + await process.stderr.read()
    assert await process.wait() == SIGNALS[number], said
    assert b"Traceback" not in said
    assert b"Aborted" not in said
    assert said.count(b"\n") <= 1, said


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ("items list", signal.SIGINT),
        ("items list", signal.SIGTERM),
        ("migrate", signal.SIGINT),
        ("status --watch", signal.SIGINT),
        (f"verify {ITEM}", signal.SIGINT),
    ],
)
async def test_a_command_that_waits_for_postgres(arguments: str, number: signal.Signals) -> None:
    async with SilentServer().listening() as server:
        url = f"postgresql://someone@127.0.0.1:{server.port}/nowhere"
        process = await start(arguments, {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"})
        await ends(process, server.asked.wait(), number)


@pytest.mark.parametrize("arguments", ["connectors list", "doctor"])
async def test_a_command_that_waits_for_pluggy(arguments: str, database_url: str) -> None:
    async with SilentServer().listening() as server:
        settings = {
            "DATABASE_URL": database_url,
            "REDIS_URL": "redis://127.0.0.1:1",
            "PLUGGY_BASE_URL": f"http://127.0.0.1:{server.port}",
            "PLUGGY_CLIENT_ID": "someone",
            "PLUGGY_CLIENT_SECRET": "hunter2",
        }
        process = await start(arguments, settings)
        await ends(process, server.asked.wait(), signal.SIGINT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"items show {ITEM} --wait", "waits for a worker"),
        (f"items disable-auto-sync {ITEM}", "[y/N]"),
        (f"verify {ITEM}", "0 of 1 item"),
    ],
)
async def test_a_command_that_shows_or_asks_something(
    arguments: str, said: str, database_url: str, db: Pool
) -> None:
    await accept_events(db, [registration(uuid.UUID(ITEM), datetime.now(UTC))])
    settings = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"}
    process = await start(arguments, settings)
    assert process.stderr is not None
    await ends(process, process.stderr.readuntil(said.encode()), signal.SIGINT)


async def test_a_watch_between_two_looks() -> None:
    settings = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"}
    process = await start("status --watch", settings)
    assert process.stderr is not None
    await ends(process, process.stderr.readuntil(b"Postgres does not answer"), signal.SIGINT)


async def test_an_import_that_waits_for_the_rest_of_its_list(database_url: str) -> None:
    process = await start("items import -", {"DATABASE_URL": database_url})
    assert process.stdin is not None
    process.stdin.write(b"\n" * PIPE_BYTES)
    await ends(process, process.stdin.drain(), signal.SIGINT)


async def test_a_command_that_is_being_loaded() -> None:
    interrupted = """
import os, signal, sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "ops.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from ops.__main__ import run
run()
"""
    process = await start("items list", {}, code=interrupted)
    assert process.stderr is not None
    assert (await process.wait(), await process.stderr.read()) == (INTERRUPTED, b"")
