"""Each mutant's patch applies and names tests that exist."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mutants.__main__ import HERE, ROOT, BadMutant, apply, load

PATCHES = sorted(HERE.glob("*.patch"), key=lambda path: int(path.stem.split("_", 1)[0]))
CODE = ("ops", "worker", "webhook_receiver", "sql", "simulator", "embedded", "k8s", "bench")
FILES = ("compose.yaml",)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in CODE:
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_planted_fault_changes_the_code_as_it_is(path: Path, tree: Path) -> None:
    apply(load(path), tree)
    changed = [
        found
        for found in tree.rglob("*")
        if found.suffix in (".py", ".sql", ".yaml")
        and found.read_bytes() != (ROOT / found.relative_to(tree)).read_bytes()
    ]
    assert changed
    for found in changed:
        if found.suffix == ".py":
            compile(found.read_text(encoding="utf-8"), str(found), "exec")


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_planted_fault_names_tests_that_exist(path: Path) -> None:
    for test in load(path).tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_a_patch_whose_code_is_gone_is_refused(tree: Path) -> None:
    apply(load(PATCHES[0]), tree)
    with pytest.raises(BadMutant, match="no longer applies"):
        apply(load(PATCHES[0]), tree)


def test_the_faults_are_numbered_and_named_once() -> None:
    numbers = [path.stem.split("_", 1)[0] for path in PATCHES]
    assert len(set(map(int, numbers))) == len(numbers)
    assert all(number == f"{int(number):02}" for number in numbers)
    assert len({path.stem.split("_", 1)[1] for path in PATCHES}) == len(PATCHES)
