"""Refused cursors: the read begins again from its first page; the list is not refused."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from arq.connections import ArqRedis

from tests.support.altered_pluggy import altered
from tests.support.pluggy_stub import PluggyStub, Said, reading
from tests.support.stack import Stack
from tests.syncing.test_transactions import changed
from worker.infra.postgres import Connection
from worker.lease.lease import SyncSession
from worker.pluggy_api.endpoints import Page
from worker.pluggy_api.errors import MAX_RESTARTS, CursorRefused, PluggyError, PluggyNotFound
from worker.sync import account_walk as walks
from worker.sync import transactions
from worker.sync.page_rows import Listed
from worker.sync.transactions import store_listed

REFUSALS = {
    "400": Said(400, {"code": 400, "message": "Invalid cursor"}),
    "404 with its own code": Said(404, {"codeDescription": "ACCOUNT_NOT_FOUND"}),
    "404": Said(404, {"message": "Not found"}),
    "410": Said(410, {"codeDescription": "CURSOR_EXPIRED"}),
    "422": Said(422, {"message": "cursor"}),
    "200 of another shape": Said(200, {"message": "Invalid cursor", "code": 400}),
}
any_refusal = pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)


class RefusesCursors:
    """A first page of two new rows, and so many refusals of the page behind it, with the rest.

    stored: ids of rows that are not new. A delta lists them too, and some are dated after new ones.
    """

    def __init__(self, refusal: Said, times: int = 1, stored: Collection[str] = ()) -> None:
        self.refusal, self.times, self.stored = refusal, times, stored
        self.asked: list[str] = []

    async def __call__(self, path: str, body: bytes) -> bytes | tuple[int, bytes]:
        if not path.startswith("/v2/transactions"):
            return body
        self.asked.append(path)
        rows = json.loads(body)["results"]
        if "after=" not in path and "ids=" not in path and len(rows) > 2:
            page = self._first_page(rows)
            return json.dumps({"results": page, "next": path + behind(page[-1])}).encode()
        if self.times > 0 and "after=" in path:
            self.times -= 1
            return self.refusal.status, json.dumps(self.refusal.body).encode()
        return body

    def _first_page(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        new = [number for number, row in enumerate(rows) if row["id"] not in self.stored]
        return rows[: new[1] + 1]


def behind(row: dict[str, Any]) -> str:
    """The simulator's cursor of the page behind a row."""
    return "&after=" + quote(b64encode(f"{row['date']}|{row['id']}".encode()))


async def collected(stack: Stack, rows: int = 12) -> tuple[str, str]:
    """An item of one account in which so many rows are new that no webhook has announced."""
    item = await stack.synced_item(transactions=60, accounts=1)
    answer = await stack.collect(item["id"], created=rows)
    [account] = changed(answer, "created")
    return item["id"], account


@any_refusal
async def test_a_delta_whose_cursor_is_refused_starts_again(stack: Stack, refusal: Said) -> None:
    item_id, account = await collected(stack)
    pluggy = RefusesCursors(refusal)
    async with altered(stack, pluggy):
        await stack.process(
            "transactions/created", item_id, accountId=account, transactionsCount=12
        )
    assert (await stack.states(item_id))[-1] == "applied"
    await stack.assert_equal(item_id, ["transactions"])


@any_refusal
async def test_a_walk_whose_cursor_is_refused_starts_again(stack: Stack, refusal: Said) -> None:
    item = await stack.item(transactions=60, accounts=1)
    async with altered(stack, RefusesCursors(refusal)):
        await stack.process("item/created", item["id"])
    await stack.assert_equal(item["id"])
    assert set(await stack.states(item["id"])) == {"applied"}


@any_refusal
async def test_a_long_delta_that_goes_on_as_a_walk_starts_again_as_a_delta(
    stack: Stack, refusal: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, account = await collected(stack)
    monkeypatch.setattr(transactions, "MAX_DELTA_PAGES", 1)
    pluggy = RefusesCursors(refusal)
    async with altered(stack, pluggy):
        await stack.process(
            "transactions/created", item_id, accountId=account, transactionsCount=12
        )
    assert all("createdAtFrom=" in path for path in pluggy.asked)
    assert (await stack.states(item_id))[-1] == "applied"
    await stack.assert_equal(item_id, ["transactions"])


async def test_a_cursor_that_is_refused_for_ever_fails_its_step_and_is_shown(stack: Stack) -> None:
    item_id, account = await collected(stack)
    before = await stack.live(item_id)
    pluggy = RefusesCursors(REFUSALS["404 with its own code"], times=10**6, stored=before)
    async with altered(stack, pluggy):
        await stack.process(
            "transactions/created", item_id, accountId=account, transactionsCount=12
        )
    assert len(pluggy.asked) == 2 * (1 + MAX_RESTARTS)
    new = set(await stack.live(item_id)) - set(before)
    assert len(new) == 2, "the rows of the first page are stored"
    assert account in await stack.live(item_id, "accounts")
    [step] = await stack.db.fetch(
        "SELECT * FROM pluggy_sync.product_sync WHERE item_id = $1 AND failure_code IS NOT NULL",
        item_id,
    )
    assert (step["failure_class"], step["failure_code"]) == ("retry", "cursor_refused")
    assert step["dead_at"] is None


async def test_a_walk_whose_cursor_is_refused_for_ever_fails_and_is_shown(stack: Stack) -> None:
    item = await stack.item(transactions=60, accounts=1)
    pluggy = RefusesCursors(REFUSALS["400"], times=10**6)
    async with altered(stack, pluggy):
        await stack.process("item/created", item["id"])
    assert len(pluggy.asked) == 2 * (1 + MAX_RESTARTS)
    code = await stack.db.fetchval(
        "SELECT failure_code FROM pluggy_sync.product_sync WHERE product = 'transactions'"
    )
    assert code == "cursor_refused"


async def test_the_next_page_of_a_walk_is_asked_for_once_and_while_one_is_stored(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await stack.item(transactions=60, accounts=1)
    pluggy, asked = RefusesCursors(REFUSALS["400"], times=0), asyncio.Event()

    async def note(path: str, body: bytes) -> bytes | tuple[int, bytes]:
        if "after=" in path:
            asked.set()
        return await pluggy(path, body)

    async def store_when_asked(
        conn: Connection, session: SyncSession, account_id: uuid.UUID, page: Page
    ) -> Listed:
        if page.next is not None:
            async with asyncio.timeout(20):
                await asked.wait()
            session.generation += 1  # as if an event had come: the page is read all the same
            if session.savepoints is False:
                raise asyncpg.DataError("refused: the page is written again, and asks no more")
        return await store_listed(conn, session, account_id, page)

    monkeypatch.setattr(walks, "store_listed", store_when_asked)
    async with altered(stack, note):
        await stack.process("item/created", item["id"])
    assert ["after=" in path for path in pluggy.asked] == [False, True]
    await stack.assert_equal(item["id"])


async def test_a_walk_whose_time_is_up_asks_for_no_further_page(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "WALK_TIMEOUT_S", -1.0)
    item = await stack.item(transactions=60, accounts=1)
    pluggy = RefusesCursors(REFUSALS["400"], times=0)
    async with altered(stack, pluggy):
        await stack.process("item/created", item["id"])
    assert len(pluggy.asked) == 2
    claims = await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.runs WHERE kind = 'walk'")
    assert claims == 2, "a page, and the page that is its end"
    await stack.assert_equal(item["id"])


async def test_a_walk_of_ever_new_cursors_ends(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "CHECK_EVERY_PAGES", 10)
    item = await stack.item(transactions=60, accounts=1)
    asked = 0

    async def ever_on(path: str, body: bytes) -> bytes:
        nonlocal asked
        if not path.startswith("/v2/transactions"):
            return body
        asked += 1
        again = behind({"date": "2999-01-01T00:00:00.000Z", "id": uuid.uuid4()})
        path = path.partition("&after=")[0]
        return json.dumps(json.loads(body) | {"next": path + again}).encode()

    async with altered(stack, ever_on):
        await stack.process("item/created", item["id"])
    assert asked <= (60 + 20) * (1 + MAX_RESTARTS)
    code = await stack.db.fetchval(
        "SELECT failure_code FROM pluggy_sync.product_sync WHERE product = 'transactions'"
    )
    assert code == "endless_list"


# Lists by page number, and questions about ids


def pages(*refusals: Said) -> list[Said]:
    """Page one and a refusal for each, then three pages to the end."""
    good = [
        Said(body={"results": [{"id": n}], "page": n, "total": 3, "totalPages": 3})
        for n in (1, 2, 3)
    ]
    return [*(said for refusal in refusals for said in (good[0], refusal)), *good]


LISTS = ["/loans?itemId=1", "/investments/1/transactions", "/connectors?sandbox=true", "/webhooks"]


@any_refusal
@pytest.mark.parametrize("path", LISTS)
async def test_a_list_by_page_number_starts_again(
    redis: ArqRedis, path: str, refusal: Said
) -> None:
    async with (
        PluggyStub(*pages(refusal)) as pluggy,
        reading(pluggy.url, redis) as reader,
    ):
        page = await reader.rows(path)
        assert [json.loads(bytes(row))["id"] for row in page.rows] == [1, 2, 3]


@any_refusal
async def test_a_list_whose_pages_are_always_refused_fails(redis: ArqRedis, refusal: Said) -> None:
    refusals = [refusal] * (1 + MAX_RESTARTS)
    async with (
        PluggyStub(*pages(*refusals)) as pluggy,
        reading(pluggy.url, redis) as reader,
    ):
        with pytest.raises(CursorRefused):
            await reader.rows(f"/accounts?itemId={uuid.UUID(int=1)}")
        assert pluggy.count("GET") == 2 * (1 + MAX_RESTARTS)


async def test_a_list_that_is_gone_by_its_second_page_is_gone(redis: ArqRedis) -> None:
    """Asked from its start the list itself answers: only that is about the thing."""
    gone = REFUSALS["404 with its own code"]
    page = Said(body={"results": [{"id": 1}], "totalPages": 3})
    async with PluggyStub(page, gone) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyNotFound, match="ACCOUNT_NOT_FOUND"):
            await reader.rows(f"/bills?accountId={uuid.UUID(int=1)}")
        assert pluggy.count("GET") == 3


@any_refusal
async def test_a_question_about_ids_starts_again(redis: ArqRedis, refusal: Said) -> None:
    first, last = (
        Said(body={"results": [{"id": n}], "next": next_}) for n, next_ in ((1, "?x=1"), (2, None))
    )
    async with (
        PluggyStub(first, refusal, first, last) as pluggy,
        reading(pluggy.url, redis) as reader,
    ):
        page = await reader.transactions(uuid.UUID(int=1), ids=[uuid.UUID(int=2)])
        assert ([json.loads(bytes(row))["id"] for row in page.rows], page.next) == ([1, 2], None)


async def test_what_breaks_on_the_way_starts_nothing_again(redis: ArqRedis) -> None:
    page = Said(body={"results": [{"id": 1}], "totalPages": 3})
    for broken in (Said(503), Said(body=b'{"results": ['), Said(429)):
        async with PluggyStub(page, broken) as pluggy, reading(pluggy.url, redis) as reader:
            with pytest.raises(PluggyError) as raised:
                await reader.rows(f"/accounts?itemId={uuid.UUID(int=1)}")
            assert not isinstance(raised.value, CursorRefused)
            assert pluggy.count("GET") == 2
