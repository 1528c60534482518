"""Decode Pluggy's JSON: list envelopes with raw rows, and text that Postgres can store."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, Final, Protocol

import msgspec

from worker.infra.deep_json import TooMuchNesting, flattened, parts_at, replaced

_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)
_REPLACEMENT: Final = rb"\ufffd"
# Besides its own errors, msgspec raises Python's for deep nesting, broken UTF-8, and exponents
# beyond Decimal's range.
UNREADABLE: Final = (
    msgspec.DecodeError,
    RecursionError,
    UnicodeDecodeError,
    ArithmeticError,
    TooMuchNesting,
)
MAX_VALUES: Final = 1_000_000
"""Maximum of commas in a list answer: even undecoded rows take memory."""
MAX_ROW_BYTES: Final = 4 * 1024 * 1024
MAX_CURSOR_LENGTH: Final = 8192
_ROWS_AT: Final = 3
"""Levels down: the answer, its list, a row."""


class Envelope(msgspec.Struct, frozen=True):
    """A list answer: `{results, next}` of cursor endpoints, `{page, total, ...}` of the others."""

    results: list[msgspec.Raw]
    next_: Any = msgspec.field(name="next", default=msgspec.UNSET)
    pages: Any = msgspec.field(name="totalPages", default=None)
    rows: Any = msgspec.field(name="total", default=None)

    @property
    def next(self) -> str | None:
        """Pluggy's cursor or None. An overlong one is cut, to be refused as too long."""
        if not self.next_:
            return None
        return self.next_[: MAX_CURSOR_LENGTH + 1] if isinstance(self.next_, str) else "unreadable"

    @property
    def is_last_by_cursor(self) -> bool:
        """Whether `next` is there and null: the last page of a list by cursor."""
        return self.next_ is None

    @property
    def total_pages(self) -> int | None:
        """Number of pages; None if missing or not a number."""
        return _whole(self.pages)

    @property
    def total(self) -> int | None:
        """Number of rows; None if missing or not a number."""
        return _whole(self.rows)


class ErrorBody(msgspec.Struct, frozen=True):
    """Pluggy's error body; codeDescription is the stable error code."""

    code_description: Any = msgspec.field(name="codeDescription", default=None)
    error_id: Any = msgspec.field(name="errorId", default=None)


class _Named(msgspec.Struct, frozen=True):
    id: Any = None


_named = msgspec.json.Decoder(_Named)
_envelopes = msgspec.json.Decoder(Envelope)
_errors = msgspec.json.Decoder(ErrorBody)
_objects = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Unreadable(ValueError):
    """The bytes are not the expected JSON."""


class NotAList(Unreadable):
    """JSON of another shape than a list answer."""


class TooManyValues(Unreadable):
    """More than MAX_VALUES rows and fields."""


def decode_envelope(body: bytes) -> Envelope:
    """Decode a list answer; rows stay raw and may be nested to any depth. Raises Unreadable."""
    if body.count(b",") > MAX_VALUES:
        raise TooManyValues("more values than a list may have")
    body = clean_json(body)
    try:
        try:
            return _envelopes.decode(body)
        except RecursionError:
            return _decode_deep(body)
    except msgspec.ValidationError as error:
        raise NotAList(type(error).__name__) from error
    except UNREADABLE as error:
        raise Unreadable(type(error).__name__) from error


def _decode_deep(body: bytes) -> Envelope:
    """Decode the list with placeholders for its rows, then put the rows back."""
    parts, mark = parts_at(body, _ROWS_AT), uuid.uuid4().hex
    names = [f'"{mark}:{n}"'.encode() for n in range(len(parts))]
    rows = {name: body[begin:end] for name, (begin, end) in zip(names, parts, strict=True)}
    envelope = _envelopes.decode(replaced(body, list(zip(parts, names, strict=True))))
    results = [msgspec.Raw(rows.get(bytes(row), bytes(row))) for row in envelope.results]
    return msgspec.structs.replace(envelope, results=results)


class Head(Protocol):
    """The fields by which an unchanged row is known; owner: as it is written."""

    id: uuid.UUID
    owner: str | None


@cache
def _heads(owner_key: str) -> msgspec.json.Decoder[Any]:
    fields: list[tuple[str, Any, Any]] = [
        ("id", uuid.UUID, msgspec.NODEFAULT),
        ("owner", str | None, None),
    ]
    head = msgspec.defstruct("Head", fields, rename={"owner": owner_key})
    return msgspec.json.Decoder(list[head])  # type: ignore[valid-type]


def decode_heads(rows: Iterable[msgspec.Raw], owner_key: str) -> list[Head] | None:
    """The heads of rows; None if one of them is not as Pluggy writes it."""
    try:
        heads: list[Head] = _heads(owner_key).decode(b"[" + b",".join(rows) + b"]")
    except UNREADABLE:
        return None
    return heads


def decode_object(body: bytes | memoryview) -> dict[str, Any]:
    """Decode an object with exact decimals. Raises Unreadable."""
    if len(body) > MAX_ROW_BYTES:
        raise Unreadable("larger than 4 MiB")
    try:
        return _objects.decode(body)
    except UNREADABLE as error:
        raise Unreadable(type(error).__name__) from error


def decode_id(body: bytes) -> Any:
    """The id of an object whose other fields may be unreadable; None if it has none."""
    try:
        try:
            return _named.decode(body).id
        except RecursionError:
            return _named.decode(flattened(body, 2)).id
    except UNREADABLE:
        return None


def decode_error(body: bytes) -> tuple[str | None, str | None]:
    """(codeDescription, errorId) of an error answer; None for a missing one."""
    try:
        error = _errors.decode(clean_json(body))
    except UNREADABLE:
        return None, None
    return _short(error.code_description), _short(error.error_id)


def decode_refusal(body: bytes) -> Mapping[str, Any]:
    """All of an error answer; empty if it cannot be read."""
    try:
        return _objects.decode(clean_json(body))
    except UNREADABLE:
        return {}


def is_object(body: bytes) -> bool:
    """Whether a body is a JSON object at all."""
    try:
        _raw_fields.decode(clean_json(body))
    except UNREADABLE:
        return False
    return True


def clean_json(body: bytes) -> bytes:
    """JSON text that Postgres can store: U+0000, lone surrogates and broken UTF-8 become U+FFFD."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        body = body.decode("utf-8", "replace").encode()
    # A single byte is looked for ten times as fast as two.
    return _ESCAPE.sub(_clean_escape, body) if b"\\" in body and rb"\u" in body else body


def without_key(body: bytes, key: str) -> bytes:
    """A JSON object without one of its keys, the others byte for byte. Raises Unreadable."""
    try:
        fields = _raw_fields.decode(body)
    except UNREADABLE as error:
        raise Unreadable(type(error).__name__) from error
    fields.pop(key, None)
    return msgspec.json.encode(fields)


def row_hash(raw: bytes | memoryview) -> bytes:
    """Hash that identifies a version of a row: 16 bytes of BLAKE2b of its raw JSON."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def _clean_escape(found: re.Match[bytes]) -> bytes:
    escape = found.group()
    if len(escape) != 6:
        return escape  # a pair of surrogates, or a short escape such as \n or \\
    code = int(escape[2:], 16)
    return _REPLACEMENT if code == 0 or 0xD800 <= code <= 0xDFFF else escape


def _whole(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _short(value: object) -> str | None:
    return value[:120] if isinstance(value, str) and value else None
