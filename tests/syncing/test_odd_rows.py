"""Odd values in one place of an answer: only that place is lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.support.altered_pluggy import altered
from tests.support.stack import Stack
from tests.syncing.test_deletions import freshness, tombstones
from tests.syncing.test_products import OPEN_FINANCE, tombstoned

TRANSACTIONS = "/v2/transactions"


Edit = Callable[[Any], Any]
"""Takes an answer's JSON and gives what is sent instead; bytes are sent as they are."""


@pytest.fixture
async def odd(stack: Stack) -> AsyncIterator[tuple[Stack, dict[str, Edit]]]:
    """A fresh world, and edits of its answers by the beginning of a path with its query."""
    await stack.simulator.apost("/_simulator/reset")
    await stack.simulator.apost("/_simulator/webhooks", {"quiet": True})
    edits: dict[str, Edit] = {}

    async def alter(path: str, body: bytes) -> bytes:
        for prefix, edit in edits.items():
            if path.startswith(prefix):
                edited = edit(json.loads(body))
                return edited if isinstance(edited, bytes) else compact(edited)
        return body

    async with altered(stack, alter):
        yield stack, edits


def compact(answer: Any) -> bytes:
    """JSON as the simulator writes it: what is not edited stays byte for byte."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


async def rejected(stack: Stack) -> int:
    found: int = await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.rejected_rows")
    return found


async def items(stack: Stack, item_id: str) -> list[asyncpg.Record]:
    return await stack.db.fetch("SELECT * FROM pluggy_live.items WHERE id = $1", item_id)


async def verify(stack: Stack, item_id: str) -> None:
    await stack.process_order("sync/verify", item_id)


def with_row(row_id: str, **fields: Any) -> Any:
    """An edit: one row of a list with other fields."""

    def edit(answer: dict[str, Any]) -> dict[str, Any]:
        for row in answer["results"]:
            if row["id"] == row_id:
                row.update(fields)
        return answer

    return edit


# Rows that cannot be read


@pytest.mark.parametrize(
    "fields", [{"amount": None}, {"id": "no-uuid"}, {"id": None}, {"id": 17}], ids=str
)
async def test_a_row_that_is_again_as_stored_is_no_longer_rejected(
    odd: tuple[Stack, dict[str, Edit]], fields: dict[str, object]
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, accounts=1)
    [row_id, *_] = await stack.live(item["id"])
    edits[TRANSACTIONS] = with_row(row_id, **fields)
    await verify(stack, item["id"])
    assert await rejected(stack) == 1
    assert await tombstones(stack, item["id"]) == 0
    edits.clear()
    await verify(stack, item["id"])
    assert await rejected(stack) == 0
    await stack.assert_equal(item["id"])


def with_raw(row_id: str, raw: bytes) -> Any:
    """An edit: a field is added to a row, written as no JSON writer would write it."""

    def edit(answer: dict[str, Any]) -> bytes:
        return compact(answer).replace(
            b'{"id":"' + row_id.encode(), raw + b'"id":"' + row_id.encode(), 1
        )

    return edit


UNREADABLE = b'{"odd":1e99999999999999999999,'


@pytest.mark.parametrize("nameless", [False, True])
async def test_a_deleted_id_that_comes_back_unreadable_is_not_tombstoned(
    odd: tuple[Stack, dict[str, Edit]], nameless: bool
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    [row_id, *_] = await stack.live(item["id"])
    edits[TRANSACTIONS] = (
        with_row(row_id, id="no-uuid") if nameless else with_raw(row_id, UNREADABLE)
    )
    await stack.process(
        "transactions/deleted", item["id"], accountId=account, transactionIds=[row_id]
    )
    await stack.after(timedelta(minutes=6))
    assert await rejected(stack) == 1
    assert await tombstones(stack, item["id"]) == 0


@pytest.mark.parametrize("table", ["loans", "investments", "bills"])
async def test_an_unreadable_row_of_a_list_holds_up_no_other(
    odd: tuple[Stack, dict[str, Edit]], table: str
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    [row_id, *_] = await stack.live(item["id"], table)
    await stack.collect(item["id"], products={table: {"created": 1}})
    edits[f"/{table}"] = with_raw(row_id, UNREADABLE)
    await verify(stack, item["id"])
    assert await rejected(stack) == 1
    assert await tombstoned(stack, item["id"], table) == set()
    assert set(await stack.live(item["id"], table)) == set(await stack.truth(item["id"], table))


async def test_movements_that_come_unreadable_are_not_tombstoned(
    odd: tuple[Stack, dict[str, Edit]],
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    rows = await stack.live(item["id"], "investment_transactions")
    row_id, row = next(iter(rows.items()))
    path = f"/investments/{row['investment_id']}/transactions"
    edits[path] = with_row(row_id, id="no-uuid")
    for _ in range(3):
        await verify(stack, item["id"])
        await stack.after(timedelta(minutes=6))
    assert await tombstoned(stack, item["id"], "investment_transactions") == set()


# Pages


async def test_an_answer_to_ids_is_read_to_its_last_page(
    odd: tuple[Stack, dict[str, Edit]],
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    ids = list(await stack.live(item["id"]))[:10]

    def in_pages(answer: dict[str, Any]) -> dict[str, Any]:
        rows = sorted(answer["results"], key=lambda row: row["id"] in ids)
        half = len(rows) // 2
        return {"results": rows[:half], "next": f"?accountId={account}&after=2"}

    def second(answer: dict[str, Any]) -> dict[str, Any]:
        rows = [{"id": row_id, **json.loads(row["payload"])} for row_id, row in stored.items()]
        return {"results": [row for row in rows if row["id"] in ids], "next": None}

    stored = await stack.live(item["id"])
    edits[f"/v2/transactions?accountId={account}&after=2"] = second
    edits[f"/v2/transactions?accountId={account}&ids="] = in_pages
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=ids)
    assert await tombstones(stack, item["id"]) == 0


async def test_a_list_with_an_empty_page_in_the_middle_is_not_complete(
    odd: tuple[Stack, dict[str, Edit]],
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.collect(item["id"], products={"investments": {"created": 2}})
    true = await stack.truth(item["id"], "investments")
    first, last = list(true.values())[:1], list(true.values())[1:]
    path = f"/investments?itemId={item['id']}"

    def page(number: int, rows: list[Any]) -> Any:
        return lambda _: {"page": number, "total": len(true), "totalPages": 3, "results": rows}

    edits |= {
        f"{path}&page=2": page(2, []),
        f"{path}&page=3": page(3, last),
        path: page(1, first),
    }
    await verify(stack, item["id"])
    [shown] = [r for r in await freshness(stack, item["id"]) if r["product"] == "investments"]
    assert shown["state"] == "stale"
    edits.clear()
    await stack.after(timedelta(hours=2))
    assert set(await stack.live(item["id"], "investments")) == set(true)


async def test_a_list_whose_pages_are_all_the_first_is_not_complete(
    odd: tuple[Stack, dict[str, Edit]],
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.collect(item["id"], products={"investments": {"created": 2}})
    true = await stack.truth(item["id"], "investments")
    first = {"page": 1, "total": len(true), "totalPages": 2, "results": list(true.values())[:1]}
    edits[f"/investments?itemId={item['id']}"] = lambda _: first
    await verify(stack, item["id"])
    [shown] = [r for r in await freshness(stack, item["id"]) if r["product"] == "investments"]
    assert (shown["state"], shown["reason"]) == ("stale", "page_repeated")
    edits.clear()
    await stack.after(timedelta(hours=2))
    assert set(await stack.live(item["id"], "investments")) == set(true)


@pytest.mark.parametrize("newer_first", [False, True])
async def test_of_a_row_that_stands_twice_in_a_page_the_newer_is_kept(
    odd: tuple[Stack, dict[str, Edit]], newer_first: bool
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=30, accounts=1)
    row_id = min(await stack.live(item["id"]))

    def twice(answer: dict[str, Any]) -> dict[str, Any]:
        rows = []
        for row in answer["results"]:
            newer = row | {"id": row_id.upper(), "updatedAt": "2099-01-01T00:00:00Z", "amount": 7}
            both = [newer, row] if newer_first else [row, newer]
            rows += both if row["id"] == row_id else [row]
        return answer | {"results": rows}

    edits[TRANSACTIONS] = twice
    await verify(stack, item["id"])
    assert (await stack.live(item["id"]))[row_id]["amount"] == 7


# Items


async def test_an_item_that_moves_to_another_connector_is_shown_there(
    odd: tuple[Stack, dict[str, Edit]],
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=10)

    def moved(answer: dict[str, Any]) -> dict[str, Any]:
        answer["connector"] |= {"id": 7001, "name": "Banco Novo"}
        return answer

    edits[f"/items/{item['id']}"] = moved
    await stack.process("item/updated", item["id"])
    [row] = await items(stack, item["id"])
    assert (row["connector_id"], row["connector_name"]) == (7001, "Banco Novo")


async def test_an_item_that_is_there_again_brings_back_all_it_owns(
    odd: tuple[Stack, dict[str, Edit]],
) -> None:
    stack, _ = odd
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    gone = {"status": 404, "codeDescription": "ITEM_NOT_FOUND"}
    await stack.simulator.apost(
        "/_simulator/faults", {"match": "GET /items", "kind": "status", "times": 1} | gone
    )
    await stack.process("item/deleted", item["id"])
    assert await stack.live(item["id"]) == {}
    await stack.process("item/updated", item["id"])
    await stack.assert_equal(item["id"])


@pytest.mark.parametrize("written", ["0000-00-00T00:00:00Z", "2026-02-30T10:00:00.000Z"])
async def test_a_date_that_is_none_breaks_no_view(
    odd: tuple[Stack, dict[str, Edit]], written: str
) -> None:
    stack, edits = odd
    item = await stack.synced_item(transactions=10)

    def edit(answer: dict[str, Any]) -> dict[str, Any]:
        detail = {"isUpdated": False, "lastUpdatedAt": written, "warnings": []}
        return answer | {"statusDetail": {"loans": detail}, "executionStatus": "PARTIAL_SUCCESS"}

    edits[f"/items/{item['id']}"] = edit
    await stack.process("item/updated", item["id"])
    [shown] = [r for r in await freshness(stack, item["id"]) if r["product"] == "loans"]
    assert shown["reason"] == "not_collected"
