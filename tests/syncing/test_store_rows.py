"""How a page is stored: faster where its rows are ordinary, with the same result."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.stack import Stack
from worker.entities.declaration import Entity
from worker.entities.registry import LISTINGS
from worker.entities.transactions import ENTITY
from worker.infra.lanes import Lane
from worker.infra.postgres import Connection
from worker.infra.tasks import end
from worker.lease.lease import LEASE, LeaseLost, SyncSession
from worker.lease.progress import Read
from worker.lease.runs import Counts
from worker.planner.steps import ReadInvestmentTransactions
from worker.pluggy_api.endpoints import Page, PluggyReader
from worker.pluggy_api.payloads import decode_envelope
from worker.pluggy_api.values import Fields
from worker.sync import copied_rows, mapped_rows, page_rows
from worker.sync import store_rows as store_rows_module
from worker.sync.full_list import sync_listing
from worker.sync.investment_transactions import sync_investment_transactions
from worker.sync.schema_drift import read_familiar
from worker.sync.store_rows import in_page, store_rows
from worker.sync.transactions import store_page

ACCOUNT: Final = uuid.UUID(int=7)
PLAIN: Final = "{}"
ODDITIES: Final = (
    PLAIN,
    '{"description": "other"}',
    '{"updatedAt": "2026-01-02T03:04:06.000Z", "amount": -7.10}',
    '{"updatedAt": "2026-01-02T03:04:04.000Z", "amount": 8}',
    '{"updatedAt": null, "createdAt": "yesterday"}',
    '{"amount": null}',
    '{"amount": "12.50", "categoryId": 5, "order": 3.0, "balance": "x"}',
    '{"amount": 1e999999, "balance": 0.1000}',
    '{"amount": "1e200000"}',
    '{"descriptionRaw": "d", "currencyCode": "USD", "amountInAccountCurrency": -0.10, "order": 3,'
    ' "balance": 0.1000, "category": "c", "categoryId": "01", "providerCode": "p",'
    ' "type": "CREDIT", "providerId": "i", "operationType": "PIX", "status": "PENDING",'
    ' "merchant": {"name": "M"},'
    ' "paymentData": {"paymentMethod": "PIX", "payer": {"name": "N"}}, "creditCardMetadata":'
    ' {"installmentNumber": 1, "totalInstallments": 2,'
    ' "billId": "00000000-0000-0000-0000-0000000000ab"}}',
    '{"amount": 0e-20000, "balance": -1E-5}',
    '{"amountInAccountCurrency": 1e99999999999999999999}',
    '{"amount": 123456789012345678901234567890.123456789, "order": 99999999999}',
    '{"date": "2026-01-02T00:00:00Z", "status": null, "type": "TRANSFER"}',
    '{"date": "2026-01-02", "currencyCode": "BRL"}',
    '{"date": "9999-12-31T23:59:59.999999+00:00"}',
    '{"date": "0001-01-01T01:00:00Z"}',
    '{"date": "no time"}',
    '{"novel": {"a": [1]}, "status": "NOVEL"}',
    '{"novel": 1e200000}',
    '{"description": "a\\u0000b\\ud800c", "descriptionRaw": true}',
    '{"merchant": {"name": "M", "novel": 1}, "paymentData": {"paymentMethod": "PIX"}}',
    '{"merchant": "M", "paymentData": [], "creditCardMetadata": null}',
    '{"creditCardMetadata": {"installmentNumber": "3", "totalInstallments": 12, "billId": "x"}}',
    '{"creditCardMetadata": {"billId": "00000000-0000-0000-0000-0000000000AA", "payeeMCC": 1}}',
    '{"accountId": null}',
    '{"accountId": "00000000000000000000000000000007"}',
    '{"id": 5}',
    '{"id": "no-uuid"}',
)


def row_of(number: int, oddity: str) -> bytes:
    """A transaction as Pluggy writes it, but for the fields of an oddity, which stay as written."""
    plain = {
        "id": str(uuid.UUID(int=number)),
        "accountId": str(ACCOUNT),
        "description": f"PIX {number}",
        "amount": -10.5,
        "date": "2026-01-02T12:00:00.000Z",
        "type": "DEBIT",
        "createdAt": "2026-01-02T03:04:05.000Z",
        "updatedAt": "2026-01-02T03:04:05.000Z",
    }
    # Of a name that stands twice the last one counts, for Postgres too.
    text = json.dumps(plain, separators=(",", ":"))
    return text.encode() if oddity == PLAIN else f"{text[:-1]},{oddity[1:]}".encode()


def page_of(rows: Sequence[tuple[int, str]]) -> Page:
    body = b'{"results":[' + b",".join(row_of(*row) for row in rows) + b"]}"
    return Page(decode_envelope(body).results, None, datetime.now(UTC))


@pytest.fixture
async def session(stack: Stack) -> SyncSession:
    """A sync session of an item, its run open."""
    await stack.tell("item/updated", str(uuid.uuid4()))
    lease, reader = await stack.claim(), PluggyReader(stack.client, Lane.LIVE)
    session = SyncSession(stack.db, reader, lease, lease.now, ZoneInfo("America/Sao_Paulo"), ())
    await session.open_run("sync")
    return session


async def test_new_rows_are_copied_and_unchanged_ones_neither_decoded_nor_written(
    session: SyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of([(number, PLAIN) for number in range(1, 61)])
    decoded: list[bytes] = []
    copies: list[int] = []
    copy = copied_rows._copy

    def read_noting(entity: Entity, raws: Sequence[bytes]) -> Sequence[Fields | None]:
        decoded.extend(raws)
        return read_familiar(entity, raws)

    async def copy_noting(*arguments: Any) -> int:
        copies.append(await copy(*arguments))
        return copies[-1]

    monkeypatch.setattr(mapped_rows, "read_familiar", read_noting)
    monkeypatch.setattr(copied_rows, "_copy", copy_noting)
    for _ in range(2):
        async with session.page() as conn:
            await store_page(conn, session, ACCOUNT, page)
    assert copies == [60]
    assert decoded == list(map(bytes, page.rows))
    counts = session.run.counts
    assert (counts.seen, counts.inserted, counts.changed, counts.unchanged) == (120, 60, 0, 60)
    writes = await session.db.fetch("SELECT DISTINCT xmin::text FROM pluggy.transactions")
    assert len(writes) == 1


async def test_of_many_rows_those_are_written_that_are_not_stored_as_they_are(
    session: SyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_rows_module, "MIN_HASHED", 50)
    numbers, other = range(1, 61), ODDITIES[2]
    await in_page(session, partial(_store_page, session, page_of([(n, PLAIN) for n in numbers])))
    changes = ("deleted_at = now()", "deletion_flagged_at = now()", "deletion_refused_at = now()")
    for number, change in enumerate((*changes, "row_version = 0"), start=1):
        await session.db.execute(
            f"UPDATE pluggy.transactions SET {change} WHERE id = $1",  # noqa: S608 - constants
            uuid.UUID(int=number),
        )
    session.run.counts = Counts()
    rows = [(n, other if n == 5 else PLAIN) for n in (*numbers, 61)]
    await in_page(session, partial(_store_page, session, page_of(rows)))
    counts = session.run.counts
    assert (counts.inserted, counts.changed, counts.unchanged) == (1, 5, 55)
    assert counts.mapped_again == 3
    stored = await session.db.fetch(
        "SELECT id, amount FROM pluggy.transactions WHERE row_version = 1 AND deleted_at IS NULL"
        " AND deletion_flagged_at IS NULL AND deletion_refused_at IS NULL ORDER BY id"
    )
    assert [row["id"].int for row in stored] == list(range(1, 62))
    assert [row["id"].int for row in stored if row["amount"] == Decimal("-7.10")] == [5]


async def test_parts_of_a_page_are_sent_while_the_next_are_mapped(
    session: SyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent leaves the process when the loop goes round, and so it does after each part.

    The first part is small: until it is sent, Postgres has nothing to write.
    """
    rounds, mapped_in, sizes = 0, list[int](), list[int]()

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    def read_noting(entity: Entity, raws: Sequence[bytes]) -> Sequence[Fields | None]:
        mapped_in.append(rounds)
        sizes.append(len(raws))
        return read_familiar(entity, raws)

    monkeypatch.setattr(mapped_rows, "read_familiar", read_noting)
    monkeypatch.setattr(mapped_rows, "FIRST_PART_SIZE", 2)
    monkeypatch.setattr(mapped_rows, "PART_SIZE", 6)
    counting = asyncio.create_task(count_rounds())
    page = page_of([(number, PLAIN) for number in range(1, 61)])
    await in_page(session, partial(_store_page, session, page))
    await end(counting)
    assert sizes == [2, *[6] * 9, 4]
    assert len(set(mapped_in)) == len(mapped_in)


rows = st.tuples(st.integers(1, 4), st.sampled_from(ODDITIES))
pages = st.lists(st.lists(rows, min_size=1, max_size=6), min_size=1, max_size=3)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pages)
@example([[(number, oddity)] for number, oddity in enumerate(ODDITIES, start=1)])
@example([[(1, '{"amount": null}'), (1, '{"amountInAccountCurrency": 1e99999999999999999999}')]])
@example([[(1, PLAIN), (2, PLAIN), (3, ODDITIES[3]), (4, ODDITIES[2])]] * 2)
@example([[(1, PLAIN), (2, PLAIN), (3, '{"novel": 1e200000}'), (4, PLAIN)]])
async def test_ordinary_rows_are_stored_as_if_each_were_read_whole(
    session: SyncSession, monkeypatch: pytest.MonkeyPatch, pages: list[list[tuple[int, str]]]
) -> None:
    """Pages are stored twice: new rows by COPY in parts, and each row read whole and by upsert."""
    monkeypatch.setattr(copied_rows, "MIN_COPIED", 1)
    monkeypatch.setattr(mapped_rows, "FIRST_PART_SIZE", 1)
    monkeypatch.setattr(mapped_rows, "PART_SIZE", 2)
    monkeypatch.setattr(store_rows_module, "MIN_HASHED", 1)
    copied = await stored_by(session, pages, row_by_row=False)
    monkeypatch.setattr(copied_rows, "MIN_COPIED", 1000)
    monkeypatch.setattr(store_rows_module, "MIN_HASHED", 1000)
    assert copied == await stored_by(session, pages, row_by_row=True)


async def stored_by(
    session: SyncSession, pages: list[list[tuple[int, str]]], *, row_by_row: bool
) -> dict[str, Any]:
    """What these pages leave behind in the database and in the counts; all is rolled back."""
    session.run.counts, session.run.odd_request_id = Counts(), None
    shown: list[set[uuid.UUID]] = []
    async with session.page() as conn:
        undone = conn.transaction()
        await undone.start()
        for page in pages:
            shown.append(await stored_page(conn, session, page, row_by_row=row_by_row))
        found = await left_behind(conn)
        await undone.rollback()
    return found | {"counts": session.run.counts, "shown, not stored": shown}


async def stored_page(
    conn: Connection, session: SyncSession, page: list[tuple[int, str]], *, row_by_row: bool
) -> set[uuid.UUID]:
    # Rows that may name two owners are all read whole.
    inner_id = uuid.UUID(int=9) if row_by_row else None
    raws = page_of(page).rows
    rows, rejected = await page_rows.read_rows(
        raws, owner_key="accountId", owner=ACCOUNT, inner_id=inner_id
    )
    return await store_rows(conn, session, ENTITY, rows, rejected, scope_id=ACCOUNT)


async def left_behind(conn: Connection) -> dict[str, Any]:
    """Rows, what was set aside, and what is new in the contract."""
    rows = await conn.fetch("SELECT *, payload::text AS text FROM pluggy.transactions ORDER BY id")
    aside = await conn.fetch(
        "SELECT scope_id, row_id, reason, body FROM pluggy_sync.rejected_rows ORDER BY row_id"
    )
    drift = await conn.fetch("SELECT entity, path, value FROM pluggy_sync.contract_drift")
    times = {"changed_at", "first_seen_at"}
    return {
        "rows": [{k: v for k, v in row.items() if k not in times} for row in rows],
        "aside": [dict(row) for row in aside],
        "drift": {tuple(row) for row in drift},
    }


async def test_an_unchanged_list_is_marked_complete_under_the_lease_alone(
    session: SyncSession,
) -> None:
    lease = "UPDATE pluggy_sync.item_leases SET until = now() + interval '1 second'"
    await session.db.execute(lease)
    await Read.begin(session, "loans").complete(session.db, found=True, fences=True)
    left = await session.db.fetchval("SELECT until - now() FROM pluggy_sync.item_leases")
    assert LEASE - timedelta(seconds=10) < left <= LEASE
    await session.db.execute("UPDATE pluggy_sync.item_leases SET token = gen_random_uuid()")
    with pytest.raises(LeaseLost):
        await Read.begin(session, "bills").complete(session.db, found=True, fences=True)
    marked = await session.db.fetch("SELECT product FROM pluggy_sync.product_sync")
    assert [row["product"] for row in marked] == ["loans"]


@pytest.mark.parametrize("product", ["accounts", "investment_transactions"])
async def test_a_list_with_news_is_stored_and_marked_under_the_lease_alone(
    stack: Stack, product: str
) -> None:
    item = await stack.item(transactions=3, connectorId=600)
    [investment_id, *_] = await stack.truth(item["id"], "investments")
    await stack.tell("item/created", item["id"])
    lease = await stack.claim()
    reader = PluggyReader(stack.client, Lane.LIVE, item_id=lease.item_id)
    session = SyncSession(stack.db, reader, lease, lease.now, ZoneInfo("America/Sao_Paulo"), ())
    await session.open_run("sync")
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = gen_random_uuid()")
    movements = ReadInvestmentTransactions(uuid.UUID(investment_id), "", None)
    work = (
        sync_listing(session, LISTINGS[product], source_updated_at=None)
        if product == "accounts"
        else sync_investment_transactions(session, movements)
    )
    with pytest.raises(LeaseLost):
        await work
    assert not await stack.live(item["id"], product)
    assert not await stack.db.fetch("SELECT FROM pluggy_sync.product_sync")


async def test_an_unchanged_delta_moves_its_watermark_under_the_lease_alone(
    session: SyncSession,
) -> None:
    now = datetime.now(UTC)
    read = Read.begin(session, "transactions", ACCOUNT)
    await session.db.execute("UPDATE pluggy_sync.item_leases SET token = gen_random_uuid()")
    with pytest.raises(LeaseLost):
        await read.complete_transactions(session.db, pluggy_started_at=now, since=None, fences=True)
    assert not await session.db.fetch("SELECT FROM pluggy_sync.product_sync")


async def _store_page(session: SyncSession, page: Page, conn: Connection) -> None:
    await store_page(conn, session, ACCOUNT, page)


@pytest.mark.parametrize("min_copied", [1, 50])
async def test_a_row_that_postgres_refuses_takes_only_itself_out_of_a_page_without_savepoints(
    session: SyncSession, monkeypatch: pytest.MonkeyPatch, min_copied: int
) -> None:
    monkeypatch.setattr(copied_rows, "MIN_COPIED", min_copied)
    pages = [
        page_of([(1, PLAIN)]),
        page_of([(1, PLAIN), (2, '{"amount": "1e200000"}'), (3, PLAIN)]),
    ]
    for page in pages:
        await in_page(session, partial(_store_page, session, page))
    counts = session.run.counts
    assert (counts.seen, counts.inserted, counts.unchanged, counts.rejected) == (4, 2, 1, 1)
    assert await session.db.fetchval("SELECT count(*) FROM pluggy.transactions") == 2
