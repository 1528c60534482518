"""The page docs/data-model.md: diagrams of the tables, drawn from a migrated database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TABLES: Final = """
SELECT n.nspname AS schema, c.relname AS name, obj_description(c.oid, 'pg_class') AS comment,
       array_agg(a.attname::text ORDER BY a.attnum) AS columns,
       array_agg(ltrim(t.typname, '_') || CASE WHEN t.typcategory = 'A' THEN '[]' ELSE '' END
                 ORDER BY a.attnum) AS types,
       array_agg(a.attname::text) FILTER (WHERE a.attnum = ANY (k.conkey)) AS key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
WHERE c.relkind = 'r' AND n.nspname IN ('pluggy', 'pluggy_sync')
GROUP BY n.nspname, c.oid, c.relname
ORDER BY c.relname COLLATE "C"
"""
# Without foreign keys (docs/decisions) the name of a column says what it points to.
REFERENCES: Final[Mapping[str, str]] = {
    "item_id": "items",
    "account_id": "accounts",
    "bill_id": "bills",
    "category_id": "categories",
    "connector_id": "connectors",
    "event_row_id": "webhook_events",
    "investment_id": "investments",
    "parent_id": "categories",
    "run_id": "runs",
    "superseded_by": "transactions",
    "walk_id": "account_walks",
}
PROVENANCE: Final = (
    *("payload", "row_hash", "row_version", "run_id", "first_seen_at", "changed_at"),
    *("deleted_at", "deletion_cause", "missing_since", "missing_collected_at"),
    *("deletion_flagged_at", "deletion_flag", "deletion_refused_at"),
)

PAGE: Final = """\
# Data model

Written by `make schema` from a migrated database: change `sql/`, not this page. `sql/schema.txt`
lists every column, constraint and index.

There are no foreign keys between these tables, because children may arrive before their parents:
the name of a column says which row it refers to. `PK` marks the primary key.

## Schema `pluggy`: the mirror

Query `pluggy_live`: it has a view of each table, without deleted rows and with a comment on every
column. Each table also has `payload` (Pluggy's JSON), `row_hash` and `row_version` (to skip what
has not changed), `run_id` (the run that wrote it last), `first_seen_at`, `changed_at` and
`deleted_at`; where deletions are confirmed it has columns for that, too.

{mirror}

{mirror_tables}

## Schema `pluggy_sync`: the service's own state

Only keys and references are drawn.

{state}

{state_tables}
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its columns in their order and their types."""

    schema: str
    name: str
    comment: str
    columns: Mapping[str, str]
    key: frozenset[str]

    def references(self) -> Iterator[tuple[str, str]]:
        """Yield (column, table it points to)."""
        for column in self.columns:
            target = REFERENCES.get(column)
            if target and not (target == self.name and column in self.key):
                yield column, target


async def entities_page(conn: Connection) -> str:
    """Return the text of docs/data-model.md."""
    tables = [
        Table(
            record["schema"],
            record["name"],
            record["comment"] or "",
            dict(zip(record["columns"], record["types"], strict=True)),
            frozenset(record["key"] or ()),
        )
        for record in await conn.fetch(TABLES)
    ]
    mirror = [table for table in tables if table.schema == "pluggy"]
    state = [table for table in tables if table.schema == "pluggy_sync"]
    return PAGE.format(
        mirror=_diagram(mirror, keys_only=False),
        mirror_tables=_listed(mirror),
        state=_diagram(state, keys_only=True),
        state_tables=_listed(state),
    )


def _diagram(tables: Sequence[Table], *, keys_only: bool) -> str:
    lines = ["```mermaid", "erDiagram"]
    for table in tables:
        for column, target in table.references():
            if keys_only or column != "run_id":
                lines.append(f"    {target} ||--o{{ {table.name} : {column}")
    for table in tables:
        lines += [f"    {table.name} {{", *_attributes(table, keys_only=keys_only), "    }"]
    return "\n".join([*lines, "```"])


def _attributes(table: Table, *, keys_only: bool) -> Iterator[str]:
    drawn = {*table.key, *(column for column, _ in table.references())}
    for column, kind in table.columns.items():
        if column in drawn if keys_only else column not in PROVENANCE:
            yield f"        {kind} {column}{' PK' if column in table.key else ''}"


def _listed(tables: Sequence[Table]) -> str:
    rows = [f"| `{table.name}` | {table.comment} |" for table in tables]
    return "\n".join(["| table | rows |", "|---|---|", *rows])
