"""Named SQL statements: `-- name: x` in `sql/queries/**/*.sql` begins the statement `x`."""

from __future__ import annotations

import re
from pathlib import Path

SQL_DIR = Path(__file__).resolve().parents[2] / "sql"


def load_queries(directory: Path) -> dict[str, str]:
    """Return {name: statement}. Raises ValueError on a name that stands twice."""
    queries: dict[str, str] = {}
    for path in sorted(directory.rglob("*.sql")):
        for name, statement in named_statements(path):
            if name in queries:
                raise ValueError(f"query {name} stands twice, again in {path.name}")
            queries[name] = statement
    return queries


def named_statements(path: Path) -> list[tuple[str, str]]:
    """Names and statements of one file, in their order."""
    _, *chunks = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.M)
    return [
        (name, f"-- {name}\n{statement.strip()}")
        for name, statement in zip(chunks[::2], chunks[1::2], strict=True)
    ]


QUERIES = load_queries(SQL_DIR / "queries")
