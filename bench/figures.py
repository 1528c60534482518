"""Figures of bench/results.json: spreads, the table of docs/performance.md, and what got worse.

A figure is a whole number, a count that must not rise, or a spread. That of a name with ` / ` is a
ratio of ours to another way in the same round: more is better. Others depend on the machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bench.charts import CHARTS, svg
from bench.targets import targets_table

Results = Mapping[str, Mapping[str, Any]]

WORSE: Final = 1.25
RATIO: Final = " / "
WIDE: Final = "growth"
"""The question that has a column for each size and unit."""
START: Final = "<!-- figures: written by make bench -->"
END: Final = "<!-- end of figures -->"


def spread(values: Sequence[float], digits: int) -> dict[str, float]:
    """The median, the least and the most."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def p99(times: Sequence[float]) -> float:
    """The 99th percentile."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def worse(committed: Results, found: Results) -> Iterator[str]:
    """A line for each count or ratio that is worse by more than a quarter."""
    for question, figures in found.items():
        for name, value in figures.items():
            before = committed.get(question, {}).get(name)
            if before is not None and _is_worse(name, before, value):
                yield f"{question}: {name}: {_text(before)} before, {_text(value)} now"


def not_compared(committed: Results, found: Results) -> Iterator[str]:
    """A line for each figure that only one side has."""
    for question, figures in found.items():
        before = committed.get(question, {})
        yield from (f"{question}: {name}: not committed" for name in figures.keys() - before.keys())
        yield from (f"{question}: {name}: not measured" for name in before.keys() - figures.keys())


def _is_worse(name: str, before: Any, now: Any) -> bool:
    if isinstance(now, int) and isinstance(before, int):
        return now > before * WORSE
    if RATIO in name and isinstance(now, Mapping):
        return bool(now["median"] * WORSE < before["median"])
    return False


def page_with(page: str, results: Results) -> str:
    """The page with its tables written again. Raises ValueError if it has no place for them."""
    before, after = page.index(START) + len(START), page.index(END)
    tables = [targets_table(results), *(_table(*entry) for entry in sorted(results.items()))]
    shown = "\n\n".join(filter(None, tables))
    return f"{page[:before]}\n\n{shown}\n\n{page[after:]}"


def _table(question: str, figures: Mapping[str, Any]) -> str:
    if question == WIDE:
        return _wide_table(question, figures)
    lines = [f"### {question.capitalize()}", ""]
    for chart in CHARTS:
        if chart.question == question and svg(chart, figures):
            lines += [f"![{chart.title}]({chart.file})", ""]
    lines += ["| figure | median | spread |", "|---|---|---|"]
    for name, value in sorted(figures.items(), key=lambda entry: RATIO not in entry[0]):
        if isinstance(value, Mapping):
            lines.append(f"| {name} | {value['median']:g} | {value['min']:g} to {value['max']:g} |")
        else:
            lines.append(f"| {name} | {value} | |")
    return "\n".join(lines)


def _wide_table(question: str, figures: Mapping[str, Any]) -> str:
    """A line for each statement; its figures are named `statement, size: unit`. Medians alone."""
    columns = list(dict.fromkeys(name.rpartition(", ")[2] for name in figures))
    columns.sort(key=lambda column: (len(column.partition(":")[0]), column))
    statements = sorted({name.rpartition(", ")[0] for name in figures})
    lines = [f"### {question.capitalize()}", "", f"| statement | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for statement in statements:
        values = (_text(figures.get(f"{statement}, {column}", "")) for column in columns)
        lines.append(f"| {statement} | {' | '.join(values)} |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    return str(value["median"] if isinstance(value, Mapping) else value)
