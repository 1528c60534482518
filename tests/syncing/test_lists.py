"""Lists by page number, by cursor, or without a word about their length; any answer may differ."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from arq.connections import ArqRedis

from tests.support.altered_pluggy import altered
from tests.support.pluggy_stub import PluggyStub, Said, reading
from tests.support.stack import TABLES, Stack
from worker.pluggy_api.errors import MAX_RESTARTS, CursorRefused, PluggyUnavailable
from worker.pluggy_api.paging import UNKNOWN_LENGTH

OPEN_FINANCE = 601
PATH = "/loans?itemId=1"
LISTED = ("accounts", "bills", "investments", "investment_transactions", "loans", "consents")


def page(*ids: int, **fields: Any) -> Said:
    return Said(body={"results": [{"id": n} for n in ids], **fields})


async def read(redis: ArqRedis, *answers: Said) -> tuple[list[int], bool, list[str]]:
    """Ids of the rows, whether the list is complete, and what was asked for."""
    async with PluggyStub(*answers) as pluggy, reading(pluggy.url, redis) as reader:
        found = await reader.rows(PATH)
        asked = [asked.path for asked in pluggy.asked if asked.method == "GET"]
        ids = [json.loads(bytes(row))["id"] for row in found.rows]
        return ids, found.is_complete, asked


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([page(1, next="?itemId=1&after=a%3D"), page(2, next=None)], "/loans?itemId=1&after=a%3D"),
        ([page(1, next="https://x.example/loans?after=a"), page(2, next=None)], "/loans?after=a"),
        ([page(1, next="?after=a", totalPages=9), page(2, next=None)], "/loans?after=a"),
        ([page(1, totalPages=2), page(2, totalPages=2)], f"{PATH}&page=2"),
        ([page(1, total=2), page(2, total=2)], f"{PATH}&page=2"),
        ([page(1, next=None, totalPages=2), page(2, totalPages=2)], f"{PATH}&page=2"),
        ([page(1, totalPages=2), page(2, next=None)], f"{PATH}&page=2"),
        ([page(1, next="?after=a"), page(2, page=2, total=2, totalPages=2)], "/loans?after=a"),
    ],
    ids=["query", "url", "both", "pages", "rows", "null", "to cursors", "to pages"],
)
async def test_each_answer_says_how_the_list_goes_on(
    redis: ArqRedis, answers: list[Said], asked: str
) -> None:
    assert await read(redis, *answers) == ([1, 2], True, [PATH, asked])


async def test_a_page_by_cursor_without_rows_is_not_the_last(redis: ArqRedis) -> None:
    answers = [page(1, next="?after=a"), page(next="?after=b"), page(2, next=None)]
    ids, is_complete, asked = await read(redis, *answers)
    assert (ids, is_complete, len(asked)) == ([1, 2], True, 3)


@pytest.mark.parametrize("numbers", [{}, {"page": 1}, {"totalPages": None}, {"total": "many"}])
async def test_an_answer_that_says_nothing_leaves_the_list_incomplete(
    redis: ArqRedis, numbers: dict[str, Any]
) -> None:
    assert await read(redis, page(1, 2, **numbers)) == ([1, 2], False, [PATH])
    later = [page(1, next="?after=a"), page(2, **numbers)]
    ids, is_complete, _ = await read(redis, *later)
    assert (ids, is_complete) == ([1, 2], False)


@pytest.mark.parametrize(
    "circle",
    [
        [page(1, next="?after=a"), page(2, next="?after=a")],
        [page(1, next="?after=a"), page(2, next="?after=b"), page(3, next="?after=a")],
        [page(1, total=3), page(1, total=3)],
        [page(1, totalPages=3), page(1, totalPages=3)],
    ],
    ids=["itself", "circle", "rows", "pages"],
)
async def test_a_list_that_goes_in_a_circle_is_read_again_and_then_fails(
    redis: ArqRedis, circle: list[Said]
) -> None:
    with pytest.raises(CursorRefused, match="repeated"):
        await read(redis, *circle * (1 + MAX_RESTARTS))
    good = [page(1, next="?after=a"), page(2, next=None)]
    assert (await read(redis, *circle, *good))[:2] == ([1, 2], True)


async def test_a_list_whose_cursors_never_end_is_bounded(
    redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pluggy_api.endpoints.MAX_LIST_PAGES", 5)
    answers = [page(n, next=f"?after={n}") for n in range(10)]
    with pytest.raises(PluggyUnavailable, match="endless_list"):
        await read(redis, *answers)


# Synced


@pytest.fixture
async def paged_stack(stack: Stack) -> AsyncIterator[Stack]:
    """Afterwards all lists are by page number again."""
    yield stack
    await stack.simulator.apost("/_simulator/lists", {"model": "page"})


async def turn(stack: Stack, model: str, page_size: int = 1, item: str | None = None) -> None:
    order = {"model": model, "pageSize": page_size, "item": item}
    await stack.simulator.apost("/_simulator/lists", order)


async def asked_by_cursor(stack: Stack) -> set[str]:
    log = (await stack.simulator.aget("/_simulator/requests"))["log"]
    return {entry["path"].split("/")[1] for entry in log if "after=" in entry["query"]}


async def shown(stack: Stack, item_id: str, product: str) -> list[tuple[str, str | None]]:
    rows = await stack.db.fetch(
        "SELECT DISTINCT state, reason FROM pluggy_ops.freshness"
        " WHERE item_id = $1 AND product = $2",
        item_id,
        product,
    )
    return [(row["state"], row["reason"]) for row in rows]


async def listed_kinds(stack: Stack, item_id: str) -> list[asyncpg.Record]:
    return await stack.db.fetch(
        "SELECT * FROM pluggy_ops.worklist WHERE item_id = $1 AND kind = $2",
        item_id,
        UNKNOWN_LENGTH,
    )


async def test_every_list_by_cursor_is_mirrored_to_its_last_page(stack: Stack) -> None:
    item = await stack.item(
        transactions=60,
        accounts=4,
        connectorId=OPEN_FINANCE,
        lists={"model": "cursor", "pageSize": 1},
    )
    # A drawn item may have one loan only, whose list is one page.
    await stack.collect(item["id"], products={"loans": {"created": 1}})
    await stack.reset_requests()
    await stack.process("item/created", item["id"])
    await stack.assert_equal(item["id"])
    assert await asked_by_cursor(stack) >= {"accounts", "bills", "investments", "loans"}
    assert {state for p in LISTED for state in await shown(stack, item["id"], p)} == {
        ("fresh", None)
    }


async def test_lists_may_switch_between_two_reads_and_back(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=3, connectorId=OPEN_FINANCE)
    for model in ("cursor", "page", "cursor"):
        await turn(stack, model, item=item["id"])
        await stack.update(
            item["id"],
            created=2,
            products={"loans": {"created": 1}, "investments": {"created": 1, "updated": 1}},
        )
        await stack.assert_equal(item["id"])
    [loan, *_] = await stack.live(item["id"], "loans")
    await stack.update(item["id"], close=[loan])
    await stack.assert_equal(item["id"])
    assert loan not in await stack.live(item["id"], "loans")


async def test_a_cursor_of_a_row_that_has_gone_starts_the_list_again(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, connectorId=OPEN_FINANCE)
    await stack.collect(item["id"], products={"loans": {"created": 2}})
    await turn(stack, "cursor", item=item["id"])
    closed: list[str] = []

    async def close_first(path: str, body: bytes) -> bytes:
        if path.startswith("/loans?") and not closed:
            closed.append(json.loads(body)["results"][0]["id"])
            await stack.collect(item["id"], close=closed)
        return body

    async with altered(stack, close_first):
        await stack.process("item/updated", item["id"])
    assert closed
    await stack.assert_equal(item["id"], ["loans"])


@pytest.mark.parametrize("product", ["accounts", "investments", "loans"])
async def test_of_a_list_of_unknown_length_no_row_is_missing(stack: Stack, product: str) -> None:
    item = await stack.synced_item(transactions=30, accounts=3, connectorId=OPEN_FINANCE)
    await stack.update(item["id"], products={product: {"created": 2}})
    stored = set(await stack.live(item["id"], product))
    await turn(stack, "cursor", item=item["id"])
    await stack.fault(f"GET /{product}", kind="no_paging", query="itemId=", rate=1)
    await stack.reset_requests()
    await stack.update(item["id"], products={product: {"updated": 1}})
    assert len(stored) > 1
    assert set(await stack.live(item["id"], product)) == stored
    assert f"GET /{product}/{{id}}" not in await stack.requests()
    assert await shown(stack, item["id"], product) == [("incomplete", UNKNOWN_LENGTH)]
    [row] = await listed_kinds(stack, item["id"])
    assert (row["blocked_on"], row["severity"], row["how_many"]) == ("us", "yellow", 1)
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.clear_faults()
    await stack.update(item["id"], created=1)
    await stack.assert_equal(item["id"])
    assert await shown(stack, item["id"], product) == [("fresh", None)]
    assert await listed_kinds(stack, item["id"]) == []


async def test_a_list_of_unknown_length_is_stored_and_its_closed_rows_wait(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.update(item["id"], products={"loans": {"created": 1}})
    stored = set(await stack.live(item["id"], "loans"))
    await stack.fault("GET /loans", kind="no_paging", query="itemId=", rate=1)
    await stack.update(item["id"], close=[min(stored)], products={"loans": {"created": 1}})
    true = set(await stack.truth(item["id"], "loans"))
    assert len(true - stored) == 1
    assert set(await stack.live(item["id"], "loans")) == stored | true
    await stack.clear_faults()
    await stack.update(item["id"], created=1)
    await stack.assert_equal(item["id"])


async def test_an_account_that_its_own_rows_do_not_know_is_asked_for(stack: Stack) -> None:
    """The 404 of its bills names it, whatever the list of accounts says; its own 404 proves it."""
    item = await stack.synced_item(transactions=30, accounts=3, connectorId=OPEN_FINANCE)
    closed = min(await stack.live(item["id"], "accounts"))
    await stack.fault("GET /accounts", kind="no_paging", query="itemId=", rate=1)
    await stack.update(item["id"], close=[closed], created=1)
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_the_rest_of_an_item_goes_on_beside_a_list_of_unknown_length(stack: Stack) -> None:
    item = await stack.item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.fault("GET /accounts", kind="no_paging", query="itemId=", rate=1)
    await stack.process("item/created", item["id"])
    await stack.assert_equal(item["id"])
    assert await shown(stack, item["id"], "transactions") == [("fresh", None)]
    verified = await stack.db.fetch(
        "SELECT product, verified_at FROM pluggy_sync.product_sync WHERE item_id = $1", item["id"]
    )
    by_product = {row["product"]: row["verified_at"] for row in verified}
    assert by_product["accounts"] is None
    assert by_product["loans"] is not None


async def test_an_empty_list_of_unknown_length_proves_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    stored = set(await stack.live(item["id"], "loans"))
    await stack.collect(item["id"], close=list(stored))
    await stack.fault("GET /loans", kind="no_paging", query="itemId=", rate=1)
    for _ in range(2):
        await stack.process("item/updated", item["id"])
        await stack.after(timedelta(days=1, hours=2))
        await stack.collect(item["id"], created=1)
    assert set(await stack.live(item["id"], "loans")) == stored
    assert await shown(stack, item["id"], "loans") == [("stale", "empty_answer")]


async def test_movements_of_a_list_of_unknown_length_are_never_missing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    # One investment with movements enough: an empty list would be another matter.
    await stack.update(item["id"], close=list(await stack.live(item["id"], "investments"))[1:])
    await stack.update(item["id"], products={"investment_transactions": {"created": 4}})
    stored = set(await stack.live(item["id"], "investment_transactions"))
    await stack.collect(item["id"], products={"investment_transactions": {"deleted": 2}})
    await stack.fault("GET /investments/*/transactions", kind="no_paging", rate=1)
    for _ in range(2):
        await stack.process_order("sync/verify", item["id"])
        await stack.after(timedelta(hours=1))
    assert set(await stack.live(item["id"], "investment_transactions")) == stored
    assert await shown(stack, item["id"], "investment_transactions") == [
        ("incomplete", UNKNOWN_LENGTH)
    ]
    await stack.clear_faults()
    for _ in range(2):
        await stack.process_order("sync/verify", item["id"])
        await stack.after(timedelta(hours=1))
    await stack.assert_equal(item["id"], ["investment_transactions"])


async def test_a_list_by_cursor_that_is_retired_parks_its_product_alone(stack: Stack) -> None:
    item = await stack.synced_item(
        transactions=30, connectorId=OPEN_FINANCE, lists={"model": "cursor", "pageSize": 1}
    )
    await stack.refuse("GET /loans", 410, codeDescription="ENDPOINT_DEPRECATED")
    await stack.update(item["id"], created=2, products={"loans": {"created": 1}})
    parked = await stack.db.fetch("SELECT product FROM pluggy_sync.parked_products")
    assert [row["product"] for row in parked] == ["loans"]
    assert (await stack.states(item["id"]))[-1] == "applied"
    await stack.assert_equal(item["id"], [table for table in TABLES if table != "loans"])
