"""docs/log-events.md has every log event of the code with its levels, and no other one."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from worker.infra.outage_log import BACK
from worker.infra.outage_words import Outage

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "log-events.md"
PACKAGES: Final = ("worker", "webhook_receiver", "ops")
LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
# The only names that are computed: the words for outages, and the ends of outages.
COMPUTED: Final[Mapping[str, frozenset[str]]] = {
    "self.word": frozenset(Outage) | frozenset(f"{server}_away" for server in BACK),
    "redis_outage(error)": frozenset(w for w in Outage if w.startswith("redis_")),
    "Outage.POSTGRES_NOT_MIGRATED": frozenset({Outage.POSTGRES_NOT_MIGRATED}),
    "BACK[self.server]": frozenset(BACK.values()),
}
LOGGERS: Final = ("structlog.get_logger()", "LazyLog()")
ROW: Final = re.compile(r"^\| `(\w+)` \| ([\w, ]+) \| (.+) \|$", flags=re.M)


def loggers() -> Iterator[tuple[ast.Module, list[str]]]:
    """Each module that has a logger, with the names that it gives it."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ast.parse(path.read_text(encoding="utf-8"))
            names = [
                ast.unparse(target)
                for node in ast.walk(module)
                if isinstance(node, ast.Assign)
                and re.search("structlog.get_logger|LazyLog", ast.unparse(node.value))
                for target in node.targets
            ]
            if names:
                yield module, names


def log_calls() -> Iterator[tuple[str, ast.expr]]:
    """Level and first argument of every call of a method of `log`."""
    for module, _ in loggers():
        for node in ast.walk(module):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("log"), attr=level), args=[name]):
                    yield LEVELS[level], name


def names_of(argument: ast.expr) -> frozenset[str]:
    if isinstance(argument, ast.Constant):
        return frozenset({str(argument.value)})
    return COMPUTED[ast.unparse(argument)]


def logged() -> dict[str, set[str]]:
    """The levels of every event that the code logs."""
    found: dict[str, set[str]] = defaultdict(set)
    for level, argument in log_calls():
        for name in names_of(argument):
            found[str(name)].add(level)
    return dict(found)


def documented() -> dict[str, set[str]]:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(rows) == len({name for name, _, _ in rows}), "an event stands on the page twice"
    return {name: set(levels.split(", ")) for name, levels, _ in rows}


def test_every_logger_is_called_log() -> None:
    assert {name for _, names in loggers() for name in names} == {"log"}


def test_every_log_event_is_on_its_page_with_its_levels() -> None:
    on_page = documented()
    assert {name: levels for name, levels in logged().items() if on_page.get(name) != levels} == {}


def test_no_log_event_is_on_the_page_that_the_code_does_not_log() -> None:
    assert set(documented()) - set(logged()) == set()


def test_every_log_event_is_explained_by_a_sentence() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [name for name, _, text in rows if len(text.split()) < 5 or text.count(".") < 1] == []
