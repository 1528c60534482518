"""The SQL of the service by name: in `sql/queries/*.sql`, `-- name: x` opens a query."""

from __future__ import annotations

import re
from pathlib import Path

SQL_DIR = Path(__file__).resolve().parents[1] / "sql"


def load_queries(directory: Path) -> dict[str, str]:
    """Return {name: statement}. Raises ValueError on a name that stands twice."""
    queries: dict[str, str] = {}
    for path in sorted(directory.glob("*.sql")):
        _, *chunks = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.M)
        for name, statement in zip(chunks[::2], chunks[1::2], strict=True):
            if name in queries:
                raise ValueError(f"query {name} stands twice, again in {path.name}")
            queries[name] = f"-- {name}\n{statement.strip()}"
    return queries


QUERIES = load_queries(SQL_DIR / "queries")
