"""Each mutant's patch applies and names tests that exist."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutants.__main__ import HERE, ROOT, TRIES, BadMutant, Report, apply, load, why_alive

PATCHES = sorted(HERE.glob("*.patch"), key=lambda path: int(path.stem.split("_", 1)[0]))
CODE = ("ops", "worker", "webhook_receiver", "sql", "simulator", "embedded", "k8s", "bench")
FILES = ("compose.yaml",)


def copy_code(path: Path, tree: Path) -> None:
    """Copy the files of code that a patch changes; a fault in anything else does not apply."""
    for name in re.findall(r"^--- a/(.+)$", path.read_text(encoding="utf-8"), flags=re.M):
        if (name.split("/")[0] in CODE or name in FILES) and (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_planted_fault_changes_the_code_as_it_is(path: Path, tmp_path: Path) -> None:
    copy_code(path, tmp_path)
    apply(load(path), tmp_path)
    changed = [
        found
        for found in tmp_path.rglob("*")
        if found.suffix in (".py", ".sql", ".yaml")
        and found.read_bytes() != _original(found.relative_to(tmp_path))
    ]
    assert changed
    for found in changed:
        if found.suffix == ".py":
            compile(found.read_text(encoding="utf-8"), str(found), "exec")


def _original(name: Path) -> bytes:
    return (ROOT / name).read_bytes() if (ROOT / name).exists() else b""


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_planted_fault_names_tests_that_exist(path: Path) -> None:
    for test in load(path).tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_a_patch_whose_code_is_gone_is_refused(tmp_path: Path) -> None:
    copy_code(PATCHES[0], tmp_path)
    apply(load(PATCHES[0]), tmp_path)
    with pytest.raises(BadMutant, match="no longer applies"):
        apply(load(PATCHES[0]), tmp_path)


def test_the_faults_are_numbered_and_named_once() -> None:
    numbers = [path.stem.split("_", 1)[0] for path in PATCHES]
    assert len(set(map(int, numbers))) == len(numbers)
    assert all(number == f"{int(number):02}" for number in numbers)
    assert len({path.stem.split("_", 1)[1] for path in PATCHES}) == len(PATCHES)


def test_a_fault_is_noticed_only_if_each_of_its_tests_fails_within_a_few_runs() -> None:
    runs: list[Sequence[str]] = []

    def run(tests: Sequence[str]) -> Report:
        runs.append(tests)
        failed = {"at once"} if len(runs) == 1 else {"now and then"} if len(runs) == 2 else set()
        return Report(frozenset(tests), frozenset(failed & set(tests)), frozenset(), "the log")

    assert why_alive(["at once", "now and then"], run) == (None, 2)
    assert runs == [["at once", "now and then"], ["now and then"]]
    assert why_alive(["never"], run) == ("SURVIVED never (0 errors)\nthe log", TRIES)
    none_ran = Report(frozenset(), frozenset(), frozenset(), "the log")
    assert why_alive(["gone"], lambda _: none_ran) == ("did not run: gone\nthe log", 1)
