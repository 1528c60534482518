"""Pluggy's JSON as bytes: nothing is lost, and Postgres can store all that is kept."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.infra.postgres import Pool
from worker.pluggy_api.payloads import (
    Unreadable,
    clean_json,
    decode_envelope,
    decode_error,
    decode_object,
    row_hash,
    without_key,
)

odd_text = st.text(
    st.characters() | st.sampled_from('\x00\ud800\udbff\udc00\udfff\\"u0d8\ufffd\U0001f9ff')
)
odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | odd_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text, inner, max_size=4),
    max_leaves=10,
)
# Backslashes, escapes and halves of escapes in any order.
pieces = st.lists(
    st.sampled_from(
        [
            b"\\\\",
            b"\\u0000",
            b"\\U0000"[:1] + b"u0000",
            b"u0000",
            b"\\u0041",
            b"\\ud83d",
            b"\\uD83D",
            b"\\ude00",
            b"\\uDE00",
            b"\\udfff",
            b'\\"',
            b"\\n",
            b"x",
            "ü".encode(),
            b"\xff",
            b"\xed\xa0\x80",
        ]
    ),
    max_size=12,
).map(b"".join)


def replaced(value: Any) -> Any:
    """The slow way: decode, replace what Postgres refuses, everywhere."""
    if isinstance(value, str):
        return "".join("\ufffd" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, list):
        return [replaced(entry) for entry in value]
    if isinstance(value, dict):
        return {replaced(key): replaced(entry) for key, entry in value.items()}
    return value


def slowly_cleaned(body: bytes) -> Any:
    return replaced(json.loads(body.decode("utf-8", "replace")))


@given(odd_json, st.booleans())
def test_cleaning_equals_decoding_replacing_and_encoding(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    body = text.encode("utf-8", "surrogatepass")
    assert json.loads(clean_json(body)) == slowly_cleaned(body)


@given(pieces)
def test_cleaning_sees_which_backslashes_begin_an_escape(inside: bytes) -> None:
    body = b'{"a": "' + inside + b'"}'
    assert json.loads(clean_json(body)) == slowly_cleaned(body)


@given(odd_json)
def test_what_is_clean_stays_byte_for_byte(value: Any) -> None:
    body = json.dumps(replaced(value)).encode()
    assert clean_json(body) == body


@given(st.binary())
def test_any_bytes_can_be_cleaned_and_once_is_enough(body: bytes) -> None:
    cleaned = clean_json(body)
    cleaned.decode()
    assert clean_json(cleaned) == cleaned


async def test_postgres_stores_what_was_cleaned_and_refuses_it_before(db: Pool) -> None:
    for body in (b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b'{"a": "\\udfff\\ud800"}'):
        with pytest.raises(asyncpg.DataError):
            await db.fetchval("SELECT $1::jsonb", body.decode())
        assert await db.fetchval("SELECT $1::jsonb", clean_json(body).decode())


# Envelopes


def test_the_rows_of_an_envelope_stay_byte_for_byte() -> None:
    rows = [b'{"id" : 1,"amount":0.10}', b'{"a":"\\u00e9 \\/"}', b"17", b"[ ]"]
    body = b'{ "results": [' + b" , ".join(rows) + b'], "next": null, "new": {"a": [1]} }'
    envelope = decode_envelope(body)
    assert [bytes(row) for row in envelope.results] == rows
    assert envelope.next is None


@pytest.mark.parametrize(
    ("written", "pages"),
    [
        ("3", 3),
        ("3.0", 3),
        ('"3"', 3),
        ("0", 0),
        ("null", None),
        ('"many"', None),
        ("[]", None),
        ("true", 1),
    ],
)
def test_total_pages_of_any_type_refuse_no_page(written: str, pages: int | None) -> None:
    body = f'{{"results": [], "totalPages": {written}}}'
    assert decode_envelope(body.encode()).total_pages == pages


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b'{"results": [{"id": 1}',
        b'{"results": [{"id": 1},]}',
        b'{"results": [{"id": tru}]}',
        b'{"results": [NaN]}',
        b'{"results": null}',
        b'{"results": {}}',
        b"{}",
        b"[]",
        b'"results"',
        b'{"results": [], "x": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_envelope_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_envelope(body)


@given(st.binary(max_size=60) | odd_json.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    for decode in (decode_envelope, decode_object):
        # Its kind, and nothing of the bytes.
        assert (complaint(decode, body) or "none").isidentifier()
    code, error_id = decode_error(body)
    assert all(text is None or text for text in (code, error_id))


def complaint(decode: Callable[[bytes], object], body: bytes) -> str | None:
    try:
        decode(body)
    except Unreadable as error:
        return str(error)
    return None


# Values


@pytest.mark.parametrize("written", ["0.0039", "1234567890.12", "-0.10", "1e-7", "1.00", "12E+2"])
def test_decimals_are_exact(written: str) -> None:
    amount = decode_object(f'{{"amount": {written}}}'.encode())["amount"]
    assert isinstance(amount, Decimal)
    assert amount.as_tuple() == Decimal(written).as_tuple()


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_finite_decimal_is_exact(amount: Decimal) -> None:
    written = f"{amount:e}"
    assert decode_object(f'{{"a": {written}}}'.encode())["a"] == amount


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1e99999999999999999999}',
        b'{"a": -1e-99999999999999999999}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": "\xff"}',
        b'{"\xff": 1}',
        b'{"a": "\\ud800"}',
        b'{"a": "\x00"}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": 1} x',
        b"[]",
        b"17",
    ],
)
def test_a_row_that_cannot_be_read_is_unreadable_and_nothing_else(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_object(body)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"codeDescription": "X", "errorId": "e"}', ("X", "e")),
        (b'{"codeDescription": null, "errorId": ""}', (None, None)),
        (b'{"codeDescription": 403, "errorId": []}', (None, None)),
        (b'{"message": "Manuten\xe7\xe3o", "codeDescription": "DOWN"}', ("DOWN", None)),
        (b'{"codeDescription": "A\\u0000B\\ud800"}', ("A\ufffdB\ufffd", None)),
        (b'{"codeDescription": "%s"}' % (b"x" * 500), ("x" * 120, None)),
        (b"<html>403</html>", (None, None)),
        (b"", (None, None)),
        (b"[1]", (None, None)),
        (b"[" * 100_000, (None, None)),
    ],
)
def test_an_error_s_code_is_read_as_far_as_there_is_one(
    body: bytes, read: tuple[str | None, str | None]
) -> None:
    assert decode_error(body) == read


# Parts


def test_a_row_without_a_key_keeps_the_others_byte_for_byte() -> None:
    body = b'{"id":1,"connector":{"id":2,"x":[1.0]},"amount":0.10,"s":"\\u00e9\\/"}'
    assert without_key(body, "connector") == b'{"id":1,"amount":0.10,"s":"\\u00e9\\/"}'
    assert without_key(b'{"id":1}', "connector") == b'{"id":1}'


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"\xff": 1}'])
def test_only_an_object_can_lose_a_key(body: bytes) -> None:
    with pytest.raises(Unreadable):
        without_key(body, "connector")


def test_rows_are_distinguished_by_every_byte() -> None:
    rows = [b'{"a":1}', b'{"a":1.0}', b'{"a": 1}', b'{"a":2}']
    assert len({row_hash(row) for row in rows}) == 4
    assert row_hash(memoryview(rows[0])) == row_hash(rows[0])
    assert len(row_hash(b"")) == 16
