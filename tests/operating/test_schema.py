"""The migrated database is what sql/schema.txt and docs/data-model.md say."""

from __future__ import annotations

import difflib
from pathlib import Path

import asyncpg
import pytest

from bench.schema import ENTITIES_FILE, SCHEMA_FILE, render
from ops.migrations import migrate


async def differences(url: str) -> str:
    """What the files say that the database does not, and the reverse."""
    lines: list[str] = []
    for path, text in (await render(url)).items():
        recorded = path.read_text(encoding="utf-8").splitlines()
        lines += difflib.unified_diff(
            recorded, text.splitlines(), path.name, "the migrated database", lineterm="", n=1
        )
    return "\n".join(lines)


async def test_the_checked_in_description_is_that_of_a_migrated_database(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    found = await differences(empty_database_url)
    assert not found, f"sql/ has changed: run `make schema`\n{found}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE pluggy.loans ADD COLUMN x int", "+    x integer"),
        ("ALTER TABLE pluggy_sync.runs ALTER kind DROP NOT NULL", "-    kind text not null"),
        (
            "ALTER TABLE pluggy_sync.purges ALTER attempts SET DEFAULT 1",
            "+    attempts integer not null default 1",
        ),
        (
            "ALTER TABLE pluggy_sync.account_walks ALTER restarts TYPE bigint",
            "-    restarts integer not null default 0",
        ),
        (
            "ALTER TABLE pluggy_sync.item_sync DROP CONSTRAINT item_sync_lane_check",
            "-    constraint item_sync_lane_check: CHECK (((lane >= 0) AND (lane <= 3)))",
        ),
        (
            "DROP INDEX pluggy.loans_run",
            "-    INDEX loans_run ON pluggy.loans USING btree (run_id)",
        ),
        (
            "DROP TRIGGER webhook_events_draw_pending_seq ON pluggy_sync.webhook_events",
            "-    TRIGGER webhook_events_draw_pending_seq",
        ),
        (
            "CREATE OR REPLACE FUNCTION pluggy_sync.draw_pending_seq() RETURNS trigger"
            " LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
            "+function pluggy_sync.draw_pending_seq() returns trigger: BEGIN RETURN new; END",
        ),
        ("CREATE SEQUENCE pluggy_sync.x", "+sequence pluggy_sync.x"),
        ("CREATE VIEW pluggy_ops.x AS SELECT 1 AS y", "+    y integer without a comment"),
        (
            "COMMENT ON TABLE pluggy_sync.runs IS NULL",
            "+table pluggy_sync.runs without a comment",
        ),
        ("ALTER TABLE pluggy.items SET (fillfactor = 90)", "+table pluggy.items (fillfactor=90)"),
    ],
)
async def test_every_kind_of_difference_is_listed(
    database_url: str, change: str, said: str
) -> None:
    conn = await asyncpg.connect(database_url)
    await conn.execute(change)
    await conn.close()
    found = await differences(database_url)
    assert any(line.startswith(said) for line in found.splitlines()), found


@pytest.mark.parametrize("path", [SCHEMA_FILE, ENTITIES_FILE], ids=lambda p: p.name)
def test_every_table_and_view_has_a_comment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "without a comment" not in text
    assert "` |  |" not in text
