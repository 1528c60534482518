"""`python -m tests.support.view_pages`: write the pages of docs/ that describe the views.

Their text is that of the comments in the database, so a page and the view cannot differ: the test
of the comments compares them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import asyncpg

import embedded
from ops.migrations import migrate
from worker.infra.postgres import Pool

DOCS: Final = Path(__file__).parents[2] / "docs"
HEADS: Final = {
    "pluggy_live": "Views for applications and reports: the rows that Pluggy shows now, without"
    " tombstones. Join by `item_id` and the id together: ids are unique within an item, and a"
    " sharded database joins by both only.",
    "pluggy_ops": "Views for operators and dashboards. They hold no personal data, no amounts and"
    " no descriptions.",
}
WRITTEN_BY: Final = (
    "Written by `python -m tests.support.view_pages` from the comments in sql/views."
)
COLUMNS: Final = """
SELECT n.nspname AS schema, c.relname AS view, obj_description(c.oid) AS description,
       a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       col_description(c.oid, a.attnum) AS comment
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relkind = 'v' AND n.nspname = ANY ($1)
ORDER BY n.nspname, c.relname, a.attnum
"""


async def load_columns(db: Pool | asyncpg.Connection[asyncpg.Record]) -> list[asyncpg.Record]:
    """Columns of all views with schema, view, description, name, type and comment (or null)."""
    return await db.fetch(COLUMNS, list(HEADS))


def render(schema: str, columns: list[asyncpg.Record]) -> str:
    """The page of one schema, in Markdown."""
    return "\n".join(_lines(schema, [c for c in columns if c["schema"] == schema]))


def _lines(schema: str, columns: list[asyncpg.Record]) -> Iterator[str]:
    yield f"# {schema}\n"
    yield f"<!-- {WRITTEN_BY} -->\n"
    yield f"{HEADS[schema]}\n"
    for view, group in groupby(columns, key=lambda column: column["view"]):
        rows = list(group)
        yield f"## {view}\n"
        yield f"{rows[0]['description']}.\n"
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        for row in rows:
            yield f"| `{row['name']}` | {row['type']} | {row['comment']} |"
        yield ""


async def _write(url: str) -> None:
    await migrate(url)
    conn = await asyncpg.connect(url)
    try:
        columns = await load_columns(conn)
    finally:
        await conn.close()
    for schema in HEADS:
        (DOCS / f"{schema}.md").write_text(render(schema, columns), encoding="utf-8")


def main() -> None:
    """Migrate an empty database and describe its views."""
    with embedded.database(None) as url:
        asyncio.run(_write(url))


if __name__ == "__main__":
    main()
