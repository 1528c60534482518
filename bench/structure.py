"""How much code one event passes through: `python -m bench.structure`, with `--json` one JSON line.

Two events are followed from the POST to their settlement, in one process and against the simulator:
`transactions/created` with three new rows, and `item/updated` without anything new. Counted are the
files and functions of ours that run, in the order of their calls. The rest is read from the source:
the packages of worker/, which of them imports which, and lengths (bench/source_size.py).
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import asyncpg
import click
import structlog

import embedded
from bench.source_size import (
    PRODUCT,
    ROOT,
    function_lines,
    lengths_of,
    line_counts,
    packages_of_worker,
)
from ops.migrations import migrate
from tests.support.receiver import Doorway, event_body, open_receiver
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget
from webhook_receiver.storage import Stores
from worker.engine.job import sync_item
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect

TRACED: Final = ("worker", "webhook_receiver")
RESUMED: Final = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR
NEW_ROWS: Final = 3
BESIDE: Final = frozenset({Stores.watch.__code__})
"""What runs again and again, and has nothing to do with an event."""


@dataclass(frozen=True, slots=True)
class Way:
    """One event's way.

    hops: of the functions in the order of their first calls, those in another file than the one
    before; switches: the same of all calls. statements: those with a name, each once. path: the
    files in the order of their first calls; docs/events.md draws that of `transactions/created`.
    """

    path: tuple[str, ...]
    files: int
    functions: int
    hops: int
    calls: int
    switches: int
    statements: int
    round_trips: int
    requests: int


@dataclass(slots=True)
class Trace:
    """The calls of our functions and the queries sent, in their order."""

    calls: list[CodeType] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    _frames: set[FrameType] = field(default_factory=set)

    def note_call(self, frame: FrameType, event: str, _: object) -> None:
        """What sys.setprofile calls. A coroutine that goes on is no further call."""
        code = frame.f_code
        if event != "call" or code.co_name.startswith("<") or not _is_traced(code.co_filename):
            return
        if code.co_flags & RESUMED:
            if frame in self._frames:
                return
            self._frames.add(frame)
        if not _runs_beside(frame):
            self.calls.append(code)

    def note_query(self, query: asyncpg.connection.LoggedQuery) -> None:
        self.queries.append(query.query)

    @contextmanager
    def of_this_thread(self) -> Iterator[None]:
        """Count what runs in the block, also in threads that begin in it."""
        threading.setprofile(self.note_call)
        sys.setprofile(self.note_call)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self._frames.clear()


def _is_traced(path: str) -> bool:
    return any(path.startswith(f"{ROOT}/{package}/") for package in TRACED)


def _runs_beside(frame: FrameType) -> bool:
    at: FrameType | None = frame
    while at is not None:
        if at.f_code in BESIDE:
            return True
        at = at.f_back
    return False


def way_of(trace: Trace, requests: int) -> Way:
    functions = list(dict.fromkeys(trace.calls))
    path = tuple(dict.fromkeys(code.co_filename for code in functions))
    return Way(
        path=tuple(str(Path(name).relative_to(ROOT)) for name in path),
        files=len(path),
        functions=len(functions),
        hops=_changes_of_file(functions),
        calls=len(trace.calls),
        switches=_changes_of_file(trace.calls),
        statements=len({q.partition("\n")[0] for q in trace.queries if q.startswith("-- ")}),
        round_trips=len(trace.queries),
        requests=requests,
    )


def _changes_of_file(calls: Sequence[CodeType]) -> int:
    return sum(a.co_filename != b.co_filename for a, b in pairwise(calls))


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Stack, Doorway]]:
    """A receiver and a worker in this process over servers of their own and the simulator."""
    async with AsyncExitStack() as on:
        url = on.enter_context(embedded.database(None))
        redis_url = on.enter_context(embedded.redis(None))
        await migrate(url)
        simulator = on.enter_context(SimulatorProcess(rate_limit=0, seed=7))
        simulator.post("/_simulator/webhooks", {"quiet": True})
        db, redis = await open_pool(url, max_size=4, statement_cache=500), connect(redis_url)
        on.push_async_callback(close_pool, db)
        on.push_async_callback(redis.aclose)
        await fill_budget(redis)
        client = await on.enter_async_context(build_client(simulator.url, redis))
        stack = Stack(db, redis, simulator, client, build_worker(db, redis, client))
        yield stack, await on.enter_async_context(open_receiver(url, redis_url))


async def follow(stack: Stack, services: Doorway, body: dict[str, Any]) -> Way:
    """Deliver one event and do the job that it wakes. Raises RuntimeError if it is refused."""
    trace = Trace()
    await stack.reset_requests()
    await _hear(stack.db, trace)
    await _hear(services.services.db, trace)
    pools = [stack.db.get_size(), services.services.db.get_size()]
    trace.queries.clear()
    with trace.of_this_thread():
        reply = await services.deliver(body)
        await sync_item({"worker": stack.worker}, body["itemId"])
    await asyncio.sleep(0)  # the last query's logger
    if reply.status != 202 or pools != [stack.db.get_size(), services.services.db.get_size()]:
        raise RuntimeError(f"answered {reply.status}, or a connection that is not heard was opened")
    return way_of(trace, sum((await stack.requests()).values()))


async def _hear(db: Pool, trace: Trace) -> None:
    """Have every open connection of a pool tell what it sends."""
    async with AsyncExitStack() as on:
        for _ in range(db.get_size()):
            connection = await on.enter_async_context(db.acquire())
            connection.add_query_logger(trace.note_query)


CREATED: Final = "transactions/created, three new rows"


async def follow_both() -> dict[str, Way]:
    """Both ways, each after the same has happened once: connections and statements are warm."""
    ways: dict[str, Way] = {}
    async with opened() as (stack, services):
        item = await stack.synced_item(transactions=200, accounts=1)
        for _ in range(2):
            answer = await stack.collect(item["id"], created=NEW_ROWS)
            [event] = [e for e in answer["events"] if e["event"] == "transactions/created"]
            ways[CREATED] = await follow(stack, services, event)
            for event in answer["events"]:
                await services.deliver(event)
            await stack.quiet()
            ways["item/updated without changes"] = await follow(
                stack, services, event_body(item["id"])
            )
            await stack.quiet()
    return ways


def measure() -> dict[str, dict[str, Any]]:
    """Every figure, by what it is about."""
    ways = asyncio.run(follow_both())
    return {
        **{name: asdict(way) for name, way in ways.items()},
        "packages of worker/": asdict(packages_of_worker()),
        "lines": {
            **{package: sum(line_counts([package])) for package in PRODUCT},
            "product": sum(line_counts(PRODUCT)),
            "tests": sum(line_counts(["tests"])),
        },
        "functions of the product": asdict(lengths_of(function_lines(PRODUCT))),
        "files of the product": asdict(lengths_of(line_counts(PRODUCT))),
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON line.")
@click.option("--path", "with_path", is_flag=True, help="The files of each way, in their order.")
def main(as_json: bool, with_path: bool) -> None:
    """Count files, functions, hops, packages and lines; see the module's head."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    figures = measure()
    if as_json:
        click.echo(json.dumps(figures))
        return
    for about, values in figures.items():
        click.echo(about)
        for name, value in values.items():
            if name != "path":
                click.echo(f"  {name:<18}{value:>8}")
        for name in values.get("path", ()) if with_path else ():
            click.echo(f"    {name}")


if __name__ == "__main__":
    main()
