"""What `make bench` writes into docs/performance.md, and what it calls worse."""

from __future__ import annotations

import pytest

from bench.figures import END, START, page_with, spread, worse
from bench.results import PAGE, load

FAST = {"accept": {"ours / bare": {"median": 0.4, "min": 0.3, "max": 0.5}, "requests": 12}}


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"ours / bare": {"median": 0.33, "min": 0.3, "max": 0.4}, "requests": 12}, []),
        ({"ours / bare": {"median": 0.3, "min": 0.3, "max": 0.4}, "requests": 12}, ["ours / bare"]),
        ({"ours / bare": {"median": 0.9, "min": 0.8, "max": 1.0}, "requests": 16}, ["requests"]),
        ({"new / bare": {"median": 0.1, "min": 0.1, "max": 0.1}, "new requests": 99}, []),
    ],
)
def test_counts_and_ratios_are_worse_by_more_than_a_quarter(
    figures: dict[str, object], named: list[str]
) -> None:
    lines = list(worse(FAST, {"accept": figures}))
    assert [line.split(": ")[1] for line in lines] == named


def test_times_are_never_called_worse() -> None:
    before, now = {"p50 ms": spread([1.0], 1)}, {"p50 ms": spread([9.0], 1)}
    assert not list(worse({"accept": before}, {"accept": now}))


def test_the_page_keeps_what_is_around_its_figures() -> None:
    page = f"before\n{START}\nold\n{END}\nafter\n"
    written = page_with(page, FAST)
    assert written.startswith(f"before\n{START}\n")
    assert written.endswith(f"\n{END}\nafter\n")
    assert "old" not in written
    assert "| ours / bare | 0.4 | 0.3 to 0.5 |" in written
    assert page_with(written, FAST) == written


def test_the_page_of_performance_shows_the_figures_of_the_last_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page_with(text, load()) == text
