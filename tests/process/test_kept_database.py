"""A database that is reused between tests equals a new copy of the template."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.kept_database import KeptDatabase, describe, execute, session

# So few that autovacuum does not analyze them, which would be more than rows.
EVENTS = """
INSERT INTO pluggy_sync.webhook_events
    (event_id, body_sha256, event, lane, state, body, received_at)
SELECT n::text, 'sha', 'item/updated', 0, 'pending', '{}', now() FROM generate_series(1, 40) n
"""


@pytest.fixture
async def database(postgres_url: str, template: str) -> AsyncIterator[KeptDatabase]:
    made = KeptDatabase(postgres_url, template)
    yield made
    await made.drop()


# Autovacuum writes these whenever it likes, in one copy and not in the other.
STATISTICS = ("pg_statistic", "pg_class")


async def state(url: str) -> tuple[Any, ...]:
    async with session(url) as conn:
        found = await describe(conn)
    definition = [record for record in found.definition if record[0] not in STATISTICS]
    return definition, found.rows, found.set_sequences_back


ROWS = {
    "rows, and the sequences that they drew from": EVENTS,
    "rows changed that the template has": "UPDATE pluggy_sync.migrations SET sha256 = 'other'",
    "rows removed that the template has": "DELETE FROM pluggy_sync.migrations",
    "a table of a session": "CREATE TEMPORARY TABLE t (x int)",
}
MORE_THAN_ROWS = {
    "a table": "CREATE TABLE pluggy.of_a_test (x int)",
    "a column": "ALTER TABLE pluggy.items ADD COLUMN of_a_test int",
    "a dropped view": "DROP SCHEMA pluggy_live CASCADE",
    "a right": "GRANT SELECT ON pluggy.items TO PUBLIC",
    "a comment": "COMMENT ON TABLE pluggy.items IS 'of a test'",
    "statistics": f"{EVENTS}; ANALYZE pluggy_sync.webhook_events",
    "an option of a table": "ALTER TABLE pluggy.items SET (autovacuum_enabled = off)",
    "a setting": "DO $$ BEGIN EXECUTE format("
    "'ALTER DATABASE %I SET work_mem = ''1MB''', current_database()); END $$",
}


@pytest.mark.parametrize("left", ROWS.values(), ids=ROWS)
async def test_rows_are_removed(database: KeptDatabase, left: str) -> None:
    url = await database.lend()
    before = await state(url)
    await execute(url, left)
    await database.take_back()
    assert await database.lend() == url
    assert await state(url) == before


@pytest.mark.parametrize("left", MORE_THAN_ROWS.values(), ids=MORE_THAN_ROWS)
async def test_after_more_than_rows_there_is_another_copy(
    database: KeptDatabase, left: str
) -> None:
    url = await database.lend()
    before = await state(url)
    await execute(url, left)
    await database.take_back()
    another = await database.lend()
    assert another != url
    assert await state(another) == before


async def test_sessions_that_a_test_left_are_ended(database: KeptDatabase) -> None:
    url = await database.lend()
    async with session(url) as left:
        await left.execute("BEGIN; LOCK TABLE pluggy.items")
        await database.take_back()
        assert left.is_closed()
