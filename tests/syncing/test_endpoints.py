"""Reads of each endpoint: cursors, pages, amounts and Pluggy's clock."""

import json
import time
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from arq.connections import ArqRedis

from tests.support.pluggy_stub import PluggyStub, Said, WireStub, reading
from tests.support.simulator_process import SimulatorProcess
from worker.pluggy_api.endpoints import Page
from worker.pluggy_api.errors import PluggyUnavailable
from worker.pluggy_api.paging import FullList
from worker.pluggy_api.payloads import decode_object

ITEM, ACCOUNT = uuid.UUID(int=1), uuid.UUID(int=2)


def page(next_: str | None, **row: Any) -> Said:
    return Said(body={"results": [row], "next": next_})


@pytest.mark.parametrize(
    "before",
    ["", "https://api.pluggy.ai/v2/transactions", "/v2/transactions", "http://elsewhere.example/x"],
)
async def test_next_is_asked_for_verbatim_and_never_elsewhere(redis: ArqRedis, before: str) -> None:
    query = "?accountId=a&after=MjAyNi0wMy0xNVQwMDowMDowMC4wMDBafGE%3D&x=%2F%20+,&ids=a,b"
    async with (
        PluggyStub(page(before + query, id=1), page(None, id=2)) as pluggy,
        reading(pluggy.url, redis) as reader,
    ):
        first = await reader.transactions(ACCOUNT)
        assert first.next == before + query
        second = await reader.next_transactions(first.next)
        assert (second.next, len(second.rows)) == (None, 1)
        assert pluggy.asked[-1].path == "/v2/transactions" + query


@pytest.mark.parametrize(
    "cursor",
    [
        "opaque",
        "?",
        "",
        "?after=a b",
        "?after=a\r\nX: 1",
        "?after=ü",
        "?after=a#b",
        "?after=\x00",
        "?after=" + "a" * 8192,
    ],
    ids=repr,
)
async def test_a_cursor_that_cannot_be_asked_for_is_not(redis: ArqRedis, cursor: str) -> None:
    async with PluggyStub() as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyUnavailable, match="unusable_cursor"):
            await reader.next_transactions(cursor)
        assert pluggy.asked == []


async def test_an_empty_next_ends_the_list_as_null_does(redis: ArqRedis) -> None:
    async with PluggyStub(page("", id=1)) as pluggy, reading(pluggy.url, redis) as reader:
        assert (await reader.transactions(ACCOUNT)).next is None


async def test_a_walk_by_cursor_reads_every_row_of_the_simulator_once(
    redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> None:
    item = await quiet_simulator.apost("/_simulator/items", {"transactions": 1700})
    truth = await quiet_simulator.aget(f"/_simulator/truth/{item['id']}")
    async with reading(quiet_simulator.url, redis) as reader:
        for account in truth["accounts"]:
            read = await reader.transactions(uuid.UUID(account["id"]))
            rows, cursors = list(read.rows), list[str]()
            while read.next is not None:
                cursors.append(read.next)
                read = await reader.next_transactions(read.next)
                rows += read.rows
            expected = [r for r in truth["transactions"] if r["accountId"] == account["id"]]
            assert sorted(json.loads(bytes(row))["id"] for row in rows) == sorted(
                row["id"] for row in expected
            )
            assert len(set(cursors)) == len(cursors) == max(0, -(-len(expected) // 500) - 1)


async def test_a_cursor_that_comes_again_is_passed_on_for_the_caller_to_see(
    redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> None:
    item = await quiet_simulator.apost("/_simulator/items", {"transactions": 1700})
    truth = await quiet_simulator.aget(f"/_simulator/truth/{item['id']}")
    accounts = [row["accountId"] for row in truth["transactions"]]
    account = uuid.UUID(max(set(accounts), key=accounts.count))
    await quiet_simulator.apost(
        "/_simulator/faults",
        {"match": "GET /v2/transactions", "kind": "repeat_cursor", "rate": 1.0},
    )
    try:
        async with reading(quiet_simulator.url, redis) as reader:
            seen = [(await reader.transactions(account)).next]
            for _ in range(3):
                assert seen[-1] is not None
                seen.append((await reader.next_transactions(seen[-1])).next)
    finally:
        await quiet_simulator.adelete("/_simulator/faults")
    assert len(set(seen)) < len(seen)


async def test_a_list_is_read_to_its_last_page(redis: ArqRedis) -> None:
    pages = [
        Said(body={"results": [{"id": n}], "page": n, "total": 3, "totalPages": 3})
        for n in (1, 2, 3)
    ]
    async with PluggyStub(*pages) as pluggy, reading(pluggy.url, redis) as reader:
        page = await reader.rows(f"/accounts?itemId={ITEM}")
        assert [json.loads(bytes(row))["id"] for row in page.rows] == [1, 2, 3]
        assert [asked.path.rpartition("?")[2] for asked in pluggy.asked[1:]] == [
            f"itemId={ITEM}",
            f"itemId={ITEM}&page=2",
            f"itemId={ITEM}&page=3",
        ]


async def test_a_list_without_rows_has_no_pages_and_ends(redis: ArqRedis) -> None:
    empty = Said(body={"results": [], "page": 1, "total": 0, "totalPages": 0})
    async with PluggyStub(empty) as pluggy, reading(pluggy.url, redis) as reader:
        assert await reader.rows(f"/accounts?itemId={ITEM}") == FullList([])
        assert pluggy.count("GET") == 1


@pytest.mark.parametrize("written", ["0.0039", "1234567890.12", "-0.10", "1e-7"])
async def test_amounts_arrive_digit_by_digit(redis: ArqRedis, written: str) -> None:
    body = b'{"results": [{"amount": %s}], "next": null}' % written.encode()
    async with PluggyStub(Said(body=body)) as pluggy, reading(pluggy.url, redis) as reader:
        [row] = (await reader.transactions(ACCOUNT)).rows
    amount = decode_object(bytes(row))["amount"]
    assert (type(amount), amount.as_tuple()) == (Decimal, Decimal(written).as_tuple())


async def test_a_delta_is_asked_from_the_millisecond_on(redis: ArqRedis) -> None:
    since = datetime(2026, 3, 15, 9, 30, 15, 123_999, UTC)
    async with PluggyStub(page(None)) as pluggy, reading(pluggy.url, redis) as reader:
        await reader.transactions(ACCOUNT, created_at_from=since)
        # Rounded down, because it is inclusive.
        assert "&createdAtFrom=2026-03-15T09:30:15.123Z" in pluggy.asked[-1].path


async def test_rows_are_asked_for_by_id_in_one_comma_list(redis: ArqRedis) -> None:
    ids = [uuid.UUID(int=n) for n in range(200)]
    async with PluggyStub(page(None)) as pluggy, reading(pluggy.url, redis) as reader:
        await reader.transactions(ACCOUNT, ids=ids)
        assert pluggy.asked[-1].path.endswith("&ids=" + ",".join(map(str, ids)))
        assert len(pluggy.asked[-1].path) < 8000


# Pluggy's clock


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun, 15 Mar 2026 10:00:00 GMT", datetime(2026, 3, 15, 10, tzinfo=UTC)),
        ("Sun, 15 Mar 2026 10:00:00 -0000", datetime(2026, 3, 15, 10, tzinfo=UTC)),
        ("Sun, 15 Mar 2026 07:00:00 -0300", datetime(2026, 3, 15, 10, tzinfo=UTC)),
    ],
)
async def test_pluggy_s_time_is_that_of_its_date_header(
    redis: ArqRedis, date: str, expected: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    time.tzset()
    try:
        read = await read_with_date(redis, f"Date: {date}\r\n".encode())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (read.pluggy_now, read.pluggy_now.tzinfo) == (expected, UTC)


@pytest.mark.parametrize(
    "header", [b"", b"Date: \r\n", b"Date: soon\r\n", b"Date: Sun, 99 Foo 2026 10:00:00 GMT\r\n"]
)
async def test_a_page_without_pluggy_s_time_is_no_good_answer(
    redis: ArqRedis, header: bytes
) -> None:
    with pytest.raises(PluggyUnavailable, match="no_date_header"):
        await read_with_date(redis, header)


async def read_with_date(redis: ArqRedis, header: bytes) -> Page:
    wire = b'HTTP/1.1 200 OK\r\n%sContent-Length: 15\r\n\r\n{"results": []}' % header
    async with WireStub(wire) as pluggy, reading(pluggy.url, redis) as reader:
        return await reader.transactions(ACCOUNT)
