"""The duel of the demo: each bad second shows in the handler's column, and none in ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HANGS_AFTER_S = 1200.0
pytestmark = pytest.mark.timeout(HANGS_AFTER_S + 60)
FAULTS = ("missing", "doubled", "stale", "wrongly_deleted")


def test_every_bad_second_shows_in_the_other_column_alone() -> None:
    command = [sys.executable, "-m", "ops", "demo", "--duel", "--exit", "--json"]
    done = subprocess.run(
        [*command, "--transactions", "300", "--rounds", "1"],
        capture_output=True, text=True, timeout=HANGS_AFTER_S, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    duel = json.loads(line)["duel"]
    assert [duel["pluggy-sync"][fault] for fault in FAULTS] == [0, 0, 0, 0]
    assert all(duel["the handler"][fault] > 0 for fault in FAULTS), duel
    ours, handler = duel["pluggy-sync"], duel["the handler"]
    assert 0 < ours["ms_to_visible"] < ours["longest_ms_to_visible"]
    assert 0 < ours["api_requests_of_check"] < ours["api_requests"]
    assert handler["api_requests"] > 0
    assert handler["ms_to_visible"] > 0
    for line in ("transactions wrongly deleted", "ms to visible, median", "ms to visible, longest"):
        assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_duel_needs_an_item_for_each_thing_that_goes_wrong() -> None:
    command = [sys.executable, "-m", "ops", "demo", "--duel", "--items", "4"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=HANGS_AFTER_S, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert "--duel needs --items 5 or more" in done.stderr
