"""Named SQL statements: `-- name: x` in a file of `sql/` begins the statement `x`."""

from __future__ import annotations

import re
from pathlib import Path

SQL_DIR = Path(__file__).resolve().parents[2] / "sql"
QUERIES_DIR = SQL_DIR / "queries"

ALWAYS = ("items", "accounts")
_tables = sorted(path.stem for path in (QUERIES_DIR / "entities").glob("*.sql"))
PRODUCTS = (*ALWAYS, *(table for table in _tables if table not in ALWAYS))
"""Our table names of what can be mirrored: each has a file of statements."""


def named_statements(path: Path) -> list[tuple[str, str]]:
    """Names and statements of one file, in their order, with their comments."""
    _, *chunks = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.M)
    return [
        (name, f"-- {name}\n{statement.strip()}")
        for name, statement in zip(chunks[::2], chunks[1::2], strict=True)
    ]
