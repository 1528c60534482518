"""docs/architecture.md and docs/events.md name files, states and columns that there are."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from bench.structure import CREATED, follow_both
from worker.infra.postgres import Pool
from worker.infra.sql_files import QUERIES_DIR, named_statements

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
EVENTS: Final = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
# One line of its picture: its number, a folder, and files of it in their order.
STAGE: Final = re.compile(r"^ ?\d+ +([\w/]+/) +([\w/]+(?: → [\w/]+)*)", flags=re.M)
ROWS: Final = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", flags=re.M)
TABLES: Final = {
    "States of an item in the queue": ("item_sync", "item_leases"),
    "States of a step": ("product_sync",),
    "States of a walk": ("account_walks",),
}


def section(title: str) -> str:
    """The text between a heading and the next one of its level."""
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def drawn_states(text: str) -> set[str]:
    """Names of the states in a diagram."""
    arrows = re.findall(r"^  (\S+) --> (\w+|\[\*\])", text, flags=re.M)
    return {state for arrow in arrows for state in arrow} - {"[*]"}


def pages() -> list[Path]:
    """Every Markdown file under git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    found = [ROOT / name for name in listed.split("\0") if name]
    return found or [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def named_files(text: str) -> set[str]:
    """Paths in code or diagrams, without placeholders."""
    return set(re.findall(r"(?<![\w/<.{-])((?:[\w.]+/)+[\w.]+\.(?:py|sql|md|yaml|toml))\b", text))


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    named = named_files(path.read_text(encoding="utf-8"))
    places = (ROOT, path.parent, ROOT / "worker", ROOT / "sql" / "queries")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_index_of_the_documentation_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} - listed == set()


async def test_the_states_of_an_event_are_those_that_the_database_allows(db: Pool) -> None:
    [allowed] = [
        record["rule"]
        for record in await db.fetch(
            "SELECT pg_get_constraintdef(oid) AS rule FROM pg_constraint"
            " WHERE conrelid = 'pluggy_sync.webhook_events'::regclass AND contype = 'c'"
        )
        if "state" in record["rule"]
    ]
    text = section("States of an event")
    states = set(re.findall(r"'(\w+)'", allowed))
    assert drawn_states(text) == states
    assert {state for state, _ in ROWS.findall(text)} == states


@pytest.mark.parametrize("title", TABLES)
async def test_every_state_is_defined_by_columns_that_there_are(db: Pool, title: str) -> None:
    text = section(title)
    columns = await db.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'pluggy_sync' AND table_name = ANY ($1)",
        list(TABLES[title]),
    )
    named = {name for _, cell in ROWS.findall(text) for name in re.findall(r"`(\w+)`", cell)}
    assert named
    assert named - {record["column_name"] for record in columns} == set()
    assert drawn_states(text) == {state for state, _ in ROWS.findall(text)}


def test_the_folders_of_the_worker_are_drawn_as_the_import_rules_have_them() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [
        rule["layers"]
        for rule in rules["tool"]["importlinter"]["contracts"]
        if rule.get("containers") == ["worker"]
    ]
    text = section("Folders of worker/")
    arrows = re.search(r"flowchart TD\n(.+?)```", text, flags=re.S)
    assert arrows is not None
    drawn = re.sub(r'\["[^"]+"\]', "", arrows[1])
    floors = [set(part.split(" & ")) for part in re.split(r" --> |\n\s*", drawn.strip())]
    in_order = [floor for at, floor in enumerate(floors) if floor not in floors[:at]]
    assert in_order == [{room.strip() for room in layer.split("|")} for layer in layers]


def test_the_statements_in_the_sequence_exist() -> None:
    sequence = section("The way of one event")
    said = re.findall(r"->>D: ([^:\n]+)", sequence)
    named = {name for line in said for name in re.findall(r"[a-z_]+", line)}
    assert named
    files = QUERIES_DIR.rglob("*.sql")
    assert named - {name for path in files for name, _ in named_statements(path)} == set()


async def test_the_pictures_show_the_files_of_one_event_in_the_order_of_execution() -> None:
    """`python -m bench.structure --path` lists them; store/ and infra/ are left out."""
    way = (await follow_both())[CREATED].path
    path = [name for name in way if not name.startswith(("worker/infra/", "worker/store/"))]
    stages = [
        [f"{folder}{name}.py" for name in names.split(" → ")]
        for folder, names in STAGE.findall(EVENTS)
    ]
    assert sorted(name for stage in stages for name in stage) == sorted(path)
    for stage in stages:
        assert stage == sorted(stage, key=path.index)
    firsts = [stage[0] for stage in stages]
    assert firsts == sorted(firsts, key=path.index)
    drawn = re.findall(r"participant \w as (\S+\.py)", PAGE)
    assert drawn == sorted(drawn, key=path.index)
