"""docs/glossary.md defines the words of the code, and every name in it is a name of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from worker.infra.lanes import Lane
from worker.planner.steps import PlannedStep

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "glossary.md"
PACKAGES: Final = ("worker", "webhook_receiver", "ops")
ROW: Final = re.compile(r"^\| ([a-z][\w -]*) \| (`[^|]+`) \| (.+) \|$", flags=re.M)
FIRST_SCREEN_LINES: Final = 25


def rows() -> list[tuple[str, list[str], str]]:
    """Word, names in the code, and meaning of each line."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [(word, re.findall(r"`([^`]+)`", names), text) for word, names, text in found]


def python_names() -> Iterator[str]:
    """Identifiers, and strings that are one word: names of statements, columns and events."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for field in ("id", "attr", "name", "arg", "value"):
                    name = getattr(node, field, None)
                    if isinstance(name, str) and re.fullmatch(r"[\w/-]+", name):
                        yield name


def sql_names() -> Iterator[str]:
    for path in (ROOT / "sql").rglob("*.sql"):
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r"^-- name: (\w+)", text, flags=re.M)
        yield from re.findall(r"\w+", re.sub(r"--.*|'[^']*'", "", text))


@pytest.fixture(scope="module")
def names() -> frozenset[str]:
    return frozenset(python_names()) | frozenset(sql_names())


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def test_every_name_in_the_glossary_is_a_name_of_the_code(names: frozenset[str]) -> None:
    environment = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    unknown = [
        name
        for _, found, _ in rows()
        for name in found
        if name not in names and f"`{name}`" not in environment
    ]
    assert unknown == []


def test_every_word_stands_in_the_names_beside_it() -> None:
    """By its first six letters, so that `confirmation` stands in `confirming`."""
    lost = [
        word
        for word, found, _ in rows()
        if not all(part[:6] in " ".join(map(snake, found)) for part in word.split())
    ]
    assert lost == []


def test_the_glossary_is_in_order_and_defines_every_word_once() -> None:
    words, page = [word for word, _, _ in rows()], PAGE.read_text(encoding="utf-8")
    assert words == sorted(set(words))
    assert len(words) == page.count("\n| ") - 1
    assert page.count("\n\n| ") == page.count("\n\n| word | in the code | meaning |\n|---|") == 1


def test_every_table_of_the_state_is_in_the_glossary() -> None:
    tables = set[str]()
    for path in sorted((ROOT / "sql" / "migrations").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        tables |= set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?pluggy_sync\.(\w+)", text))
    assert tables - {name for _, found, _ in rows() for name in found} == set()


def test_every_lane_and_every_kind_of_step_is_in_the_glossary_or_on_the_page_of_states() -> None:
    page = PAGE.read_text(encoding="utf-8")
    states = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [lane.name for lane in Lane if lane.name.lower() not in page] == []
    assert [step.__name__ for step in get_args(PlannedStep) if step.__name__ not in states] == []


def test_every_event_of_our_own_is_in_the_glossary(names: frozenset[str]) -> None:
    own = {name for name in names if re.fullmatch(r"sync/[\w-]+", name)}
    in_glossary = {name for _, found, _ in rows() for name in found}
    assert own - in_glossary - {"sync/ping"} == set()


def test_the_readme_links_the_glossary_on_its_first_screen() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "docs/glossary.md" in "\n".join(lines[:FIRST_SCREEN_LINES])
