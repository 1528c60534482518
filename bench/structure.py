"""How far a reader has to go: `python -m bench.structure`, with `--json` one JSON line.

Two events are followed from the POST to their settlement, in one process and against the simulator:
`transactions/created` with three new rows, and `item/updated` without anything new. Counted are the
files and functions of ours that run, in the order of their calls. The rest is read from the source:
the rooms of worker/ (its modules and packages), who imports whom, and the lengths of it all.
"""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import asyncpg
import click
import grimp
import structlog

import embedded
from ops.migrations import migrate
from tests.support.receiver import Doorway, event_body, open_receiver
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget
from webhook_receiver.storage import Stores
from worker.engine.job import sync_item
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.redis_client import connect

ROOT: Final = Path(__file__).resolve().parents[1]
PRODUCT: Final = ("worker", "webhook_receiver", "ops", "simulator", "embedded")
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


@dataclass(frozen=True, slots=True)
class Rooms:
    """Direct children of worker/. floors: the longest chain of imports between them."""

    rooms: int
    floors: int
    arrows: int
    circles: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lines: of a function from its def to its end, of a file all."""

    number: int
    median: int
    p90: int
    longest: int


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


def rooms_of_worker() -> Rooms:
    graph = grimp.build_graph("worker", cache_dir=None)
    arrows: set[tuple[str, str]] = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            arrows.add((_room(module), _room(imported)))
    arrows = {(a, b) for a, b in arrows if a != b and "" not in (a, b)}
    rooms = {_room(module) for module in graph.modules} - {""}
    below = {room: {b for a, b in arrows if a == room} for room in rooms}
    reached = {room: _reached(room, below) for room in rooms}
    circles = {room for room in rooms if room in reached[room]}
    groups = {room: frozenset(r for r in reached[room] if room in reached[r]) for room in rooms}
    return Rooms(
        rooms=len(rooms),
        floors=max(_floor(room, below, groups) for room in rooms),
        arrows=len(arrows),
        circles=len({groups[room] for room in circles}),
    )


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _reached(room: str, below: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = set(below[room])
    while waiting:
        found.add(at := waiting.pop())
        waiting |= below[at] - found
    return found


def _floor(room: str, below: dict[str, set[str]], groups: dict[str, frozenset[str]]) -> int:
    """How many rooms lie on the longest way down; those of one circle are one."""
    circle = groups[room] or {room}
    lower = {b for member in circle for b in below[member]} - set(circle)
    return 1 + max((_floor(b, below, groups) for b in lower), default=0)


def sources(packages: Iterable[str]) -> list[Path]:
    """Python files under git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *(f"{package}/*.py" for package in packages)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def line_counts(packages: Iterable[str]) -> list[int]:
    return [len(path.read_text(encoding="utf-8").splitlines()) for path in sources(packages)]


def function_lines(packages: Iterable[str]) -> list[int]:
    """Lines of every function and method; inner ones count too."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in sources(packages)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def lengths_of(lines: Sequence[int]) -> Lengths:
    ordered = sorted(lines)
    at = (len(ordered) // 2, len(ordered) * 9 // 10, -1)
    return Lengths(len(ordered), *(ordered[i] for i in at))


def measure() -> dict[str, dict[str, Any]]:
    """Every figure, by what it is about."""
    ways = asyncio.run(follow_both())
    return {
        **{name: asdict(way) for name, way in ways.items()},
        "rooms of worker/": asdict(rooms_of_worker()),
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
    """Count files, functions, hops, rooms and lines; see the module's head."""
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
