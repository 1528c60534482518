"""Rules over sql/ that a Postgres sharded by item asks for; each is seen to catch a violation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from ops.cli.terminal_text import counted
from tests.support.sql_rules import called, joins_without_item, mixed_joins, writes_sharded
from worker.infra.postgres import Pool
from worker.infra.sql_files import QUERIES_DIR, SQL_DIR, named_statements

STATEMENTS: Final = {
    name: text for path in QUERIES_DIR.rglob("*.sql") for name, text in named_statements(path)
}
VIEWS: Final = {path.stem: path.read_text("utf-8") for path in (SQL_DIR / "views").glob("*.sql")}
CLOCKS: Final = {"now", "current_timestamp", "localtimestamp", "statement_timestamp"}
"""They are stable, not volatile, and may not stand in DO UPDATE SET all the same."""
SESSION_STATE: Final = re.compile(
    r"\bpg_(?:try_)?advisory_lock\w*\(|\bset_config\((?![^()]*,\s*true\s*\))|\b(?:UN)?LISTEN\s"
    r"|\bCREATE\s+(?:LOCAL\s+)?TEMP|\bWITH\s+HOLD\b|\bPREPARE\s|add_listener|set_type_codec"
    r"|(?:^|[;\"'])\s*SET\s+(?!LOCAL\b)(?:\w+\s+)*?[\w.]+\s*(?:=|\bTO\b)"
)
"""What outlives the transaction that does it. Sessions go back to the pool without a reset."""


@pytest.fixture
async def volatile(db: Pool) -> set[str]:
    """Names of all functions that Postgres, or a migration, calls volatile."""
    found = await db.fetch("SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v'")
    return {record["proname"] for record in found}


def test_what_writes_schema_pluggy_calls_no_clock_and_nothing_volatile(volatile: set[str]) -> None:
    assert {"clock_timestamp", "random", "gen_random_uuid", "nextval"} <= volatile
    writers = {name: text for name, text in STATEMENTS.items() if writes_sharded(text)}
    assert len(writers) > 30
    found = {name: sorted(called(text) & (volatile | CLOCKS)) for name, text in writers.items()}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_no_query_joins_schema_pluggy_with_the_local_schema() -> None:
    found = {name: mixed_joins(text) for name, text in STATEMENTS.items()}
    assert {name: joins for name, joins in found.items() if joins} == {}


def test_tables_of_schema_pluggy_are_joined_by_item() -> None:
    found = {name: joins_without_item(text) for name, text in (STATEMENTS | VIEWS).items()}
    assert {name: tables for name, tables in found.items() if tables} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM pluggy.items i JOIN pluggy_sync.item_sync s ON s.item_id = i.id",
        "SELECT FROM pluggy_sync.item_sync s, pluggy.items i",
        "SELECT FROM pluggy_sync.runs r WHERE EXISTS"
        " (SELECT FROM pluggy.bills b WHERE b.run_id = r.id)",
        "DELETE FROM pluggy_sync.runs r USING pluggy.items i WHERE i.run_id = r.id",
        "WITH a AS (SELECT 1) UPDATE pluggy_sync.runs r SET seq = 1 FROM pluggy.items i",
        "SELECT 1 UNION ALL SELECT 1 FROM (pluggy.items i LEFT JOIN pluggy_sync.runs r ON true)",
        "WITH a AS (SELECT FROM pluggy.items i JOIN pluggy_sync.runs r ON true) SELECT FROM a",
        "SELECT (SELECT max(t.date) FROM pluggy.transactions t WHERE t.item_id = s.item_id)"
        " FROM pluggy_sync.item_sync AS s",
    ],
)
def test_a_join_of_both_schemas_is_found(statement: str) -> None:
    assert len(mixed_joins(statement)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "WITH r AS (SELECT id FROM pluggy_sync.runs) SELECT FROM pluggy.items i JOIN r ON true",
        "WITH r AS (SELECT id FROM pluggy_sync.runs r) SELECT FROM r WHERE EXISTS"
        " (SELECT FROM pluggy.bills b WHERE b.run_id = r.id)",
        "SELECT (SELECT count(*) FROM pluggy.items), s.lane FROM pluggy_sync.item_sync s",
        "SELECT 1 FROM pluggy.items UNION ALL SELECT 1 FROM pluggy_sync.runs",
        "INSERT INTO pluggy_sync.runs (id) SELECT 1 FROM pluggy.items",
        "SELECT FROM pluggy_sync.runs -- JOIN pluggy.items i ON true",
        "SELECT 'FROM pluggy.items' FROM pluggy_sync.runs",
        "SELECT FROM pluggy_sync.runs, jsonb_populate_recordset(NULL::pluggy.items, $1)",
    ],
)
def test_queries_side_by_side_are_no_join(statement: str) -> None:
    assert mixed_joins(statement) == []


def test_a_join_that_does_not_name_the_item_is_found() -> None:
    by_account = "SELECT FROM pluggy.bills b JOIN pluggy.accounts a ON a.id = b.account_id"
    assert joins_without_item(by_account) == ["pluggy.bills", "pluggy.accounts"]
    assert joins_without_item(f"{by_account} AND a.item_id = b.item_id") == []
    assert joins_without_item(f"{by_account} WHERE a.item_id = $1") == ["pluggy.bills"]
    of_items = "SELECT FROM pluggy.items i JOIN pluggy.bills b ON b.item_id = i.id"
    assert joins_without_item(of_items) == []


def test_a_write_of_schema_pluggy_is_distinguished_from_one_of_the_state() -> None:
    assert writes_sharded("WITH a AS (UPDATE pluggy.items SET id = id) SELECT 1")
    assert writes_sharded("INSERT INTO pluggy.bills VALUES (1)")
    assert not writes_sharded("UPDATE pluggy_sync.runs SET seq = 1 -- UPDATE pluggy.items")
    assert called("SELECT now ( ), x.random(1), 'nextval(' -- clock_timestamp()") == {
        "now",
        "random",
    }


def test_nothing_sets_session_state_outside_of_a_transaction() -> None:
    code = [p for name in ("worker", "webhook_receiver", "ops") for p in Path(name).rglob("*.py")]
    texts = STATEMENTS | {str(path): path.read_text("utf-8") for path in code}
    assert len(code) > 100
    found = {name: SESSION_STATE.findall(text) for name, text in texts.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT pg_advisory_lock($1)",
        "SELECT pg_try_advisory_lock_shared($1)",
        "SELECT set_config('lock_timeout', '1s', false)",
        "SET lock_timeout = '1s'",
        'conn.execute("SET SESSION lock_timeout TO 1")',
        "BEGIN; SET statement_timeout = 0",
        "LISTEN events",
        "CREATE TEMP TABLE page (id uuid)",
    ],
)
def test_session_state_is_found(text: str) -> None:
    assert SESSION_STATE.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT pg_try_advisory_xact_lock($1), set_config('lock_timeout', '1s', true)",
        'conn.execute(f"SET LOCAL lock_timeout = 1")',
        "UPDATE pluggy_sync.runs\nSET seq = 1",
    ],
)
def test_state_of_a_transaction_is_none(text: str) -> None:
    assert not SESSION_STATE.search(text)


BY_HAND: Final = re.compile(
    r"(?:(?<!ELSE w\.)\bn|things|count\(\*\)) \|\| '(?: \w+)? \w+s\b|WHEN 1 THEN ' ?\w+ ?.*' ELSE"
)
"""A number and a word for many, or a choice of words: pluggy_sync.counted is there for that."""


def test_no_sentence_of_a_view_says_1_items() -> None:
    assert BY_HAND.search("w.n || ' deleted items wait'")
    assert BY_HAND.search("w.n || CASE w.n WHEN 1 THEN ' item waits' ELSE ' items wait' END")
    assert not BY_HAND.search("pluggy_sync.counted(w.n, 'item', 'items') || ' wait'")
    assert [name for name, text in VIEWS.items() if BY_HAND.search(text)] == []


@pytest.mark.parametrize("number", [0, 1, 2, 11, 999])
async def test_sentences_of_views_and_of_commands_count_alike(db: Pool, number: int) -> None:
    said = await db.fetchval("SELECT pluggy_sync.counted($1, 'item', 'items')", number)
    assert said == counted(number, "item", "items")


@pytest.mark.parametrize("view", ["worklist", "findings", "overview"])
async def test_a_view_that_counts_calls_no_function_for_it(db: Pool, view: str) -> None:
    """Postgres puts its expression in place of the call."""
    plan = await db.fetch(f"EXPLAIN (VERBOSE) SELECT * FROM pluggy_ops.{view}")  # noqa: S608 - constants
    text = "\n".join(line for (line,) in plan)
    assert "WHEN 1 THEN" in text
    assert "counted(" not in text
