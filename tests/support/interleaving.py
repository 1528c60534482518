"""Actors that pause before every statement: any interleaving of real code over real Postgres."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from tests.support.waiting import HANGS_AFTER_S, POLL_INTERVAL_S
from worker.infra.postgres import Pool

if TYPE_CHECKING:
    PlainConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    PlainConnection = asyncpg.Connection  # generic for type checkers only

_NAMED = re.compile(r"-- (\w+)\n")
_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


class Killed(BaseException):
    """The actor's process was killed: no code of it runs, not even its clean-up."""


class StoppingConnection(PlainConnection):
    """Stops its actor before every named statement and before COMMIT."""

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        await self._stop(query)
        return await super().execute(query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        await self._stop(query)
        return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        await self._stop(query)
        return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        await self._stop(query)
        return await super().fetchval(query, *args, **options)

    def get_reset_query(self) -> str:
        # Nothing of ours outlives its transaction; one round trip less a statement.
        return ""

    async def _stop(self, query: str) -> None:
        actor = _acting.get()
        named = _NAMED.match(query)
        if actor is None or not (named or query.startswith("COMMIT")):
            return
        actor.pids.add(self.get_server_pid())
        await actor.stop(named[1] if named else "COMMIT")


async def open_stopping_pool(
    url: str, connections: type[StoppingConnection] = StoppingConnection
) -> Pool:
    """A pool like that of a process, whose connections stop their actors."""
    pool: Pool = await asyncpg.create_pool(
        url, min_size=0, max_size=4, connection_class=connections, command_timeout=30
    )
    return pool


class Actor:
    """A process as a task that runs one statement at a time.

    `at`: the statement that it is stopped before; None while it runs or is idle.
    """

    def __init__(self, name: str, control: PlainConnection) -> None:
        self.name = name
        self.at: str | None = None
        self.pids: set[int] = set()
        self._control = control
        self._task: asyncio.Task[None] | None = None
        self._go: asyncio.Future[None] | None = None
        self._moved = asyncio.Event()
        self._last: str | None = None
        self._dead = False
        self._interrupted = False

    @property
    def idle(self) -> bool:
        """It has nothing to do."""
        return self._task is None

    async def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start something; returns when it stands before its first statement."""
        assert self._task is None, f"{self.name} is busy"
        self._dead = self._interrupted = False
        self._task = asyncio.create_task(self._run(work))
        self._task.add_done_callback(lambda _: self._moved.set())
        await self.arrive(())

    async def advance(self, others: Iterable[Actor] = ()) -> bool:
        """Run one statement; returns when it stops before the next or has ended.

        False: it waits for a lock of another actor that is stopped.
        """
        self.go()
        return await self.arrive(others)

    def go(self) -> None:
        """Start its statement without waiting for it."""
        if self._go is not None and not self._go.done():
            self._last, self.at = self.at, None
            self._moved.clear()
            self._go.set_result(None)

    async def arrive(self, others: Iterable[Actor]) -> bool:
        """Wait until it stops before a statement or has ended; raises its exception."""
        still = [actor for actor in others if actor is not self]
        for _ in range(int(HANGS_AFTER_S / POLL_INTERVAL_S)):
            if self.at is not None:
                return True
            if self._task is None or self._task.done():
                self._end()
                return True
            try:
                await asyncio.wait_for(self._moved.wait(), POLL_INTERVAL_S)
            except TimeoutError:
                if await self._waits_for(still):
                    return False
        raise AssertionError(f"{self.name} hangs after {self._last}")

    async def stop(self, statement: str) -> None:
        """Called by the connection: stop until go()."""
        if self._dead:
            raise Killed
        self._go = asyncio.get_running_loop().create_future()
        self.at = statement
        self._moved.set()
        try:
            await self._go
        finally:
            self.at = None
            self._moved.clear()
        if self._dead:
            raise Killed

    async def kill(self) -> None:
        """SIGKILL: its connections break, its transactions roll back, and no more code runs."""
        if self._task is None:
            return
        self._dead = True
        await self._control.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE pid = ANY($1::int[]) AND state <> 'idle'",
            list(self.pids),
        )
        self.go()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            # Whatever the broken connection raised on the way out.
            self._task.exception()
        self._task = None

    async def interrupt(self, others: Iterable[Actor] = ()) -> None:
        """Cancel it, as a deploy does; the statements of its clean-up still run."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._moved.clear()
            self._task.cancel()
            await asyncio.sleep(0)  # it has heard of it, and stands no longer where it stood
            await self.arrive(others)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        _acting.set(self)
        await work

    def _end(self) -> None:
        task, self._task, self.at = self._task, None, None
        if task is not None and not task.cancelled():
            task.result()

    async def _waits_for(self, others: Iterable[Actor]) -> bool:
        standing = {pid for actor in others if actor.at is not None for pid in actor.pids}
        blocking = await self._control.fetch(
            "SELECT unnest(pg_blocking_pids(pid)) AS pid FROM unnest($1::int[]) AS mine(pid)",
            list(self.pids),
        )
        return bool(standing & {record["pid"] for record in blocking})
