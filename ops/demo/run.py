"""The run of the demo: items, rounds of updates, and a comparison of every row."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg
import msgspec

from embedded.directories import EmbeddedError
from ops.cli.tables import console
from ops.cli.terminal_text import counted
from ops.compare.columns import Connection
from ops.compare.rows import Comparison, compare
from ops.compare.truth import SimulatorTruth, TruthError
from ops.demo.duel import Duel, begin_duel, show_scores
from ops.demo.figures import Progress, Report, Score, figures, show
from ops.demo.processes import ZONE, ChildEnded
from ops.demo.screen import Screen
from ops.demo.servers import NoServer
from ops.demo.simulator import ControlRefused, SimulatorControl, usual_changes
from ops.demo.stage import (
    DemoFailed,
    DemoOptions,
    Stage,
    ignore_signals,
    open_stage,
    start_service,
    stop_on_every_signal,
)
from ops.migrations import MigrationRefused, migrate
from worker.store import demo

APPLY_TIMEOUT_S: Final = 600.0
ROWS_A_SECOND: Final = 200
"""Far fewer than the slowest machine manages: a guard against waiting for ever."""
POLL_INTERVAL_S: Final = 0.25
SHOW_INTERVAL_S: Final = 1.0
"""Counting all rows takes CPU from what is measured."""
INTERRUPTED: Final = 130
NONE_YET: Final = 2**62
"""No event has that id: the lag is that of the update rounds only."""

SETTING_UP_FAILED: Final = (EmbeddedError, NoServer, MigrationRefused)
PLAYING_FAILED: Final = (
    ControlRefused,
    DemoFailed,
    TruthError,
    aiohttp.ClientError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)


@dataclass(slots=True)
class Watch:
    """Shows the progress of the mirror while the demo waits for it."""

    stage: Stage
    screen: Screen
    conn: Connection
    control: SimulatorControl
    after_event: int = NONE_YET
    last: Progress = field(default_factory=Progress)
    shown_at: float = 0.0

    async def check(self) -> Progress:
        """How far the mirror is. Raises ChildEnded."""
        self.stage.children.check()
        # Before the database is asked: what was delivered by now has been stored by then.
        undelivered = await self.control.undelivered()
        record = await demo.demo_progress(self.conn, after_event=self.after_event)
        lag = record.lag_ms
        self.last = Progress(
            **(msgspec.structs.asdict(record) | {"lag_ms": (lag[0], lag[1]) if lag else None}),
            undelivered=undelivered,
        )
        self.screen.show(self.last)
        self.shown_at = time.monotonic()
        return self.last

    async def is_quiet(self) -> bool:
        """Whether every webhook is delivered and settled. Raises ChildEnded."""
        self.stage.children.check()
        if await self.control.undelivered():
            return False
        return not await demo.demo_has_open_events(self.conn)

    async def until_quiet(self, rows: int) -> Progress:
        """Wait until every webhook is delivered and settled. rows: about how many rows change.

        Raises DemoFailed, ChildEnded.
        """
        timeout_s = APPLY_TIMEOUT_S + rows / ROWS_A_SECOND
        deadline = time.monotonic() + timeout_s
        while not await self.is_quiet():
            if time.monotonic() > deadline:
                what = "every webhook to be applied"
                raise DemoFailed(f"waited {timeout_s:.0f} s for {what}: {await self.check()}")
            if time.monotonic() > self.shown_at + SHOW_INTERVAL_S:
                await self.check()
            await asyncio.sleep(POLL_INTERVAL_S)
        return await self.check()


def run_demo(options: DemoOptions) -> int:
    """Run the demo and return its exit status. The outcome goes to standard output, all else to
    standard error. Raises DemoFailed."""
    stop_on_every_signal()
    screen = Screen(console(to_stderr=True))
    try:
        screen.begin("starting Postgres, Redis and the simulator")
        with open_stage(options) as stage:
            try:
                return asyncio.run(_play(stage, screen))
            except PLAYING_FAILED as error:
                print(stage.children.tails(), file=sys.stderr)
                raise DemoFailed(str(error) or type(error).__name__) from error
            finally:
                ignore_signals()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ChildEnded, *SETTING_UP_FAILED) as error:
        raise DemoFailed(str(error)) from error


async def _play(stage: Stage, screen: Screen) -> int:
    options = stage.options
    await migrate(stage.database_url, roles=stage.has_own_postgres)
    async with aiohttp.ClientSession() as session:
        screen.begin(f"starting the receiver and {counted(options.workers, 'worker', 'workers')}")
        service = await start_service(stage, session)
        conn = await asyncpg.connect(stage.database_url, timeout=10, command_timeout=60)
        try:
            duel = await begin_duel(service, conn) if options.duel else None
            watch = Watch(stage, screen, conn, service.control)
            report = await _show_it_all(watch, session, duel)
        finally:
            conn.terminate()
        _print_report(report, options)
        if report.figures.mismatches and not options.sabotage:
            print(stage.children.tails(), file=sys.stderr)
        if not options.leave:
            await _stay(stage, service.control)
        return 1 if report.figures.mismatches else 0


async def _show_it_all(watch: Watch, session: aiohttp.ClientSession, duel: Duel | None) -> Report:
    scores: dict[str, Score] = {}
    with watch.screen:
        items = await _connect_items(watch)
        for number in range(1, watch.stage.options.rounds + 1):
            await _collect(watch, items, number)
        if duel is not None:
            scores = await _play_duel(watch, duel, items)
        if watch.stage.options.sabotage:
            await _sabotage(watch.conn)
        watch.screen.begin("comparing every row with Pluggy")
        truth = SimulatorTruth(session, watch.control.base_url)
        comparison = await compare(watch.conn, truth, ZoneInfo(ZONE))
    return await _report(watch, comparison, scores)


async def _play_duel(watch: Watch, duel: Duel, items: list[str]) -> dict[str, Score]:
    watch.screen.begin("the duel: both mirrors get ten bad seconds")
    await duel.begin()
    await duel.ten_bad_seconds(items)
    watch.screen.begin("the duel: what each makes of them")
    await duel.recover(items)
    return await duel.scores(items)


async def _connect_items(watch: Watch) -> list[str]:
    options = watch.stage.options
    rows = options.items * options.transactions
    watch.screen.begin(
        f"connecting {counted(options.items, 'item', 'items')} with"
        f" {counted(options.transactions, 'transaction', 'transactions')} each",
        rows_expected=rows,
    )
    await watch.control.reset_requests()
    items = []
    for number in range(options.items):
        items.append(await watch.control.connect_item(number, transactions=options.transactions))
        await watch.check()
    progress = await watch.until_quiet(rows)
    watch.after_event = progress.last_event
    await watch.check()
    return items


async def _collect(watch: Watch, items: list[str], number: int) -> None:
    options = watch.stage.options
    watch.screen.begin(f"update round {number} of {options.rounds}: banks with changes")
    for item_id in items:
        await watch.control.collect(item_id, usual_changes(options.transactions))
    await watch.until_quiet(rows=len(items) * 20)


async def _sabotage(conn: Connection) -> None:
    """Break three rows: one missing, one extra, one different."""
    missing = await demo.sabotage_missing(conn)
    extra = await demo.sabotage_extra(conn, row_id=uuid.uuid4())
    different = await demo.sabotage_different(conn, spared_id=extra)
    if None in (missing, extra, different):
        raise DemoFailed("--sabotage needs two transactions at least")


async def _report(watch: Watch, comparison: Comparison, scores: dict[str, Score]) -> Report:
    statement = demo.SQL["spending_by_category"].partition("\n")[2]
    spending = await demo.spending_by_category(watch.conn)
    return Report(
        figures(watch.last, comparison, await watch.control.requests()),
        comparison,
        watch.last.without_rows,
        statement,
        [msgspec.structs.asdict(row) for row in spending],
        watch.screen.took_s,
        watch.stage.options.workers,
        scores,
    )


def _print_report(report: Report, options: DemoOptions) -> None:
    terminal = console(to_stderr=options.as_json)
    show(report, terminal)
    if report.scores:
        show_scores(report.scores, terminal)
    if options.as_json:
        print(report.line(), flush=True)


async def _stay(stage: Stage, control: SimulatorControl) -> None:
    """Stay up until Ctrl-C, which is a normal end."""
    terminal = console(to_stderr=True)
    terminal.print(f"\nLook at the rows:   psql '{stage.database_url}'", soft_wrap=True)
    terminal.print(
        f"Run commands:       export DATABASE_URL='{stage.database_url}'"
        f" REDIS_URL='{stage.redis_url}'; .venv/bin/pluggy-sync status",
        soft_wrap=True,
    )
    terminal.print(f"Simulator's API:    {control.base_url}", soft_wrap=True)
    terminal.print("Everything stays up until Ctrl-C.")
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(1)
            stage.children.check()
