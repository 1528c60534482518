"""bench/results.json: the figures of the last run of each question."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results.json")


def record(question: str, figures: Mapping[str, Any]) -> None:
    """Replace the figures of one question, and keep the others."""
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    found[question] = dict(figures)
    RESULTS.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", "utf-8")
