"""What the generated modules share: the text of their statements, and what runs them."""

from __future__ import annotations

from itertools import dropwhile
from typing import TypeAlias

import asyncpg

from worker.infra.postgres import Connection, Pool
from worker.infra.sql_files import QUERIES_DIR, named_statements

Executor: TypeAlias = "Connection | Pool"
"""A pool runs each statement in a transaction of its own; a connection in the caller's."""


def load(file: str) -> dict[str, str]:
    """Return {name: statement} of a file of sql/queries, without the comments above the SQL."""
    return {name: _bare(text) for name, text in named_statements(QUERIES_DIR / file)}


def _bare(text: str) -> str:
    """The name alone stays, as a comment: Postgres shows it in its lists of what runs."""
    name, *lines = text.splitlines()
    return "\n".join([name, *dropwhile(lambda line: line.startswith("--"), lines)])


def the_row(row: asyncpg.Record | None) -> asyncpg.Record:
    """The row of a statement that always returns one. Raises LookupError if it did not."""
    if row is None:
        raise LookupError("a statement that always returns a row returned none")
    return row
