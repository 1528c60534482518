"""The baseline of migrations: a database made by another one is refused, never half understood."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.infra.postgres import Pool
from worker.infra.sql_files import SQL_DIR

BASELINE: Final = max((SQL_DIR / "migrations").glob("*.sql")).name[:4]
"""Number of the last file of the baseline: of all files until 0.2.0 is tagged, a constant then.

These files are edited in place until a release is tagged that has them, and never afterwards.
"""
APPLIED: Final = "SELECT name, sha256 FROM pluggy_sync.migrations"


class UnreleasedDatabase(Exception):
    """The database was made by other files of the baseline: it can only be made again."""

    def __init__(self) -> None:
        super().__init__(
            "this database was made by a pre-release of pluggy-sync, which no release migrates;"
            " create a new one"
        )


def checksum(sql: str) -> str:
    """SHA-256 of a file of sql/ in hexadecimal digits."""
    return hashlib.sha256(sql.encode()).hexdigest()


def compare_baseline(applied: Mapping[str, str], sql_dir: Path = SQL_DIR) -> None:
    """Compare {name: checksum} of what was applied. Raises UnreleasedDatabase."""
    theirs = {name: sha256 for name, sha256 in applied.items() if _in_baseline(name)}
    paths = (sql_dir / "migrations").glob("*.sql")
    ours = {
        path.stem: checksum(path.read_text(encoding="utf-8"))
        for path in paths
        if _in_baseline(path.stem)
    }
    if theirs != ours:
        raise UnreleasedDatabase


async def check_baseline(db: Pool) -> None:
    """Refuse a database of another baseline. Raises UnreleasedDatabase, and asyncpg's errors."""
    applied = await db.fetch(APPLIED)
    compare_baseline({record["name"]: record["sha256"] for record in applied})


def _in_baseline(name: str) -> bool:
    number = name.partition("_")[0]
    return number.isdigit() and number <= BASELINE
