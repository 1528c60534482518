"""The results of a demo run, as text for a person and as one line of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.syntax import Syntax

from ops.cli.tables import fields_table, show_rows
from ops.cli.terminal_text import counted
from ops.compare.rows import Comparison

REAL_LIMIT: Final = (
    "Pluggy's real limit is 360 requests a minute per address and endpoint group;"
    " the demo runs without one."
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the mirror is.

    Of the update rounds: the lag from receipt to the commit of the rows, in milliseconds, and the
    number of events that changed no row.
    """

    items: int = 0
    accounts: int = 0
    transactions: int = 0
    items_due: int = 0
    workers: int = 0
    accepted: int = 0
    applied: int = 0
    open: int = 0
    dead: int = 0
    undelivered: int = 0
    last_event: int = 0
    lag_ms: tuple[float, float] | None = None
    without_rows: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """The contract of `--json`; names and meanings stay."""

    items: int
    accounts: int
    transactions: int
    events_accepted: int
    events_applied: int
    mismatches: int
    webhook_to_row_ms: dict[str, float | None]
    api_requests: int


def figures(progress: Progress, comparison: Comparison, api_requests: int) -> Figures:
    """Counts of rows are Pluggy's: they are what the mirror was compared with."""
    p50, p99 = progress.lag_ms or (None, None)
    return Figures(
        items=comparison.rows["items"],
        accounts=comparison.rows["accounts"],
        transactions=comparison.rows["transactions"],
        events_accepted=progress.accepted,
        events_applied=progress.applied,
        mismatches=comparison.mismatches,
        webhook_to_row_ms={"p50": _ms(p50), "p99": _ms(p99)},
        api_requests=api_requests,
    )


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


@dataclass(frozen=True, slots=True)
class Score:
    """Of one mirror, in rows; doubled: it counts what Pluggy has replaced or removed.

    api_requests_of_check: how many of them the weekly check has made.
    ms_to_visible: the median of the webhooks before the SIGKILL, from receipt to the commit.
    longest_ms_to_visible: of all of them; None: some were taken and their rows never stored.
    """

    missing: int
    doubled: int
    stale: int
    wrongly_deleted: int
    api_requests: int
    api_requests_of_check: int
    ms_to_visible: float | None
    longest_ms_to_visible: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is shown at the end."""

    figures: Figures
    comparison: Comparison
    without_rows: int
    statement: str
    answer: Sequence[dict[str, Any]]
    took_s: float
    workers: int
    scores: dict[str, Score]
    """Of the duel, by mirror; empty without one."""

    def line(self) -> str:
        """The figures, and the scores of a duel, as one line of JSON."""
        scores = {"duel": {name: asdict(score) for name, score in self.scores.items()}}
        shown = asdict(self.figures) | (scores if self.scores else {})
        return msgspec.json.encode(shown).decode()


def show(report: Report, console: Console) -> None:
    """Print the verdict, the example query and the figures."""
    console.print()
    console.print(verdict(report.comparison))
    for difference in report.comparison.shown:
        console.print(f"  {difference}")
    console.print()
    console.print("Ask the mirror something, such as spending by category:")
    console.print(Syntax(report.statement, "sql", theme="ansi_dark", background_color="default"))
    if report.answer:
        show_rows(console, "", report.answer)
    console.print(fields_table(_summary(report)))


def verdict(comparison: Comparison) -> str:
    """One sentence: equal, or how many rows differ and how."""
    at = f"{comparison.as_of:%Y-%m-%d %H:%M:%S} UTC"
    if comparison.mismatches == 0:
        return f"[bold green]verified equal to Pluggy as of {at} ({_rows(comparison)} rows)"
    kinds = ", ".join(
        f"{count} {kind} in {entity}" for (entity, kind), count in comparison.counts.items()
    )
    return f"[bold red]NOT equal to Pluggy as of {at} ({_rows(comparison)} rows): {kinds}"


def _rows(comparison: Comparison) -> str:
    return f"{comparison.rows.total():,}"


def _summary(report: Report) -> dict[str, str]:
    figures, lag = report.figures, report.figures.webhook_to_row_ms
    summary = {
        "mirrored": rows_line(figures),
        "webhooks": f"{figures.events_accepted:,} accepted, {figures.events_applied:,} applied",
    }
    if lag["p50"] is not None:
        summary["webhook_to_row"] = (
            f"p50 {lag['p50']:,} ms, p99 {lag['p99']:,} ms (update rounds;"
            f" beside them {report.without_rows:,} events changed no row)"
        )
    summary["requests"] = f"{figures.api_requests:,} to Pluggy's API. {REAL_LIMIT}"
    summary["took"] = f"{report.took_s:.1f} s with {counted(report.workers, 'worker', 'workers')}"
    return summary


def rows_line(counts: Progress | Figures) -> str:
    """How many rows of the three main entities there are."""
    return (
        f"{counted(counts.items, 'item', 'items')}, {counts.accounts:,} accounts,"
        f" {counts.transactions:,} transactions"
    )
