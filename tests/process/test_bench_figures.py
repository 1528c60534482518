"""What `make bench` writes into docs/performance.md, and what it calls worse."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.charts import SCALE, drawn
from bench.figures import END, START, not_compared, page_with, spread, worse
from bench.results import PAGE, load
from bench.targets import TARGETS, Target, targets_table, verdict
from bench.work import announced
from tests.support.waiting import until

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


def test_figures_of_one_side_alone_are_named() -> None:
    renamed = {"accept": {"ours / bare": FAST["accept"]["ours / bare"], "requests, all": 12}}
    assert sorted(not_compared(FAST, renamed)) == [
        "accept: requests, all: not committed",
        "accept: requests: not measured",
    ]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that the account of the servers may enter too."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def below(directory: Path, pattern: str) -> list[Path]:
    return list(directory.glob(pattern))


async def test_a_terminated_run_leaves_no_directory_of_a_server(open_directory: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "economy"),
        env=os.environ | {"TMPDIR": str(open_directory)},
    )

    async def serves() -> bool:
        return bool(below(open_directory, "*/data/simulator.log"))

    try:
        await until(serves, "the servers run")
        process.terminate()
        assert await process.wait() == 1
    finally:
        if process.returncode is None:
            process.kill()
    assert not below(open_directory, "*")


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


def test_each_target_is_judged_by_a_committed_figure_and_a_missed_one_has_its_reason() -> None:
    results = load()
    for target in TARGETS:
        value = results[target.question][target.figure]
        assert verdict(target, value) != "**missed**", target.what
    assert targets_table(results) in PAGE.read_text(encoding="utf-8")


def test_the_targets_of_counted_work_are_met() -> None:
    work = announced(PAGE.read_text(encoding="utf-8"))
    delta = work["transactions/created with news"]
    assert delta.round_trips <= 16
    assert work["item/updated without news"].round_trips <= 40
    assert delta.redis_commands + A_BLPOP <= 20


A_BLPOP = 1
LEAST = Target("ours / bare", "accept", "ours / bare", 0.3, at_least=True, why="the disk")
MOST = Target("p99 ms", "accept", "p99 ms", 8, why="the disk")


@pytest.mark.parametrize(
    ("target", "value", "said"),
    [
        (LEAST, spread([0.3, 0.4, 0.5], 1), "met"),
        (LEAST, spread([0.2, 0.3, 0.5], 1), "met, but for single rounds (0.2)"),
        (LEAST, spread([0.1, 0.2, 0.5], 1), "**missed**: the disk"),
        (MOST, spread([6, 8, 8], 0), "met"),
        (MOST, spread([6, 7, 9], 0), "met, but for single rounds (9)"),
        (MOST, spread([6, 9, 9], 0), "**missed**: the disk"),
        (MOST, 8, "met"),
        (MOST, 9, "**missed**: the disk"),
    ],
)
def test_a_target_is_met_by_the_median_and_says_what_the_worst_round_was(
    target: Target, value: object, said: str
) -> None:
    assert verdict(target, value) == said


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
