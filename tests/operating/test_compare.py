"""The comparison: it finds every kind of difference, and none where there is none."""
# ruff: noqa: S608 - statements are put together from constants

from __future__ import annotations

import json
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg
import pytest

from ops.compare.columns import KINDS, PATHS, Connection, load_tables
from ops.compare.rows import (
    DIFFERENT,
    EXTRA,
    MISSING,
    TOMBSTONED,
    UNKNOWN,
    Comparison,
    Difference,
    compare,
)
from ops.compare.rules import (
    Kind,
    Missing,
    UnknownType,
    column_rule,
    day,
    moment,
    money,
    posted_on,
    status,
    text,
    whole,
)
from ops.compare.truth import SimulatorTruth, TrueRow, TruthError, read_truth
from tests.support.stack import Stack
from worker.infra.postgres import Pool

ZONE = ZoneInfo("America/Sao_Paulo")
# Ours, not Pluggy's: where a row comes from and whether it is still there.
PROVENANCE = {
    "item_id", "id", "payload", "row_hash", "row_version", "run_id", "first_seen_at", "changed_at",
    "deleted_at", "deletion_flagged_at", "deletion_flag", "deletion_refused_at",
    "deletion_cause", "missing_since", "missing_collected_at", "ended_at",
    "inner_item_id",
}  # fmt: skip
ANOTHER = {
    "text": "coalesce({}, '') || 'x'",
    "integer": "coalesce({}, 0) + 1",
    "numeric": "coalesce({}, 0) + 0.0001",
    "boolean": "NOT coalesce({}, false)",
    "date": "coalesce({}, '2020-01-01') + 1",
    "timestamp with time zone": "coalesce({}, '2020-01-01Z') + interval '1 millisecond'",
    "uuid": "gen_random_uuid()",
    "ARRAY": "array_append({}, 'x')",
}


@dataclass(frozen=True, slots=True)
class Of:
    """The truth of some items only: the simulator has those of other tests, too."""

    whole: SimulatorTruth
    chosen: list[str]

    async def items(self) -> list[str]:
        return [item_id for item_id in await self.whole.items() if item_id in self.chosen]

    def rows(self, item_id: str) -> AsyncIterator[TrueRow]:
        return self.whole.rows(item_id)


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares a test's database with what the simulator holds of the test's items."""

    conn: Connection
    session: aiohttp.ClientSession
    stack: Stack

    async def compare(self) -> Comparison:
        truth = SimulatorTruth(self.session, self.stack.simulator.url)
        return await compare(self.conn, Of(truth, self.stack.items), ZONE)

    async def after(self, statement: str, *arguments: object) -> Comparison:
        """What a comparison finds after a change that is then taken back."""
        change = self.conn.transaction()
        await change.start()
        try:
            assert int((await self.conn.execute(statement, *arguments)).split()[-1]) == 1
            return await self.compare()
        finally:
            await change.rollback()


@pytest.fixture
async def judge(stack: Stack, database_url: str) -> AsyncIterator[Judge]:
    """One item is mirrored, which has rows of every kind."""
    await stack.synced_item(transactions=80, connectorId=600)
    conn = await asyncpg.connect(database_url)
    async with aiohttp.ClientSession() as session:
        yield Judge(conn, session, stack)
    await conn.close()


async def test_a_mirrored_item_is_equal(judge: Judge) -> None:
    found = await judge.compare()
    assert found.mismatches == 0
    assert found.shown == []
    assert set(found.rows) == set(await load_tables(judge.conn))
    assert found.rows["items"] == 1
    assert found.rows["accounts"] == 2
    assert found.rows["transactions"] >= 80


ONE = "(SELECT id FROM pluggy.transactions ORDER BY id LIMIT 1)"
NOT_LIVE = {
    f"DELETE FROM pluggy.transactions WHERE id = {ONE}": [MISSING],
    f"UPDATE pluggy.transactions SET id = gen_random_uuid() WHERE id = {ONE}": [EXTRA, MISSING],
    f"UPDATE pluggy.transactions SET item_id = gen_random_uuid() WHERE id = {ONE}": [
        EXTRA,
        MISSING,
    ],
    f"UPDATE pluggy.transactions SET deleted_at = now() WHERE id = {ONE}": [TOMBSTONED],
    "DELETE FROM pluggy.items": [MISSING],
    "UPDATE pluggy.items SET deleted_at = now()": [TOMBSTONED],
}


async def test_a_row_that_is_not_stored_live_is_found(judge: Judge) -> None:
    for statement, kinds in NOT_LIVE.items():
        found = await judge.after(statement)
        assert sorted(difference.kind for difference in found.shown) == kinds, statement
        assert found.mismatches == len(kinds)


SAME_NUMBER = "((payload->>'amount') || '00')::numeric"
OTHER_PAYLOADS = {
    'payload || \'{"description": "other"}\'': True,
    "payload || '{\"unheardOf\": null}'": True,
    "payload - 'order'": True,
    "payload || jsonb_build_object('amount', (payload->>'amount')::numeric + 0.01)": True,
    "payload || jsonb_build_object('amount', payload->>'amount')": True,
    f"payload || jsonb_build_object('amount', {SAME_NUMBER})": False,
}


async def test_a_payload_that_differs_is_found_however_little(judge: Judge) -> None:
    for payload, is_other in OTHER_PAYLOADS.items():
        found = await judge.after(
            f"UPDATE pluggy.transactions SET payload = {payload}"
            " WHERE id = (SELECT id FROM pluggy.transactions WHERE payload->>'amount' LIKE '%.%'"
            " ORDER BY id LIMIT 1)"
        )
        differing = [(difference.kind, difference.columns) for difference in found.shown]
        assert differing == ([(DIFFERENT, ("payload",))] if is_other else []), payload


async def typed_columns(db: Connection | Pool, table: str) -> dict[str, str]:
    found = await db.fetch(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'pluggy' AND table_name = $1",
        table,
    )
    return {r["column_name"]: r["data_type"] for r in found if r["column_name"] not in PROVENANCE}


async def test_every_typed_column_is_compared(db: Pool) -> None:
    async with db.acquire() as conn:
        tables = await load_tables(conn)
    for table, mirrored in tables.items():
        assert set(await typed_columns(db, table)) == set(mirrored.columns), table
    compared = {f"{name}.{column}" for name, table in tables.items() for column in table.columns}
    assert len(compared) >= 145
    assert compared >= {*PATHS, *KINDS}


async def test_a_column_that_pluggy_has_no_key_for_is_an_error(judge: Judge) -> None:
    """Whatever it holds: with null in every row it would otherwise seem to be equal."""
    await judge.conn.execute(
        "ALTER TABLE pluggy.transactions"
        " ADD COLUMN merchant_nickname text, ADD COLUMN cashback numeric"
    )
    found = await judge.compare()
    assert found.shown == [
        Difference(UNKNOWN, "transactions", "", "", (column,))
        for column in ("cashback", "merchant_nickname")
    ]
    await judge.conn.execute("ALTER TABLE pluggy.bills ADD COLUMN finance_charges jsonb")
    with pytest.raises(UnknownType, match="finance_charges is of type jsonb"):
        await judge.compare()


async def test_a_difference_in_any_one_column_is_found(judge: Judge) -> None:
    for table in await load_tables(judge.conn):
        for column, kind in (await typed_columns(judge.conn, table)).items():
            another = ANOTHER[kind].format(column)
            found = await judge.after(
                f"UPDATE pluggy.{table} SET {column} = {another}"
                f" WHERE id = (SELECT id FROM pluggy.{table} ORDER BY id LIMIT 1)"
            )
            said = [(d.kind, d.entity, d.columns) for d in found.shown]
            assert said == [(DIFFERENT, table, (column,))]


async def test_every_table_of_the_mirror_is_compared(db: Pool) -> None:
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'pluggy'")
    # Of no item, and the same for all who ask.
    shared = {"connectors", "categories"}
    async with db.acquire() as conn:
        assert {record["tablename"] for record in tables} - shared == set(await load_tables(conn))


async def test_a_row_that_pluggy_deleted_has_to_be_a_tombstone(judge: Judge) -> None:
    [item_id] = judge.stack.items
    done = await judge.stack.collect(item_id, deleted=1)
    [gone] = [i for lists in done["changes"]["accounts"].values() for i in lists["deleted"]]
    await judge.stack.process("item/updated", item_id)
    found = await judge.compare()
    assert [(d.kind, d.row_id) for d in found.shown] == [(EXTRA, gone)]
    await judge.conn.execute(
        "UPDATE pluggy.transactions SET deleted_at = now() WHERE id = $1", gone
    )
    assert (await judge.compare()).mismatches == 0


async def test_rows_behind_a_withdrawn_consent_are_still_stored(judge: Judge) -> None:
    [item_id] = judge.stack.items
    await judge.stack.collect(item_id, consent="revoked")
    await judge.stack.process("item/error", item_id)
    found = await judge.compare()
    assert found.mismatches == 0
    assert found.rows["transactions"] >= 80


async def test_all_differences_are_counted_and_some_are_shown(judge: Judge) -> None:
    await judge.conn.execute("UPDATE pluggy.transactions SET amount = amount + 1")
    found = await judge.compare()
    assert found.mismatches == found.rows["transactions"]
    assert 0 < len(found.shown) < found.mismatches


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


DOCUMENT: dict[str, Any] = {
    "items": [{"id": "a", "name": "João 🏦 \u2028", "n": -1.50, "e": 1e-3}],
    "withheld": False,
    "owners": {"investment_transactions": {"m": "i"}},
    "accounts": [],
    "number": 1234567,
    "investment_transactions": [{"id": "m"}, {"id": "o"}],
    "behind": {"loans": [{"id": "l", "deep": {"er": [[], {}, '"}]']}}]},
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
async def test_the_truth_is_read_however_it_is_cut(size: int, indent: int | None) -> None:
    body = json.dumps(DOCUMENT, ensure_ascii=False, indent=indent).encode()
    rows = [row async for row in read_truth(in_pieces(body, size))]
    assert [(row.entity, row.fields["id"], row.listed_under) for row in rows] == [
        ("items", "a", None),
        ("investment_transactions", "m", "i"),
        ("investment_transactions", "o", None),
        ("loans", "l", None),
    ]
    assert rows[0].fields == DOCUMENT["items"][0] | {"n": Decimal("-1.5"), "e": Decimal("0.001")}
    assert [json.loads(row.text)["id"] for row in rows] == ["a", "m", "o", "l"]


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -1])
async def test_a_truth_that_ends_too_early_is_no_truth(cut: int) -> None:
    with pytest.raises(TruthError):
        [row async for row in read_truth(in_pieces(json.dumps(DOCUMENT).encode()[:cut], 16))]


@pytest.mark.parametrize("body", [b"[]", b"{]", b'{"items": [1]}', b'{"items" []}', b"<html>"])
async def test_what_is_no_truth_document_is_refused(body: bytes) -> None:
    with pytest.raises(TruthError):
        [row async for row in read_truth(in_pieces(body, 16))]


async def test_a_long_truth_is_never_in_memory_whole() -> None:
    row = json.dumps({"id": str(uuid.uuid4()), "description": "x" * 500}).encode()

    async def many(rows: int) -> AsyncIterator[bytes]:
        yield b'{"transactions": [' + row
        for _ in range(rows // 100):
            yield b",".join([b""] + [row] * 100)
        yield b"]}"

    tracemalloc.start()
    try:
        count = 0
        async for _ in read_truth(many(20_000)):
            count += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_001
    assert peak < 2_000_000  # of 11 MB


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-03-01T00:00:00.000Z", date(2026, 3, 1)),
        ("2026-03-01T02:59:59.999Z", date(2026, 2, 28)),
        ("2026-03-01T03:00:00.000Z", date(2026, 3, 1)),
        ("2026-03-01T00:00:00.001Z", date(2026, 2, 28)),
        ("2026-03-01T23:30:00", date(2026, 3, 1)),
        ("2026-03-01", date(2026, 3, 1)),
        ("2026-03-01T00:00:00.000-03:00", date(2026, 3, 1)),
    ],
)
def test_dates_are_taken_as_written_and_moments_by_the_zone(written: str, expected: date) -> None:
    assert posted_on(written, ZONE) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (money, Decimal("0.10"), Decimal("0.1")),
        (money, "12.30", Decimal("12.3")),
        (money, True, None),
        (money, "much", None),
        (money, None, None),
        (whole, Decimal("3.0"), 3),
        (whole, Decimal("3.5"), None),
        (whole, 2**31, None),
        (text, 5411, "5411"),
        (text, True, None),
        (status, None, "POSTED"),
        (status, "PENDING", "PENDING"),
        (day, "2026-03-01T00:00:00.000Z", date(2026, 3, 1)),
        (moment, "2026-03-01T00:00:00", datetime(2026, 3, 1, tzinfo=UTC)),
        (moment, "2026-03-01T00:00:00-03:00", datetime(2026, 3, 1, 3, tzinfo=UTC)),
    ],
)
def test_a_value_follows_from_json_alone(kind: Kind, value: object, expected: object) -> None:
    assert kind(value, ZONE) == expected


@pytest.mark.parametrize(
    ("column", "path", "fields", "expected"),
    [
        ("due_date", None, {"dueDate": "a"}, "a"),
        ("source_created_at", None, {"createdAt": "a"}, "a"),
        ("merchant_cnpj", None, {"merchant": {"cnpj": "a"}}, "a"),
        ("merchant_cnpj", None, {"merchantCnpj": "a", "merchant": {"cnpj": "b"}}, "a"),
        ("merchant_trade_name", None, {"merchant": {"tradeName": "a"}}, "a"),
        ("merchant_trade_name", None, {"merchantTrade": {"name": "a"}}, "a"),
        ("merchant_trade_name", None, {"merchant": {"trade": {"name": "a"}}}, "a"),
        ("merchant_cnpj", None, {"merchant": {"cnpj": None}}, None),
        ("merchant_cnpj", None, {"merchant": None}, Missing.OBJECT),
        ("merchant_cnpj", None, {"merchant": {}}, Missing.KEY),
        ("merchant_cnpj", None, {"merchant": "no object"}, Missing.KEY),
        ("merchant_cnpj", None, {}, Missing.KEY),
        ("cet", "CET", {"CET": "a", "cet": "b"}, "a"),
        ("level", "data.level", {"level": "a"}, Missing.KEY),
        ("investment_id", "", {"investmentId": "a"}, "listed under"),
    ],
)
def test_a_column_is_read_from_the_key_that_it_spells_or_from_its_path(
    column: str, path: str | None, fields: dict[str, object], expected: object
) -> None:
    row = TrueRow("accounts", "", fields, "listed under")
    assert column_rule(column, "text", path, None).find(row) == expected
