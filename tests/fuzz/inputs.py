"""Inputs that are sent by mistake, and some that are sent on purpose."""

from __future__ import annotations

import copy
import json
import re
import uuid
from collections.abc import Sequence
from random import Random
from typing import Any, Final

SECRET: Final = "a-secret-that-the-fuzz-knows"  # noqa: S105 - of the tests
RAW: Final = "@raw@"
"""Marks what goes into the JSON as it is: numbers that no Python value has."""

EVENTS: Final = (
    *("item/created", "item/updated", "item/error", "item/deleted", "item/login_succeeded"),
    *("transactions/created", "transactions/updated", "transactions/deleted"),
    *("connector/status_updated", "payment_intent/created", "boleto/updated", "sync/verify"),
    *("unknown/event", "", " ", "item/updated\x00", "\ud800", "x" * 500),
)
ODD: Final[Sequence[Any]] = (
    *(None, True, False, 0, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.1, [], {}, "", " ", "0"),
    *("\x00", "\ud800", "\udc00\ud800", "\ufffe", "\u202e", "x" * 3000, "é" * 200, "'; DROP --"),
    *(RAW + "1e400", RAW + "-1e-400", RAW + "1" + "0" * 5000, RAW + "0.1" + "0" * 3000 + "1"),
    *(RAW + "1e1000000000000", RAW + "1E+131072", RAW + "-0", RAW + "-0.0", RAW + "12.340"),
    *(RAW + "NaN", RAW + "Infinity", RAW + "[" * 2000 + "]" * 2000, RAW + '{"a":' * 900 + "1"),
    *(
        "NaN",
        "Infinity",
        "-infinity",
        "1e999999999",
        "\uff11\uff12",
        "0x10",
        "1_000",
        "+5",
        "12,34",
        "1e3",
    ),
    *("now", "today", "infinity", "2026-02-30", "2026-13-01T00:00:00Z", "0000-00-00", "24:00"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2026-01-01T00:00:00.000Z"),
    *("2026-01-01", "2026-01-01T00:00:00", "20260101T000000Z", "2026-W01-1", "1-1-1"),
    *("00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}"),
    *("urn:uuid:00000000-0000-4000-8000-000000000000", "0x", "https://evil.example/?x=1"),
    *([None] * 3, [[[[]]]], {"": ""}, {"\x00": 1}, ["x"] * 50, {"lastUpdatedAt": 5}),
)
BYTES: Final = (
    *(b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"),
    *(b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"\\", b'"', b"{", b"}", b"[", b"]"),
    *(b",", b":", b"\r\n", b"\n\n", b"1e999", b"-", b"null", b"NaN", b"/*", b"\\x41"),
)


def any_bytes(rng: Random) -> bytes:
    """Nothing in particular."""
    return rng.randbytes(rng.choice((0, 1, 2, 7, 40, 300)))


def nested(rng: Random) -> bytes:
    """Deeper than any reader likes."""
    depth = rng.choice((10, 500, 990, 1000, 5000, 20_000))
    begin, end = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"event":', b"}]")))
    return begin * depth + rng.choice((b"", b"1", b"null")) + end * rng.choice((depth, depth - 1))


def webhook(rng: Random) -> bytes:
    """A delivery: right, or nearly so."""
    kind = rng.random()
    if kind < 0.08:
        return any_bytes(rng)
    if kind < 0.1:
        return nested(rng)
    fields: dict[str, Any] = {
        "event": rng.choice(EVENTS),
        "eventId": str(uuid.UUID(int=rng.getrandbits(128))),
        "itemId": str(uuid.UUID(int=rng.getrandbits(128))),
        "accountId": str(uuid.UUID(int=rng.getrandbits(128))),
        "transactionIds": [
            str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(rng.randrange(4))
        ],
        "transactionsCreatedAtFrom": "2026-05-01T10:00:00.000Z",
        "transactionsCount": rng.randrange(1000),
        "connectorId": rng.randrange(1000),
        "id": str(uuid.UUID(int=rng.getrandbits(128))),
        "createdTransactionsLink": "https://evil.example/steal",
        "clientUserId": "somebody",
    }
    return apply_fault(rng, written(rng, mutate(rng, fields, most=3)))


def row(rng: Random, true_rows: Sequence[dict[str, Any]]) -> bytes:
    """A row of Pluggy's with an odd thing or two in it; most bytes stay JSON."""
    fields = mutate(rng, json.loads(json.dumps(rng.choice(true_rows))), most=2)
    fields["id"] = str(uuid.UUID(int=rng.getrandbits(128)))
    if rng.random() < 0.03:
        fields["id"] = rng.choice(ODD)
    return written(rng, fields)


def answer(rng: Random, true_rows: Sequence[dict[str, Any]]) -> bytes:
    """A list answer, its envelope odd as well."""
    rows = b",".join(row(rng, true_rows) for _ in range(rng.randrange(4)))
    more = rng.choice((b"null", b'"?after=x"', b'"https://evil.example/?after=x"', b"5", b"{}"))
    body = b'{"results":[' + rows + b'],"next":' + more + b',"totalPages":1}'
    return apply_fault(rng, body)


def request(rng: Random) -> bytes:
    """What stands at the beginning of a connection, if anything of HTTP does."""
    body = webhook(rng)[:2000]
    secret = rng.choice((SECRET, SECRET, "wrong", ""))
    path = rng.choice(
        ("/webhooks/pluggy", f"/webhooks/pluggy/{secret}", "/items", "/", "/%00", "//")
    )
    head = (
        f"{rng.choice(('POST',) * 9 + ('GET', 'BREW', ''))} {path}"
        f" HTTP/{rng.choice(('1.1',) * 12 + ('1.0', '9.9', ''))}\r\nHost: x\r\n"
        f"X-Webhook-Secret: {secret}\r\nConnection: close\r\n"
    )
    head += rng.choice(
        (
            *[f"Content-Length: {len(body)}\r\n"] * 10,
            "Content-Length: -1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n",
            f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n",
            "X-Forwarded-For: " + "1.2.3.4," * 50 + "\r\n",
        )
    )
    return apply_fault(rng, head.encode()) + b"\r\n" + body


def mutate(rng: Random, fields: dict[str, Any], *, most: int) -> dict[str, Any]:
    """Put odd values in the place of some, at any depth; take some away."""
    for _ in range(rng.randrange(most + 1)):
        holder: Any = fields
        while True:
            if not holder:
                break
            key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
                holder = inner
                continue
            if isinstance(holder, dict) and rng.random() < 0.15:
                del holder[key]
            else:
                # A copy: the next change may go into it.
                holder[key] = copy.deepcopy(rng.choice(ODD))
            break
    return fields


def written(rng: Random, fields: object) -> bytes:
    """As JSON text, now and then with a key that stands twice."""
    text = json.dumps(fields, ensure_ascii=rng.random() < 0.5)
    text = re.sub(rf'"{RAW}((?:[^"\\]|\\.)*)"', lambda m: m.group(1).replace('\\"', '"'), text)
    if text.startswith("{") and rng.random() < 0.1:
        key = rng.choice(("event", "itemId", "id", "amount", "accountId", "eventId"))
        text = "{" + f'"{key}":{json.dumps(rng.choice(ODD[:20]))},' + text[1:]
    return text.encode("utf-8", "surrogatepass")


def apply_fault(rng: Random, body: bytes) -> bytes:
    """Now and then change some bytes."""
    if rng.random() < 0.6:
        return body
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(body) + 1)
        upto = min(len(body), at + rng.choice((0, 0, 1, 1, 5, 50)))
        middle = rng.choice((rng.choice(BYTES), rng.randbytes(2), body[at:upto] * 2))
        body = body[:at] + middle + body[upto:]
    return body
