"""What operators and claims read does not grow with the items that are well."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeAlias

import asyncpg
import pytest

from bench import cookbook
from bench.growth import EXPLAIN
from bench.growth_load import fill
from tests.support.kept_database import execute, with_database
from tests.support.statements import STATEMENTS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ITEMS: Final = 2_000
ITEM: Final = uuid.UUID(hashlib.md5(b"item1", usedforsecurity=False).hexdigest())
UNKNOWN: Final = uuid.UUID(int=0)
LARGE: Final = ("product_sync", "webhook_events", "item_leases")
ASKED: Final[dict[str, tuple[str, list[Any]]]] = {
    **{
        view: (f"SELECT * FROM pluggy_ops.{view}", [])  # noqa: S608 - constants
        for view in (
            "overview",
            "findings",
            "worklist",
            "backlog",
            "scaling",
            "errors_by_connector",
        )
    },
    "claim_oldest_item": (STATEMENTS["claim_oldest_item"], [timedelta(seconds=30)]),
    # Of open and settled events together, which are in two indexes.
    "show_item": (STATEMENTS["show_item"], [UNKNOWN]),
    "begin_waits": (STATEMENTS["begin_waits"], [[UNKNOWN]]),
    "why_events": (STATEMENTS["why_events"], [[1], UNKNOWN, [ITEM], 20]),
    "purge_webhook_events": (STATEMENTS["purge_webhook_events"], [ITEM, 100]),
}
NAMED: Final = "SELECT item_id FROM pluggy_sync.items_not_fresh"
NOT_FRESH: Final = "SELECT item_id FROM pluggy_ops.freshness WHERE state IN ('stale', 'incomplete')"
CAUSES: Final = (
    "UPDATE pluggy.items SET status = 'LOGIN_ERROR'",
    "UPDATE pluggy.items SET status = 'OUTDATED'",
    "UPDATE pluggy.items SET status = 'WAITING_USER_ACTION', changed_at = '-infinity'",
    "UPDATE pluggy.items SET status = 'UPDATING', changed_at = '-infinity'",
    "UPDATE pluggy.items SET execution_status = 'USER_AUTHORIZATION_REVOKED'",
    "UPDATE pluggy.items SET consent_expires_at = now() - interval '1 minute'",
    "UPDATE pluggy.items SET next_auto_sync_at = NULL",
    "UPDATE pluggy.items SET next_auto_sync_at = now() - interval '25 hours'",
    "UPDATE pluggy.items SET has_resources_pending_authorization = true",
    """UPDATE pluggy.items SET payload = '{"statusDetail": {"loans": {"isUpdated": false}}}'""",
    """UPDATE pluggy.items SET payload = '{"statusDetail": {"loans": {"warnings": [{}]}}}'""",
    "UPDATE pluggy_sync.product_sync SET dead_at = now()",
    "UPDATE pluggy_sync.product_sync SET parked_at = now()",
    "UPDATE pluggy_sync.product_sync SET stale_reason = 'empty_answer'",
    "UPDATE pluggy_sync.product_sync SET incomplete_reason = 'list_length_unknown'",
    "INSERT INTO pluggy_sync.rejected_rows"
    " SELECT item_id, product, scope_id, 'r', 'wrong_type', '', 1 FROM pluggy_sync.product_sync",
)


@pytest.fixture(scope="module")
async def filled(postgres_url: str, template: str) -> AsyncIterator[Connection]:
    """A database of ITEMS items, one in a hundred of which is not well."""
    name = f"growth_{uuid.uuid4().hex[:8]}"
    await execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    conn = await asyncpg.connect(with_database(postgres_url, name))
    await fill(conn, ITEMS)
    yield conn
    await conn.close()
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def undone(conn: Connection) -> AsyncIterator[None]:
    """A transaction that is rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    yield
    await transaction.rollback()


def rows_read(plan: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The scans of a plan: table, and rows that were looked at."""
    if "Relation Name" in plan:
        kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        yield plan["Relation Name"], sum(plan.get(kind, 0) for kind in kinds) * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from rows_read(part)


def columns(plan: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Of a verbose plan: the table that a node reads, if any, and a column that it returns."""
    for column in plan.get("Output", ()):
        yield plan.get("Relation Name"), column
    for part in plan.get("Plans", ()):
        yield from columns(part)


NO_STATISTICS: Final = (
    "DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class"
    " WHERE relnamespace IN ('pluggy'::regnamespace, 'pluggy_sync'::regnamespace))",
    "UPDATE pg_class SET relpages = 0, reltuples = -1, relallvisible = 0"
    " WHERE relnamespace IN ('pluggy'::regnamespace, 'pluggy_sync'::regnamespace)",
)
"""As after an upgrade of Postgres, or a load that nothing has analyzed yet."""


@pytest.mark.parametrize("before", [(), NO_STATISTICS], ids=["analyzed", "without statistics"])
@pytest.mark.parametrize("name", ASKED)
async def test_what_is_asked_reads_a_small_part_of_large_tables(
    filled: Connection, name: str, before: tuple[str, ...]
) -> None:
    statement, arguments = ASKED[name]
    async with undone(filled):
        for change in before:
            await filled.execute(change)
        [explained] = json.loads(await filled.fetchval(EXPLAIN + statement, *arguments))
    read = Counter[str]()
    for table, rows in rows_read(explained["Plan"]):
        read[table] += int(rows)
    for table in LARGE:
        size = await filled.fetchval(f"SELECT count(*) FROM pluggy_sync.{table}")  # noqa: S608 - constants
        assert read[table] < size / 10, table


def part(plan: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The part of a plan that makes what a query names so."""
    if plan.get("Subplan Name") == f"CTE {name}":
        return plan
    return next(filter(None, (part(one, name) for one in plan.get("Plans", ()))), None)


@pytest.mark.parametrize("view", ["overview", "findings", "worklist"])
async def test_postgres_expects_many_rows_that_are_not_fresh(filled: Connection, view: str) -> None:
    """Where it expects one row, it may read all open events once for each that there is."""
    statement = f"EXPLAIN (FORMAT JSON) SELECT * FROM pluggy_ops.{view}"  # noqa: S608 - constants
    [explained] = json.loads(await filled.fetchval(statement))
    stale = part(explained["Plan"], "stale")
    assert stale is not None
    assert stale["Plan Rows"] > 10


@pytest.mark.parametrize("cause", CAUSES)
async def test_each_cause_of_staleness_is_among_those_that_operators_views_read(
    filled: Connection, cause: str
) -> None:
    well = f"SELECT item_id FROM pluggy_sync.product_sync WHERE item_id NOT IN ({NAMED}) LIMIT 1"  # noqa: S608
    async with undone(filled):
        item_id = await filled.fetchval(well)
        key = "id" if "pluggy.items" in cause else "item_id"
        await filled.execute(f"{cause} WHERE {key} = $1", item_id)
        for found in (NOT_FRESH, NAMED):
            assert await filled.fetchval(f"SELECT $1 IN ({found})", item_id), found


async def test_freshness_judges_an_item_once_and_not_for_each_of_its_products(
    filled: Connection,
) -> None:
    statement = "EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM pluggy_ops.freshness"
    [explained] = json.loads(await filled.fetchval(statement))
    by_scan = {name for table, name in columns(explained["Plan"]) if table == "items"}
    # Consent, a status that lasts, no collection any more, and a collection that is overdue.
    assert len([name for name in by_scan if "now()" in name]) == 4


PEOPLE: Final = 100
ROWS: Final = 100


@pytest.fixture(scope="module")
async def of_people(postgres_url: str, template: str) -> AsyncIterator[Connection]:
    """A database of PEOPLE, each with two accounts of ROWS transactions."""
    name = f"growth_{uuid.uuid4().hex[:8]}"
    await execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    conn = await asyncpg.connect(with_database(postgres_url, name))
    await cookbook.fill(conn, items=PEOPLE, rows=ROWS)
    yield conn
    await conn.close()
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("name", cookbook.questions(None))
async def test_a_query_of_the_cookbook_reads_only_the_rows_of_its_person(
    of_people: Connection, name: str
) -> None:
    """At most each row twice. Without sequential scans, which are cheap on tables this small."""
    statement, arguments = cookbook.questions(cookbook.A_USER)[name]
    async with undone(of_people):
        await of_people.execute("SET LOCAL enable_seqscan = off")
        [explained] = json.loads(await of_people.fetchval(EXPLAIN + statement, *arguments))
    read = sum(rows for table, rows in rows_read(explained["Plan"]) if table == "transactions")
    assert read <= 2 * 2 * ROWS


async def test_a_search_for_flagged_rows_reads_no_others_without_statistics(
    of_people: Connection,
) -> None:
    async with undone(of_people):
        for change in NO_STATISTICS:
            await of_people.execute(change)
        statement = "SELECT * FROM pluggy_ops.flagged_deletions"
        [explained] = json.loads(await of_people.fetchval(EXPLAIN + statement))
    assert all(rows == 0 for table, rows in rows_read(explained["Plan"]) if table == "transactions")
