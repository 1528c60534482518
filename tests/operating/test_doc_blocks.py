"""Blocks of the documentation: SQL runs here, and each block of another kind has a place."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from tests.support.doc_blocks import ELSEWHERE, NOT_RUN, PICTURES, ROOT, Block, blocks
from tests.support.mirrored_people import ANA, People
from worker.infra.postgres import Connection
from worker.infra.sql_files import SQL_DIR

RUN_HERE_OR_IN_EXTRA = ("sql", "sh", *PICTURES)
SQL_BLOCKS = [block for block in blocks() if block.language == "sql" and not block.mark]
COMPARE = SQL_DIR / "compare_existing.sql"
EXPECTED_NOT_RUN = {
    "docs/roles.md": ["names your servers"],
    "docs/running.md": ["needs keys of Pluggy"],
    "docs/tutorial.md": [
        "needs pipx and the index of packages",
        "needs keys of Pluggy",
        "needs keys of Pluggy and a public address",
    ],
}
YOUR_TABLE = """CREATE TABLE your_table (
    pluggy_id text, pluggy_account_id text, amount numeric, status text, description text)"""
VIEW = (
    "CREATE VIEW existing_transactions AS SELECT id, account_id, amount, status, description FROM"
)


@pytest.fixture
async def conn(people: People) -> AsyncIterator[Connection]:
    """A connection whose changes are undone."""
    async with people.db.acquire() as opened:
        transaction = opened.transaction()
        await transaction.start()
        yield opened
        await transaction.rollback()


@pytest.mark.parametrize("block", SQL_BLOCKS, ids=str)
async def test_sql_of_the_documentation_runs(
    conn: Connection, people: People, block: Block
) -> None:
    item = people.truths[ANA][0]["items"][0]["id"]
    statement = block.text.replace("'…'", f"'{item}'")
    assert "…" not in statement
    await conn.execute(YOUR_TABLE)
    prepared = [await conn.prepare(s) for s in statement.split(";\n") if s.strip()]
    for each in prepared:
        await each.fetch(*[None] * len(each.get_parameters()))


def test_every_block_is_run_somewhere_or_says_why_not() -> None:
    """Run by what its mark names, here, by tests/extra, or not at all: a few, listed above."""
    not_run: dict[str, list[str]] = defaultdict(list)
    for block in blocks():
        if block.is_not_run:
            not_run[block.page].append(block.mark.removeprefix(NOT_RUN))
        elif block.mark:
            assert (ROOT / block.mark.removeprefix(ELSEWHERE).strip("`")).is_file(), block
        else:
            assert block.language in RUN_HERE_OR_IN_EXTRA, block
    assert not_run == EXPECTED_NOT_RUN


async def compared(conn: Connection, source: str) -> dict[str, tuple[int, list[str]]]:
    """Number of rows and examples by problem."""
    await conn.execute(f"{VIEW} {source}")
    found = await conn.fetch(COMPARE.read_text(encoding="utf-8"))
    return {r["problem"]: (r["transactions"], sorted(map(str, r["examples"]))) for r in found}


async def test_a_table_that_equals_the_mirror_has_no_problem(
    conn: Connection,
) -> None:
    assert await compared(conn, "pluggy_live.transactions") == {}


async def test_a_table_of_a_handler_is_compared_row_by_row(
    conn: Connection, people: People
) -> None:
    """Each kind of difference, in rows of one account; another account is not compared."""
    account = people.truths[ANA][0]["accounts"][0]["id"]
    await conn.execute(
        "CREATE TABLE mine AS SELECT id, account_id, amount, status, description"
        " FROM pluggy_live.transactions WHERE account_id = $1",
        uuid.UUID(account),
    )
    ids = [r["id"] for r in await conn.fetch("SELECT id FROM mine ORDER BY id LIMIT 7")]
    await conn.execute("DELETE FROM mine WHERE id = $1", ids[0])
    await conn.execute("INSERT INTO mine SELECT * FROM mine WHERE id = ANY ($1)", ids[1:3])
    await conn.execute("UPDATE mine SET amount = amount + 1 WHERE id = $1", ids[3])
    await conn.execute("UPDATE mine SET status = 'OTHER' WHERE id = $1", ids[4])
    await conn.execute("UPDATE mine SET description = NULL WHERE id = $1", ids[5])
    await conn.execute(
        "UPDATE pluggy.transactions SET deleted_at = now() WHERE account_id = $1 AND id = $2",
        *(uuid.UUID(account), ids[6]),
    )
    unknown = uuid.uuid4()
    await conn.execute(
        "INSERT INTO mine SELECT $1, account_id, 1, 'POSTED', '' FROM mine LIMIT 1", unknown
    )
    assert await compared(conn, "mine") == {
        "missing": (1, [str(ids[0])]),
        "doubled": (2, sorted(map(str, ids[1:3]))),
        "stale": (3, sorted(map(str, ids[3:6]))),
        "never deleted": (1, [str(ids[6])]),
        "unknown to the mirror": (1, [str(unknown)]),
    }
