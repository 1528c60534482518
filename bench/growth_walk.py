"""Memory of a worker that reads an account page by page: the demo with one item of a million rows.

The demo compares every row afterwards. 300,000 rows took seven minutes on two busy cores.
"""

from __future__ import annotations

import time
from typing import Any, Final

from bench.figures import spread
from tests.support.worker_memory import demo_of_one_item

ROWS: Final = 1_000_000


def measure(rows: int) -> dict[str, Any]:
    """Peak memory of the worker, and how long it took. Raises RuntimeError if a row differs."""
    began = time.perf_counter()
    summary, peak_kb = demo_of_one_item(rows)
    if summary["mismatches"]:
        raise RuntimeError(f"{summary['mismatches']} rows differ")
    return {
        f"walk, {rows:,} rows: peak MB of the worker": spread([peak_kb / 1024], 0),
        f"walk, {rows:,} rows: s of the demo": spread([time.perf_counter() - began], 0),
    }
