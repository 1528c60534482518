"""The statements of `sql/queries/**/*.sql` by name, for what does not call worker.store yet."""

from __future__ import annotations

from pathlib import Path

from worker.infra.sql_files import QUERIES_DIR, named_statements


def load_queries(directory: Path) -> dict[str, str]:
    """Return {name: statement}. Raises ValueError on a duplicate name."""
    queries: dict[str, str] = {}
    for path in sorted(directory.rglob("*.sql")):
        for name, statement in named_statements(path):
            if name in queries:
                raise ValueError(f"query {name} stands twice, again in {path.name}")
            queries[name] = statement
    return queries


QUERIES = load_queries(QUERIES_DIR)
