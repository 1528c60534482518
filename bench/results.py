"""bench/results.json: the figures of the last run of each question, also in docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.charts import drawn
from bench.figures import page_with

RESULTS: Final = Path(__file__).with_name("results.json")
PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"


def load() -> dict[str, dict[str, Any]]:
    """The figures by question; none before the first run."""
    found: dict[str, dict[str, Any]] = {}
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else found


def record(question: str, figures: Mapping[str, Any]) -> None:
    """Replace the figures of one question, and keep the others."""
    found = load() | {question: dict(figures)}
    # Replaced whole: a run may be interrupted at any time.
    unfinished = RESULTS.with_suffix(".json.new")
    unfinished.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", "utf-8")
    unfinished.replace(RESULTS)


def write_page() -> None:
    """Write the tables of docs/performance.md, and the charts beside it."""
    found = load()
    charts = drawn(found)
    for old in PAGE.parent.glob("performance-*.svg"):
        if old.name not in charts:
            old.unlink()
    for name, svg in charts.items():
        (PAGE.parent / name).write_text(svg, "utf-8")
    PAGE.write_text(page_with(PAGE.read_text("utf-8"), found), "utf-8")
