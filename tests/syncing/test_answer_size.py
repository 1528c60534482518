"""Limits on answers in bytes, values and depth; a bad row does not fail its page."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
import uuid
import zlib

import pytest
from aiohttp import web
from arq.connections import ArqRedis

from tests.support.altered_pluggy import altered, serving
from tests.support.pluggy_stub import PluggyStub, Said, reading
from tests.support.stack import Stack
from worker.pluggy_api.errors import CursorRefused, PluggyUnavailable
from worker.pluggy_api.http import MAX_ANSWER_BYTES
from worker.pluggy_api.payloads import MAX_VALUES, decode_envelope, decode_id

ACCOUNT = uuid.UUID(int=2)
MIB = 1024 * 1024


class Sends:
    """A server that sends chunks without an end in sight, and how many it got rid of."""

    def __init__(self, chunk: bytes, times: int, encoding: str | None = None) -> None:
        self.chunk, self.times, self.encoding = chunk, times, encoding
        self.sent = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/auth":
            return web.json_response({"apiKey": "key"})
        response = web.StreamResponse()
        if self.encoding:
            response.headers["Content-Encoding"] = self.encoding
        await response.prepare(request)
        for _ in range(self.times):
            try:
                await response.write(self.chunk)
            except ConnectionError:
                break
            self.sent += 1
        return response


def packed_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(bytes(MIB)) for _ in range(size // MIB)]) + packer.flush()


@pytest.mark.parametrize(
    "sends",
    [Sends(bytes(MIB), 100), Sends(packed_zeros(100 * MIB), 1, "gzip")],
    ids=["plain", "packed"],
)
async def test_an_answer_of_100_mib_is_refused_and_never_in_memory(
    redis: ArqRedis, sends: Sends
) -> None:
    async with serving(sends.answer) as url, reading(url, redis) as reader:
        tracemalloc.start()
        try:
            with pytest.raises(PluggyUnavailable, match="answer_too_large"):
                await reader.transactions(ACCOUNT)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MAX_ANSWER_BYTES + 16 * MIB
    assert sends.sent <= 60, "the rest is not received"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_packed_answers_are_read(redis: ArqRedis, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    body = json.dumps({"results": [{"id": n, "x": "y" * 200} for n in range(5000)]}).encode()
    # In two members, as some proxies send.
    packed = pack(body[:1000]) + pack(body[1000:])
    async with serving(Sends(packed, 1, encoding).answer) as url, reading(url, redis) as reader:
        assert len((await reader.transactions(ACCOUNT)).rows) == 5000


@pytest.mark.parametrize(
    ("sends", "code"),
    [
        (Sends(b"no gzip", 1, "gzip"), "broken_encoding"),
        (Sends(gzip.compress(b"{}" * 1000)[:-10], 1, "gzip"), "broken_encoding"),
        (Sends(b"{}", 1, "br"), "unknown_encoding"),
    ],
    ids=["other bytes", "cut off", "unknown"],
)
async def test_what_is_not_packed_as_it_says_is_a_failure(
    redis: ArqRedis, sends: Sends, code: str
) -> None:
    async with serving(sends.answer) as url, reading(url, redis) as reader:
        with pytest.raises(PluggyUnavailable, match=code):
            await reader.transactions(ACCOUNT)


async def test_a_list_of_more_values_than_fit_is_refused(redis: ArqRedis) -> None:
    body = b'{"results": [' + b"1," * (MAX_VALUES + 1) + b"1]}"
    async with PluggyStub(Said(body=body)) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyUnavailable, match="answer_too_large"):
            await reader.transactions(ACCOUNT)


async def test_a_list_by_page_number_is_bounded_as_a_whole(redis: ArqRedis) -> None:
    row = {"x": "y" * 1000}
    pages = [
        {"results": [row | {"n": n} for _ in range(8000)], "totalPages": 900} for n in range(7)
    ]
    answers = [Said(body=page) for page in pages]
    async with PluggyStub(*answers) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyUnavailable, match=r"list_too_large"):
            await reader.rows(f"/accounts?itemId={ACCOUNT}")
        assert pluggy.count("GET") <= 7


@pytest.mark.parametrize(
    "next_",
    ["?after=" + "a" * 40_000, "?" * 40_000, 5, ["?a=b"], {"after": 1}],
    ids=["long", "quadratic", "number", "list", "object"],
)
async def test_rows_before_an_unusable_cursor_are_read_and_it_costs_no_time(
    redis: ArqRedis, next_: object
) -> None:
    body = {"results": [{"id": 1}], "next": next_}
    async with PluggyStub(Said(body=body)) as pluggy, reading(pluggy.url, redis) as reader:
        page = await reader.transactions(ACCOUNT)
        assert len(page.rows) == 1
        assert page.next is not None
        began = time.thread_time()
        with pytest.raises(CursorRefused, match="unusable_cursor"):
            await reader.next_transactions(page.next)
        assert time.thread_time() - began < 0.5  # quadratic in the length: seconds


@pytest.mark.parametrize("depth", [900, 3_000, 100_000])
def test_a_deep_row_leaves_the_others_of_its_page_as_they_are(depth: int) -> None:
    odd = b'{"id": "deep", "x": ' + b"[" * depth + b"]" * depth + b', "y": "]}{["}'
    plain = [b'{"id": 1, "s": "a\\"[{"}', b"5", b'"text"', b"[1, 2]", b"{}"]
    rows = [*plain, odd, *plain]
    body = b'{"total": 3, "results": [' + b", ".join(rows) + b'], "next": "?x=1", "z": {"a": {}}}'
    envelope = decode_envelope(body)
    assert list(map(bytes, envelope.results)) == rows
    assert (envelope.next, envelope.total) == ("?x=1", 3)
    assert decode_id(odd) == "deep"


ODD_VALUES = {
    "nested 3,000 deep": b"[" * 3000 + b"]" * 3000,
    "nested 3,000 objects deep": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "an integer of 100,000 digits": b"9" * 100_000,
    "an exponent beyond numeric": b"1e999999",
    "an exponent beyond Decimal": b"1e" + b"9" * 30,
}


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
async def test_an_odd_value_sets_its_row_aside_and_not_its_page(stack: Stack, value: bytes) -> None:
    item = await stack.item(transactions=60, accounts=1)
    odd: list[str] = []

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/transactions"):
            return body
        rows = json.loads(body)["results"]
        if rows and not odd:
            odd.append(rows[7]["id"])
        texts = [json.dumps(row).encode() for row in rows]
        texts = [
            text[:-1] + b', "odd": ' + value + b"}" if row["id"] in odd else text
            for row, text in zip(rows, texts, strict=True)
        ]
        return b'{"results": [' + b", ".join(texts) + b'], "next": null}'

    async with altered(stack, alter):
        await stack.process("item/created", item["id"])
    assert set(await stack.truth(item["id"])) - set(await stack.live(item["id"])) == set(odd)
    [aside] = await stack.db.fetch("SELECT product, row_id FROM pluggy_sync.rejected_rows")
    assert dict(aside) == {"product": "transactions", "row_id": odd[0]}


async def test_a_row_of_many_new_fields_is_stored_and_few_are_noted(stack: Stack) -> None:
    item = await stack.item(transactions=20, accounts=1)
    fields = {f"field{n}": n for n in range(20_000)}

    async def alter(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/transactions"):
            return body
        envelope = json.loads(body)
        envelope["results"] = [row | fields for row in envelope["results"][:1]]
        return json.dumps(envelope).encode()

    async with altered(stack, alter):
        await stack.process("item/created", item["id"])
    assert len(await stack.live(item["id"])) == 1
    noted = "SELECT count(*) FROM pluggy_sync.contract_drift WHERE entity = 'transactions'"
    assert 0 < await stack.db.fetchval(noted) <= 100
