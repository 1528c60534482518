"""What `make bench` writes into docs/performance.md, and what it calls worse."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from bench.charts import SCALE, drawn
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
    text, results = PAGE.read_text(encoding="utf-8"), load()
    assert page_with(text, results) == text
    charts = {path.name: path.read_text("utf-8") for path in PAGE.parent.glob("performance-*.svg")}
    assert charts == drawn(results)


def test_a_chart_has_a_bar_for_each_figure_of_its_unit_and_none_without() -> None:
    figures = {"ours, deliveries/s": spread([3.0, 4.0, 9.0], 0), "ours, p50 ms": spread([7.0], 0)}
    peer = {"INSERT & enqueue_job, deliveries/s": spread([1.0], 0)}
    [(file, text)] = drawn({"accept": figures | peer, "job": {"delta, requests": 3}}).items()
    assert file == "performance-accept.svg"
    root = ElementTree.fromstring(text)  # noqa: S314 - our own
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [(bar.get("class"), float(bar.get("width", 0))) for bar in bars] == [
        ("other", SCALE / 9),
        ("ours", pytest.approx(SCALE * 4 / 9)),
    ]
    assert "![" in page_with(f"{START}\n{END}", {"accept": figures})
