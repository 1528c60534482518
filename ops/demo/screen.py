"""The demo's progress on standard error: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ops.demo.figures import Progress, rows_line

LINE_EVERY_S: Final = 1.0


class Screen:
    """Shows what the demo is doing. `with Screen(console) as screen: screen.begin("...")`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10, transient=True)
        self._began = time.monotonic()
        self._lined = 0.0
        self._phase = ""
        self._rows_expected = 0
        self._spinner = Spinner("dots")

    @property
    def took_s(self) -> float:
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, phase: str, *, rows_expected: int = 0) -> None:
        """A new phase; rows_expected gives it a bar."""
        self._phase, self._rows_expected = phase, rows_expected
        self._lined = time.monotonic()
        self._console.print(f"[dim]{self.took_s:6.1f} s[/]  {phase}")

    def show(self, progress: Progress) -> None:
        """Draw the newest figures; elsewhere than on a terminal at most one line a second."""
        if self._console.is_terminal:
            self._live.update(self._picture(progress))
        elif time.monotonic() - self._lined >= LINE_EVERY_S:
            self._lined = time.monotonic()
            self._console.print(f"{self.took_s:6.1f} s    {_line(progress)}")

    def _picture(self, progress: Progress) -> Group:
        self._spinner.update(text=Text(f" {self._phase} … {self.took_s:.1f} s", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_row("  rows", rows_line(progress))
        if self._rows_expected:
            done = min(progress.transactions, self._rows_expected)
            table.add_row("", ProgressBar(total=self._rows_expected, completed=done, width=48))
        table.add_row("  webhooks", _webhooks(progress))
        table.add_row("  waiting", _waiting(progress))
        table.add_row("  lag", _lag(progress))
        return Group(self._spinner, table)


def _webhooks(progress: Progress) -> str:
    dead = f", [bold red]{progress.dead:,} dead[/]" if progress.dead else ""
    return f"{progress.accepted:,} accepted, {progress.applied:,} applied{dead}"


def _waiting(progress: Progress) -> str:
    return (
        f"{progress.undelivered:,} webhooks under way, {progress.open:,} to apply,"
        f" {progress.items_due:,} items due"
    )


def _lag(progress: Progress) -> str:
    if progress.lag_ms is None:
        return "shown for the update rounds"
    p50, p99 = progress.lag_ms
    return f"webhook to row: p50 {p50:,.0f} ms, p99 {p99:,.0f} ms"


def _line(progress: Progress) -> str:
    parts = [rows_line(progress), "webhooks " + _webhooks(progress), _waiting(progress)]
    return "; ".join(parts if progress.lag_ms is None else [*parts, _lag(progress)])
