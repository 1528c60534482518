"""Ingredients of faults: answers of Pluggy that fail, are refused or are wrong."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.oracle.acts.steps import Draw, breath, collect, seconds, single, some
from tests.oracle.ingredients import PAGE
from tests.oracle.scenario import Step

LISTS: Final = (
    "GET /v2/transactions",
    "GET /v2/transactions",
    "GET /accounts",
    "GET /investments",
    "GET /loans",
    "GET /identity",
    "GET /bills",
    "GET /items",
    "GET /",
)
NO_ERROR_ID: Final = {"message": "Bad gateway", "code": 502}
SERVER_ERRORS: Final = (500, 502, 503, 504)


def fault(kind: str, *matches: str, **fields: Any) -> Draw:
    """A fault on the next requests, and a collection whose reading meets it."""

    def draw(dice: Random) -> list[Step]:
        wanted = {
            "kind": kind,
            "match": dice.choice(matches or LISTS),
            "times": dice.randrange(1, 4),
        }
        chosen = {k: v(dice) if callable(v) else v for k, v in fields.items()}
        if dice.random() < 0.2:
            chosen["skip"] = dice.randrange(1, 4)
        met = some(dice) if dice.random() < 0.6 else {"do": "verify"}
        return [{"do": "fault", "fault": wanted | chosen}, met, breath(dice)]

    return draw


def refused_cursor(dice: Random) -> list[Step]:
    """A page after the first is refused, in one of the ways that a cursor is."""
    how = dice.choice(
        (
            {"status": 400, "body": {"message": "Invalid cursor", "code": 400}},
            {"status": 404, "body": {"message": "Not found", "code": 404}},
            {"status": 410, "message": "This cursor has expired"},
            {"status": 200, "body": {"data": []}},
        )
    )
    place = {"kind": "status", "match": "GET /v2/transactions", "query": "after="}
    fault = place | how | {"times": dice.randrange(1, 3)}
    read = {"do": "verify"} if dice.random() < 0.5 else collect(created=PAGE + 20)
    return [{"do": "fault", "fault": fault}, read, breath(dice)]


def refused_part(dice: Random) -> list[Step]:
    """One thing is refused, by a code of its own or none, while the key is good elsewhere."""
    how = dice.choice(
        (
            {"status": 403, "message": "Forbidden"},
            {"status": 403, "message": "Forbidden", "codeDescription": "PRODUCT_NOT_ENABLED"},
            {"status": 401, "message": "Consent expired", "codeDescription": "CONSENT_EXPIRED"},
            {"status": 410, "message": "Gone"},
        )
    )
    match = dice.choice(("GET /loans", "GET /investments", "GET /identity", "GET /v2/transactions"))
    fault = {"kind": "status", "match": match, "times": dice.randrange(1, 4)} | how
    return [{"do": "fault", "fault": fault}, {"do": "verify"}, breath(dice)]


def limited(*, by_its_own_code: bool) -> Draw:
    """Too many requests: of one thing for nearly a day, or until a time given as an epoch."""

    def draw(dice: Random) -> list[Step]:
        fault: dict[str, Any] = {"kind": "status", "status": 429, "times": 1, "match": "GET /v2/*"}
        if by_its_own_code:
            fault |= {"codeDescription": "TOO_MANY_REQUESTS_OF_ACCOUNT", "retryAfter": 85_092}
        else:
            fault |= {"retryAfter": 1, "headers": {"RateLimit-Reset": "1893456000"}}
        return [{"do": "fault", "fault": fault}, some(dice), breath(dice)]

    return draw


def odd_time(fields: dict[str, str | None]) -> Draw:
    """The item shows an impossible time once; what is collected later arrives all the same."""

    def draw(dice: Random) -> list[Step]:
        fault = {"kind": "fields", "match": "GET /items", "times": 1, "fields": fields}
        met = [some(dice), {"do": "rest", "ms": 3000}]
        return [{"do": "fault", "fault": fault}, *met, some(dice)]

    return draw


def odd_date(dice: Random) -> list[Step]:
    """One answer is dated in another century; what is created later has to arrive all the same."""
    date = dice.choice(("Thu, 01 Jan 2099 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"))
    fault = {"kind": "headers", "match": "GET /v2/transactions", "headers": {"Date": date}}
    met = [some(dice), {"do": "rest", "ms": 2000}]
    return [{"do": "fault", "fault": fault | {"times": 2}}, *met, some(dice)]


def partial(what: str) -> Draw:
    """For a while only the first rows are shown, in lists and by id, and everything is read."""

    def draw(dice: Random) -> list[Step]:
        fault = {"kind": "partial", "match": f"GET *{what}*", "rows": dice.randrange(4)}
        step: Step = {"do": "fault", "fault": fault | {"times": dice.randrange(2, 30)}}
        return [step, {"do": "verify"}, {"do": "rest", "ms": 3000}]

    return draw


def redate(dice: Random) -> list[Step]:
    """Rows move to another day while all pages are read."""
    fault = {"kind": "redate", "match": "GET /v2/transactions", "times": 2}
    return [{"do": "fault", "fault": fault}, {"do": "verify"}, {"do": "rest", "ms": 3000}]


FAULTS: Final[dict[str, Draw]] = {
    "fault status": fault("status", status=lambda dice: dice.choice(SERVER_ERRORS)),
    "fault 429": fault("status", status=429, retryAfter=1),
    "fault 401": fault("status", status=401, times=1),
    "fault refused": fault("status", status=400, codeDescription="SIMULATED_REFUSAL", times=1),
    "fault without errorId": fault("status", status=502, body=NO_ERROR_ID),
    "fault timeout": fault("timeout", seconds=seconds(0.2, 1.5), times=1),
    "fault slow": fault("slow", seconds=seconds(0.2, 1.5), times=1),
    "fault reset": fault("reset"),
    "fault truncate": fault("truncate"),
    "fault garbage": fault("garbage"),
    "fault empty": fault("empty"),
    "fault repeat_cursor": fault("repeat_cursor", "GET /v2/transactions"),
    "fault redate": redate,
    "fault novelty": fault("novelty"),
    "fault wrong_type": fault("wrong_type", "GET /v2/transactions"),
    "fault nul": fault("nul"),
    "fault date_shape": fault(
        "date_shape", "GET /v2/transactions", "GET /investments", "GET /bills"
    ),
    "fault refused cursor": refused_cursor,
    "fault refused part": refused_part,
    "fault 429 of one thing": limited(by_its_own_code=True),
    "fault 429 with an epoch": limited(by_its_own_code=False),
    "odd date": odd_date,
    "time ahead": odd_time({"lastUpdatedAt": "2031-01-01T00:00:00.000Z"}),
    "null time": odd_time({"lastUpdatedAt": None}),
    "partial transactions": partial("/transactions"),
    "keys revoked": single("revoke_keys"),
}
