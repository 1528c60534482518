"""Comments in the database: every column that others query is described."""

from __future__ import annotations

import re

from ops.migrations import load_scripts
from worker.infra.postgres import Pool
from worker.infra.sql_files import SQL_DIR

COLUMNS = """
SELECT c.relname AS view, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       coalesce(col_description(c.oid, a.attnum), '') AS comment
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relkind = 'v' AND c.relnamespace = $1::regnamespace
"""
MONEY = re.compile(r"amount|balance|limit$|minimum_payment|^value$|^taxes")


async def columns(db: Pool) -> list[tuple[str, str, str, str]]:
    found = [
        (f"{schema}.{r['view']}", r["name"], r["type"], r["comment"])
        for schema in ("pluggy_live", "pluggy_ops")
        for r in await db.fetch(COLUMNS, schema)
    ]
    assert len(found) > 300
    return found


async def test_every_column_of_the_views_has_a_comment(db: Pool) -> None:
    missing = [f"{view}.{name}" for view, name, _, text in await columns(db) if len(text) < 4]
    assert missing == []


async def test_money_says_its_currency_and_times_their_zone(db: Pool) -> None:
    for view, name, type_, text in await columns(db):
        if type_ == "numeric" and MONEY.search(name) and view.startswith("pluggy_live"):
            assert "currency" in text, f"{view}.{name}"
        if type_ == "timestamp with time zone":
            assert "UTC" in text, f"{view}.{name}"


async def test_no_comment_is_about_a_column_that_is_not_there(db: Pool) -> None:
    told = {name for _, name, _, _ in await columns(db)}
    views = {view.partition(".")[2] for view, _, _, _ in await columns(db)}
    for script in load_scripts(SQL_DIR / "views", "9?_comments_*.sql"):
        entries = re.findall(r"\((NULL|'\w+'), '(\w+)', '", script.sql)
        assert len(entries) > 100
        assert {name for _, name in entries} <= told
        assert {view.strip("'") for view, _ in entries if view != "NULL"} <= views
