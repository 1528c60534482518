"""The source alone: packages of worker/ and their imports, lengths of functions and files."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grimp

ROOT: Final = Path(__file__).resolve().parents[1]
PRODUCT: Final = ("worker", "webhook_receiver", "ops", "simulator", "embedded")


@dataclass(frozen=True, slots=True)
class Packages:
    """Direct children of worker/. layers: the longest chain of imports between them."""

    packages: int
    layers: int
    imports: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lines: of a function from its def to its end, of a file all."""

    number: int
    median: int
    p90: int
    longest: int


def packages_of_worker() -> Packages:
    graph = grimp.build_graph("worker", cache_dir=None)
    imports: set[tuple[str, str]] = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            imports.add((_package(module), _package(imported)))
    imports = {(a, b) for a, b in imports if a != b and "" not in (a, b)}
    packages = {_package(module) for module in graph.modules} - {""}
    below = {package: {b for a, b in imports if a == package} for package in packages}
    reached = {package: _reached(package, below) for package in packages}
    cycles = {package for package in packages if package in reached[package]}
    groups = {
        package: frozenset(r for r in reached[package] if package in reached[r])
        for package in packages
    }
    return Packages(
        packages=len(packages),
        layers=max(_layer(package, below, groups) for package in packages),
        imports=len(imports),
        cycles=len({groups[package] for package in cycles}),
    )


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _reached(package: str, below: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = set(below[package])
    while waiting:
        found.add(at := waiting.pop())
        waiting |= below[at] - found
    return found


def _layer(package: str, below: dict[str, set[str]], groups: dict[str, frozenset[str]]) -> int:
    """Packages on the longest chain of imports from this one; those of one cycle count as one."""
    cycle = groups[package] or {package}
    lower = {b for member in cycle for b in below[member]} - set(cycle)
    return 1 + max((_layer(b, below, groups) for b in lower), default=0)


def sources(packages: Iterable[str]) -> list[Path]:
    """Python files under git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *(f"{package}/*.py" for package in packages)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def line_counts(packages: Iterable[str]) -> list[int]:
    return [len(path.read_text(encoding="utf-8").splitlines()) for path in sources(packages)]


def function_lines(packages: Iterable[str]) -> list[int]:
    """Lines of every function and method; inner ones count too."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in sources(packages)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def lengths_of(lines: Sequence[int]) -> Lengths:
    ordered = sorted(lines)
    at = (len(ordered) // 2, len(ordered) * 9 // 10, -1)
    return Lengths(len(ordered), *(ordered[i] for i in at))
