"""Contract drift: it is counted and changes nothing else; a new column needs no extra request."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.migrations import migrate
from tests.support.stack import TABLES, Stack
from worker.entities.loans import ENTITY as LOANS
from worker.entities.registry import LISTINGS, SHAPES
from worker.infra.sql_files import SQL_DIR
from worker.lease.runs import Run
from worker.maintenance.reference_data import refresh_reference_data
from worker.pluggy_api.known_fields import parse_shape
from worker.pluggy_api.values import text
from worker.store import runs
from worker.store.entities import loans
from worker.sync.schema_drift import NAME, NOT_SHOWN, VALUE, note_novelties, novelties

OPEN_FINANCE = 600


async def drift(stack: Stack) -> dict[tuple[str, str, str | None], asyncpg.Record]:
    found = await stack.db.fetch("SELECT * FROM pluggy_ops.contract_drift")
    return {(r["entity"], r["path"], r["value"]): r for r in found}


async def yesterday(stack: Stack) -> None:
    """What was noted was noted a day earlier."""
    await stack.db.execute(
        "UPDATE pluggy_sync.contract_drift SET last_seen_at = last_seen_at - interval '1 day'"
    )


async def test_normal_answers_hold_nothing_new(stack: Stack) -> None:
    for connector in (0, 201, OPEN_FINANCE):
        item = await stack.synced_item(transactions=250, connectorId=connector)
        await stack.process_all(await stack.collect(item["id"], created=20, updated=20, restated=3))
    for _ in range(2):
        assert await refresh_reference_data(stack.db, stack.client)
    stored = [await stack.live(item["id"], table) for table in TABLES]
    assert all(stored), "every entity was looked at"
    assert await drift(stack) == {}


async def test_a_new_field_and_new_values_are_counted_once(stack: Stack) -> None:
    # Apart, because what is not of type CREDIT has no bills.
    spoilt = ["accounts"], ["v2/transactions", "bills", "investments", "loans", "identity",
                            "consents", "items"]  # fmt: skip
    for matches in spoilt:
        await stack.clear_faults()
        for match in matches:
            await stack.simulator.apost(
                "/_simulator/faults", {"match": f"GET /{match}", "kind": "novelty", "rate": 1.0}
            )
        item = await stack.synced_item(transactions=60, connectorId=OPEN_FINANCE)
    found = await drift(stack)
    assert {entity for entity, path, _ in found if path == "brandNewField"} == {"items", *TABLES}
    kinds = {key: record["kind"] for key, record in found.items()}
    assert kinds["transactions", "brandNewField", None] == "field"
    assert kinds["transactions", "type", "NEW_DEBIT"] == "value"
    assert {record["days"] for record in found.values()} == {1}
    assert len(await stack.live(item["id"])) >= 60


async def test_a_novelty_is_written_once_a_day_however_many_rows_have_it(stack: Stack) -> None:
    item = await stack.synced_item(transactions=300, quirks=["novelty"])
    versions = (
        "SELECT entity, path, value, xmin::text FROM pluggy_sync.contract_drift ORDER BY 1, 2, 3"
    )
    before = await stack.db.fetch(versions)
    await stack.process_all(await stack.collect(item["id"], created=30))
    # New rows may bring values of their own; what was known is not written again.
    assert set(map(tuple, before)) <= set(map(tuple, await stack.db.fetch(versions)))
    await yesterday(stack)
    await stack.process_all(await stack.collect(item["id"], created=30))
    found = await drift(stack)
    again = found["transactions", "brandNewField", None]
    assert (again["days"], again["last_seen_at"] > again["first_seen_at"]) == (2, True)


async def test_rows_that_did_not_change_are_not_checked(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, quirks=["novelty"])
    await yesterday(stack)
    before = await drift(stack)
    await stack.shift(timedelta(seconds=1))
    await stack.process_order("sync/verify", item["id"])
    after = await drift(stack)
    key = ("transactions", "brandNewField", None)
    assert after[key] == before[key]


async def test_only_names_of_the_contract_are_reported(stack: Stack) -> None:
    person, card = "Ana Maria de Souza", "123.456.789-09"
    rows: list[dict[str, Any]] = [
        {"id": "x", person: 1, card: 2, "paymentData": {"payer": {card: {}, "newField": person}}},
        {"type": person, "status": f"NEW {card}", "description": person, "category": card},
        {"type": "NEW_TYPE", "creditCardMetadata": {"feeType": "NEW_FEE", "cardNumber": card}},
    ]
    run_id = await runs.open_run(stack.db, item_id=uuid.uuid4(), kind="sync", event_ids=[])
    async with stack.db.acquire() as conn, conn.transaction():
        await note_novelties(conn, Run(run_id), "transactions", rows, request_id=None)
    found = {(path, value) for _, path, value in await drift(stack)}
    assert found == {
        (NOT_SHOWN, None), (f"paymentData.payer.{NOT_SHOWN}", None),
        ("paymentData.payer.newField", None), ("type", NOT_SHOWN), ("status", NOT_SHOWN),
        ("type", "NEW_TYPE"), ("creditCardMetadata.feeType", "NEW_FEE"),
    }  # fmt: skip


async def test_keys_of_a_map_do_not_fill_the_table(stack: Stack) -> None:
    async with stack.db.acquire() as conn, conn.transaction():
        for page in range(20):
            row = {f"key{number}": 1 for number in range(page * 100, page * 100 + 100)}
            await note_novelties(conn, Run(1), "loans", [row], request_id=None)
    async with stack.db.acquire() as conn, conn.transaction():
        await note_novelties(conn, Run(1), "loans", [{"another": 1}], request_id=None)
        await note_novelties(conn, Run(1), "bills", [{"another": 1}], request_id=None)
    found = await drift(stack)
    assert ("bills", "another", None) in found
    assert ("loans", "another", None) not in found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=20,
)
FIELDS = sorted({name for shape in SHAPES.values() for name in shape.names})


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(SHAPES)), st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON))
def test_any_object_can_be_checked_and_only_names_come_out(
    entity: str, fields: Mapping[str, Any]
) -> None:
    for path, value in novelties(entity, [fields]):
        for name in re.split(r"\.|\[\]\.", path):
            assert name == NOT_SHOWN or NAME.fullmatch(name)
        assert value in ("", NOT_SHOWN) or VALUE.fullmatch(value)


@settings(deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_known_fields_with_known_values_are_nothing_new(entity: str, data: st.DataObject) -> None:
    shape = SHAPES[entity]
    names = data.draw(st.sets(st.sampled_from(sorted(shape.names))))
    values = {name: sorted(known) for name, known in shape.values}
    fields = {
        name: data.draw(st.sampled_from(values[name]) | st.none()) if name in values else None
        for name in names
    }
    assert novelties(entity, [fields]) == set()


@pytest.mark.parametrize("spec", ["a }", "a{b", "a a", "a{b b}"])
def test_a_spec_that_is_wrong_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"brace|twice"):
        parse_shape(spec)


# --- A new column, filled from stored rows ---

ADD_COLUMN = """
ALTER TABLE pluggy.loans ADD COLUMN amortization text;
"""
FILL = """
UPDATE pluggy.loans SET amortization = payload ->> 'amortizationScheduled', row_version = 2
WHERE row_version < 2;
"""


def release(tmp_path: Path, *scripts: tuple[str, str]) -> Path:
    """The scripts of a later release."""
    sql_dir = tmp_path / "sql"
    shutil.copytree(SQL_DIR, sql_dir, dirs_exist_ok=True)
    for name, sql in scripts:
        (sql_dir / "migrations" / f"{name}.sql").write_text(sql)
    return sql_dir


def later_row(fields: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """The mapper of a release that knows one column more."""
    columns = LOANS.mapper(fields, zone)
    return columns | {"amortization": text(fields.get("amortizationScheduled"))}


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on as the later release: its mapper, its version, its statement."""
    monkeypatch.setitem(LISTINGS, "loans", replace(LOANS, mapper=later_row, version=2))
    statement = loans.SQL["upsert_loans"]
    for old, new in (
        ("paid_installments, source", "paid_installments, amortization, source"),
        ("r.paid_installments,", "r.paid_installments, r.amortization,"),
        ("SET\n", "SET\n    amortization = excluded.amortization,\n"),
    ):
        changed = re.sub(re.escape(old).replace(r",\ ", r",\s+"), new, statement, count=1)
        assert changed != statement, old
        statement = changed
    monkeypatch.setitem(loans.SQL, "upsert_loans", statement)


async def wrong_loans(stack: Stack) -> list[uuid.UUID]:
    """Loans whose new column does not say what their payload says."""
    found = await stack.db.fetch(
        "SELECT id FROM pluggy.loans"
        " WHERE amortization IS DISTINCT FROM payload ->> 'amortizationScheduled'"
    )
    return [record["id"] for record in found]


async def change_loans(stack: Stack, item_id: str) -> None:
    """A collection that changes every loan, mirrored."""
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    await stack.update(item_id, products={"loans": {"updated": 5, "created": 1}})


async def test_a_migration_fills_a_new_column_without_one_call_while_the_old_release_writes(
    stack: Stack, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await stack.synced_item(transactions=5, connectorId=OPEN_FINANCE)
    await stack.reset_requests()
    sql_dir = release(
        tmp_path, ("9001_add_amortization", ADD_COLUMN), ("9002_fill_amortization", FILL)
    )
    assert await migrate(database_url, sql_dir=sql_dir) == [
        "9001_add_amortization", "9002_fill_amortization", "views",
    ]  # fmt: skip
    assert await stack.requests() == {}
    rows = "SELECT count(*) FROM pluggy.loans WHERE amortization IS NOT NULL AND row_version = 2"
    assert await stack.db.fetchval(rows) > 0
    assert await wrong_loans(stack) == []
    # The release before goes on writing; what it has not changed, it leaves as filled.
    await change_loans(stack, item["id"])
    behind = await stack.db.fetch("SELECT id FROM pluggy.loans WHERE row_version < 2")
    assert behind
    assert set(await wrong_loans(stack)) <= {record["id"] for record in behind}
    await stack.reset_requests()
    # Its rows are known by their version: the same statement again fills them, and only them.
    status = await stack.db.execute(FILL)
    assert status == f"UPDATE {len(behind)}"
    assert await wrong_loans(stack) == []
    assert await stack.requests() == {}
    upgrade(monkeypatch)
    await change_loans(stack, item["id"])
    assert await wrong_loans(stack) == []
    assert await stack.db.fetchval("SELECT min(row_version) FROM pluggy.loans") == 2
    await stack.assert_equal(item["id"], ["loans"], but=["amortization"])


async def test_the_next_read_fills_what_the_old_release_wrote_last(
    stack: Stack, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await stack.synced_item(transactions=5, connectorId=OPEN_FINANCE)
    sql_dir = release(tmp_path, ("9001_add_amortization", ADD_COLUMN))
    await migrate(database_url, sql_dir=sql_dir)
    assert await wrong_loans(stack) != []
    upgrade(monkeypatch)
    await stack.shift(timedelta(seconds=1))
    await stack.process_order("sync/verify", item["id"])
    # Equal hashes do not keep a row that an older mapper has written.
    assert await wrong_loans(stack) == []
    versions = "SELECT id, xmin::text FROM pluggy.loans ORDER BY id"
    before = await stack.db.fetch(versions)
    await stack.shift(timedelta(seconds=1))
    await stack.process_order("sync/verify", item["id"])
    assert await stack.db.fetch(versions) == before


async def test_the_old_release_writes_rows_while_the_migration_fills(
    stack: Stack, database_url: str
) -> None:
    """Neither side fails or loses: who comes second waits, and sees the first one's rows."""
    item = await stack.synced_item(transactions=5, connectorId=OPEN_FINANCE)
    conn = await asyncpg.connect(database_url)
    async with conn.transaction():
        await conn.execute(ADD_COLUMN)
        await conn.execute(FILL)
        syncing = asyncio.create_task(change_loans(stack, item["id"]))
        await waits_for_a_lock(stack)
    await conn.close()
    await syncing
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"], ["loans"], but=["amortization"])
    await stack.db.execute(FILL)
    assert await wrong_loans(stack) == []


async def waits_for_a_lock(stack: Stack) -> None:
    deadline = time.monotonic() + 20
    while not await stack.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline, "nobody waits"
        await asyncio.sleep(0.01)
