"""The import rules of pyproject.toml catch each forbidden import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("embedded", "ops", "simulator", "tests", "webhook_receiver", "worker")

LINT = "from importlinter.cli import lint_imports_command as lint; lint()"

# A module, what it is made to import, and the rule that forbids it.
PLANTED = [
    ("worker.infra.log", "worker.engine.job", "worker: each folder imports only lower ones"),
    ("worker.store.runs", "worker.inbox.drain", "worker: each folder imports only lower ones"),
    ("worker.inbox.drain", "worker.pluggy_api.http", "worker: each folder imports only lower ones"),
    ("worker.planner.steps", "worker.lease.runs", "worker: each folder imports only lower ones"),
    ("webhook_receiver.intake", "worker.planner.plan", "The receiver knows nothing of Pluggy"),
    (
        "worker.inbox.spool",
        "worker.store.runs",
        "Of the store the receiver and the inbox take only",
    ),
    ("worker.infra.metrics", "webhook_receiver.app", "ops > webhook_receiver > worker"),
    ("worker.sync.by_id", "arq", "Only the wake-up and the Redis client know arq"),
    ("ops.roles", "simulator.world", "The simulator is only ever a process"),
    ("embedded.ports", "worker.infra.log", "The simulator and the embedded servers import nothing"),
    ("worker.main", "tests.conftest", "Only ops starts embedded servers"),
    ("ops.compare.rows", "worker.infra.parsing", "The comparison is a second opinion"),
    ("tests.oracle.comparison", "worker.sync.store_rows", "The oracle shares no code with what it"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Report of import-linter for a copy with all violations planted."""
    copy = tmp_path_factory.mktemp("planted")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.patch", "node_modules")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for module, imported, _ in PLANTED:
        with (copy / (module.replace(".", "/") + ".py")).open("a", encoding="utf-8") as file:
            file.write(f"\nimport {imported}\n")
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("module", "imported", "rule"), PLANTED, ids=lambda text: text)
def test_a_planted_import_breaks_its_rule(
    module: str, imported: str, rule: str, report: str
) -> None:
    sections = re.split(r"\n(?=[^\n]+\n-+\n)", report.partition("Broken contracts")[2])
    found = [section for section in sections if section.startswith(rule)]
    assert len(found) == 1
    assert re.search(rf"{re.escape(module)} -> {re.escape(imported)} \(l\.", found[0])


def test_every_rule_has_a_planted_import(report: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    _, _, rules = text.partition("[tool.importlinter]")
    names = re.findall(r'^name = "(.*)"$', rules, flags=re.M)
    assert names
    assert [n for n in names if not any(n.startswith(rule) for *_, rule in PLANTED)] == []
