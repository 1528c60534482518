"""What figures of bench/results.json are to reach, and why one does not: a table of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a question and its bound. why: what limits it, shown where it is missed."""

    what: str
    question: str
    figure: str
    bound: float
    at_least: bool = False
    why: str = ""

    def is_met(self, value: float) -> bool:
        """Whether the value is on the right side of the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


IN_BOTH: Final = (
    "decoding and mapping each row in Python, its JSON and eight indexes in Postgres are in both;"
    " COPY saves only the statements, and ours also hashes each row and writes under a lease"
)
AT_THE_LINE: Final = "at the line: the rounds of one run lie on both sides of it"
TARGETS: Final = (
    Target("accepted to started, 20 events/s, p50 ms", "wake", "ours: p50 ms", 10),
    Target("accepted to started, 20 events/s, p99 ms", "wake", "ours: p99 ms", 25),
    Target(
        "accepted to visible row, a delta, p50 ms",
        "visible",
        "delta, 0 ms an answer: p50 ms",
        18,
        why="claim, item, list, page and their commits follow each other; "
        "whole milliseconds are measured",
    ),
    Target(
        "accepted to visible row, a delta, p99 ms", "visible", "delta, 0 ms an answer: p99 ms", 50
    ),
    Target(
        "item/updated with all products, settled, p50 ms",
        "visible",
        "item/updated, settled, 0 ms an answer: p50 ms",
        60,
    ),
    Target(
        "the same with 150 ms an answer: three answers and 60 ms",
        "visible",
        "item/updated, settled, 150 ms an answer: p50 ms",
        510,
        why="what one item asks for together is stored one answer after the other",
    ),
    Target(
        "deliveries/s, durable: ours / bare aiohttp",
        "accept",
        "deliveries/s: ours / bare aiohttp",
        0.3,
        at_least=True,
        why="the receiver, Postgres and the client share two cores",
    ),
    Target(
        "deliveries/s, durable: ours / INSERT + enqueue_job",
        "accept",
        "deliveries/s: ours / INSERT + enqueue_job",
        4,
        at_least=True,
        why="Postgres and the client take their part of the two cores in both; by the CPU of the"
        " receivers alone (CPU us a delivery, below) the ratio is larger",
    ),
    Target(
        "accept at half of its load, p99 ms",
        "accept",
        "ours at half of its load, p99 ms",
        8,
        why="one delivery in a hundred waits for the commit of the group before it, and that for"
        " the disk",
    ),
    Target("first load: ours / COPY", "store", "first: ours / COPY", 0.5, at_least=True),
    Target(
        "first load: ours / executemany",
        "store",
        "first: ours / executemany",
        1.5,
        at_least=True,
        why=IN_BOTH,
    ),
    Target(
        "unchanged rows: ours / executemany",
        "store",
        "unchanged: ours / executemany",
        5,
        at_least=True,
        why=AT_THE_LINE,
    ),
    Target("unchanged rows, WAL B/row", "store", "unchanged ours, WAL B/row", 0),
    Target(
        "5 % of the rows changed: ours / executemany",
        "store",
        "5 %: ours / executemany",
        4,
        at_least=True,
        why=AT_THE_LINE,
    ),
    Target(
        "backfill, time: script with httpx and psycopg / ours",
        "job",
        "backfill, speed: ours / httpx + psycopg",
        1.5,
        at_least=True,
        why="one thread decodes and stores the rows of all items (0.7 of a core), Postgres and the"
        " simulator share the other core, and a sixth of the two is idle",
    ),
    Target(
        "backfill, CPU: script with httpx and psycopg / ours",
        "job",
        "backfill, CPU of a client: httpx + psycopg / ours",
        1.2,
        at_least=True,
        why=IN_BOTH,
    ),
    Target(
        "delta, time: script with httpx and psycopg / ours",
        "job",
        "delta, speed: ours / httpx + psycopg",
        10,
        at_least=True,
    ),
    Target("delta, time: dlt / ours", "job", "delta, speed: ours / dlt", 30, at_least=True),
    Target("backfill, requests: as many as the script", "job", "backfill, ours, requests", 60),
    Target("delta, requests: half of the script's 80", "job", "delta, ours, requests", 40),
    Target("overview, 100,000 items, ms", "growth", "overview, 100,000 items: ms", 100),
    Target("worklist, 100,000 items, ms", "growth", "worklist, 100,000 items: ms", 100),
    Target(
        "findings (for status), 100,000 items, ms", "growth", "findings, 100,000 items: ms", 100
    ),
    Target(
        "freshness of one of 100,000 items, ms",
        "growth",
        "freshness of one item, 100,000 items: ms",
        1,
        why="this is with planning; a statement that is planned already takes a quarter of it",
    ),
    Target("freshness of 100,000 items, ms", "growth", "freshness, 100,000 items: ms", 1000),
    Target(
        "claim of the oldest of 100,000 items, ms",
        "growth",
        "claim_oldest_item, 100,000 items: ms",
        2,
    ),
    Target("backlog of 100,000 items, ms", "growth", "backlog, 100,000 items: ms", 5),
    Target(
        "deltas a second of CPU: 1,000,000 rows / 10,000 rows (1 / 1.15)",
        "growth of an account",
        "deltas a second of CPU: 1,000,000 rows / 10,000 rows",
        0.87,
        at_least=True,
    ),
    Target("syncs/s of 1 worker", "scale", " 1 workers, syncs/s", 17, at_least=True),
    Target("syncs/s of 2 workers", "scale", " 2 workers, syncs/s", 33, at_least=True),
    Target(
        "syncs/s of 4 workers",
        "scale",
        " 4 workers, syncs/s",
        60,
        at_least=True,
        why="their commits wait for one disk; the simulator, Postgres and Redis share the cores",
    ),
    Target(
        "worker on an account of 1,000,000 rows, peak MB",
        "growth of an account",
        "walk, 1,000,000 rows: peak MB of the worker",
        150,
    ),
    Target(
        "receiver with 10,000 connections, MB",
        "held connections",
        "receiver, 10,000 held connections: MB",
        300,
    ),
)


def targets_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each target whose figure there is; empty if there is none."""
    lines = list(_lines(results))
    head = ["### Targets", "", "| what | target | figure | |", "|---|---|---|---|"]
    return "\n".join([*head, *lines]) if lines else ""


def _lines(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for target in TARGETS:
        value = results.get(target.question, {}).get(target.figure)
        if value is not None:
            bound = f"at {'least' if target.at_least else 'most'} {target.bound:g}"
            shown = f"{value['median']:g}" if isinstance(value, Mapping) else value
            yield f"| {target.what} | {bound} | {shown} | {verdict(target, value)} |"


def verdict(target: Target, value: Any) -> str:
    """Of the median and of the worst round, with the reason of what is missed."""
    if not isinstance(value, Mapping):
        value = {"median": value, "min": value, "max": value}
    if target.is_met(value["median"]):
        worst = value["min" if target.at_least else "max"]
        return "met" if target.is_met(worst) else f"met, but for single rounds ({worst:g})"
    return f"**missed**: {target.why}" if target.why else "**missed**"
