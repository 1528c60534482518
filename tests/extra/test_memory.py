"""A large item is read page by page: the worker's memory does not grow with it."""

from __future__ import annotations

import pytest

from tests.support.worker_memory import demo_of_one_item

MAX_KB = 200 * 1024
ROWS = 200_000


@pytest.mark.timeout(1800)
def test_an_item_of_200_000_transactions_syncs_within_200_mb() -> None:
    summary, peak_kb = demo_of_one_item(ROWS)
    assert summary["transactions"] >= ROWS
    assert summary["mismatches"] == 0
    assert peak_kb < MAX_KB
