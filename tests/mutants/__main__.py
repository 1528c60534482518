"""`python -m tests.mutants [name ...]`: every planted fault must be noticed by its tests.

Each `NN_name.patch` is applied to a copy of the tree, where only the tests that it names are run:
they must fail there, in the test itself, and pass in a copy without the patch. A fault that shows
only where two things overlap has a few runs to show in; the run that found it is printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
AT_ONCE: Final = 3
TRIES: Final = 3
HANGS_AFTER_S: Final = 3600
LEFT_OUT: Final = (".git", ".venv", ".hypothesis", ".*_cache", "__pycache__", "build", "dist")


class BadMutant(Exception):
    """A patch that cannot be judged; the text says why."""


@dataclass(frozen=True)
class Mutant:
    """A patch, the promise that it breaks, and the tests that must notice."""

    path: Path
    breaks: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant; trouble says why it cannot be called killed."""

    mutant: Mutant
    trouble: str | None
    seconds: float
    runs: int


@dataclass(frozen=True)
class Report:
    """What pytest reported: the tests that ran, that failed in themselves, and beside."""

    ran: frozenset[str]
    failed: frozenset[str]
    broken: frozenset[str]
    output: str


def load(path: Path) -> Mutant:
    """Read a patch's header. Raises BadMutant."""
    head = path.read_text(encoding="utf-8").split("\n--- ", 1)[0]
    tests = re.findall(r"^# test: (.+)$", head, flags=re.M)
    breaks = re.findall(r"^# breaks: (.+)$", head, flags=re.M)
    if not tests or len(breaks) != 1:
        raise BadMutant(f"{path.name} names no `# test:` or not one `# breaks:`")
    return Mutant(path, breaks[0], tuple(test for line in tests for test in line.split()))


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """The tree as it is now, without what does not belong to it."""
    with tempfile.TemporaryDirectory(prefix="pluggy_sync_mutant_") as directory:
        copy = Path(directory) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        yield copy


def apply(mutant: Mutant, tree: Path) -> None:
    """Apply the patch. Raises BadMutant if the code it changes is no longer there.

    What a hunk takes away is looked for by its text, not by its line: code moves.
    """
    _, *files = re.split(r"^--- a/", mutant.path.read_text(encoding="utf-8"), flags=re.M)
    for file in files:
        head, _, hunks = file.partition("\n@@")
        name = head.partition("\n+++ b/")[2]
        path = tree / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for before, after in map(_sides, re.split(r"^@@.*\n", f"@@{hunks}", flags=re.M)[1:]):
            if text.count(before) != 1:
                raise BadMutant(f"no longer applies: {name} holds its lines {text.count(before)} x")
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")


def _sides(hunk: str) -> tuple[str, str]:
    """What a hunk looks for, and what it puts in its place."""
    lines = hunk.splitlines(keepends=True)
    before = (line[1:] for line in lines if line[0] in " -")
    return "".join(before), "".join(line[1:] for line in lines if line[0] in " +")


def run_tests(tree: Path, tests: Sequence[str]) -> Report:
    """Run tests in a copy of the tree, with this environment. Raises BadMutant if they hang."""
    report = tree.parent / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short"]
    try:
        done = subprocess.run(
            [*command, f"--junitxml={report}", *tests],
            cwd=tree,
            env=_environment(tree) | {"MUTANT": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANGS_AFTER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadMutant(f"its tests hang: {error.timeout:.0f} s") from error
    if not report.exists():
        return Report(frozenset(), frozenset(), frozenset(), done.stdout)
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - we had it written
    return Report(
        ran=frozenset(map(_node_id, cases)),
        failed=frozenset(_node_id(case) for case in cases if case.find("failure") is not None),
        broken=frozenset(_node_id(case) for case in cases if case.find("error") is not None),
        output=done.stdout,
    )


def _node_id(case: ElementTree.Element) -> str:
    """The test of a reported case, without its parameters."""
    path = case.get("classname", "").replace(".", "/")
    return f"{path}.py::{case.get('name', '').partition('[')[0]}"


def _environment(tree: Path) -> dict[str, str]:
    """The copy comes before the tree that is installed, and its tests have their own servers."""
    ours = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    return ours | {"PYTHONPATH": str(tree)}


def judge(mutant: Mutant) -> Verdict:
    """Apply a mutant to a copy and demand that its tests fail, each in the test itself."""
    started, runs = time.monotonic(), 0
    try:
        with copy_of_the_tree() as tree:
            apply(mutant, tree)
            trouble, runs = why_alive(mutant.tests, lambda tests: run_tests(tree, tests))
    except BadMutant as error:
        trouble = str(error)
    return Verdict(mutant, trouble, time.monotonic() - started, runs)


def why_alive(
    tests: Sequence[str], run: Callable[[Sequence[str]], Report]
) -> tuple[str | None, int]:
    """Why a mutant cannot be called killed, and how many runs there were.

    Every test that is named has to fail, not just one of them.
    """
    for number in range(1, TRIES + 1):
        report = run(tests)
        if missing := set(tests) - report.ran:
            return f"did not run: {', '.join(sorted(missing))}\n{report.output}", number
        tests = sorted(set(tests) - report.failed)
        if not tests:
            return None, number
    return f"SURVIVED {', '.join(tests)} ({len(report.broken)} errors)\n{report.output}", TRIES


def check_sound(mutants: Sequence[Mutant]) -> str | None:
    """What is wrong with the tests themselves: in a copy without patch all of them pass.

    Those that fail are run once more and named. `make test` is the judge of tests that fail now and
    then; hundreds of verdicts need not be lost to one of them here.
    """
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with copy_of_the_tree() as tree:
        if not _runs_the_copy(tree):
            return "the copy's code is not what its tests would import"
        run = run_tests(tree, tests)
        missing = set(tests) - run.ran
        if troubled := sorted(run.failed | run.broken):
            print(f"unpatched: run once more: {', '.join(troubled)}", flush=True)
            run = run_tests(tree, troubled)
    if missing or run.failed or run.broken:
        return f"the named tests do not pass without a patch:\n{run.output}"
    return None


def _runs_the_copy(tree: Path) -> bool:
    code = "import worker, webhook_receiver, ops; print(worker.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env=_environment(tree),
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()).is_relative_to(tree)


def chosen(names: Sequence[str]) -> list[Mutant]:
    """The mutants of these names (or numbers), or all. Raises BadMutant."""
    paths = sorted(HERE.glob("*.patch"))
    unknown = [name for name in names if not any(_named(path, name) for path in paths)]
    if unknown or not paths:
        raise BadMutant(f"no such mutant: {', '.join(unknown) or HERE}")
    return [load(p) for p in paths if not names or any(_named(p, name) for name in names)]


def _named(path: Path, name: str) -> bool:
    return name in (path.stem, path.name, path.stem.split("_", 1)[0], path.stem.split("_", 1)[-1])


def main(names: Sequence[str]) -> int:
    """Judge the mutants; 0 only if each was killed."""
    try:
        mutants = chosen(names)
    except BadMutant as error:
        print(f"mutants: {error}")
        return 1
    started = time.monotonic()
    if trouble := check_sound(mutants):
        print(f"mutants: {trouble}")
        return 1
    print(f"unpatched: the named tests pass ({time.monotonic() - started:.0f} s)", flush=True)
    alive = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for verdict in pool.map(judge, mutants):
            alive += verdict.trouble is not None
            _show(verdict)
    print(f"{len(mutants) - alive} of {len(mutants)} killed, {time.monotonic() - started:.0f} s")
    return int(alive > 0)


def _show(verdict: Verdict) -> None:
    mutant = verdict.mutant
    killed = "killed" if verdict.runs == 1 else f"killed in run {verdict.runs}"
    word = killed if verdict.trouble is None else verdict.trouble.splitlines()[0]
    print(f"{mutant.name:<42} {verdict.seconds:4.0f} s  {word}")
    print(f"    breaks: {mutant.breaks}")
    for test in mutant.tests:
        print(f"    {test}")
    if verdict.trouble and (more := verdict.trouble.splitlines()[1:]):
        print("\n".join(f"    | {line}" for line in more[-40:]))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
