"""Draws scenarios from a seed. Every ingredient has its turn: none is left to luck alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any, Final

from tests.oracle.ingredients import PAGE
from tests.oracle.scenario import WAITING, Scenario, Step

MIN_ACTS: Final = 15
SHARE: Final = 8
"""So many ingredients of a scenario come from the deck."""
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
PARTIAL: Final = (True, ["TRANSACTIONS"], ["ACCOUNTS"], ["CREDIT_CARDS"], ["LOANS", "IDENTITY"])
Draw = Callable[[Random], list[Step]]


def collect(**order: Any) -> Step:
    return {"do": "collect", "order": order}


def some(dice: Random) -> Step:
    """An ordinary collection, so that what else was drawn has something to act on."""
    return collect(
        created=dice.randrange(1, 6), updated=dice.randrange(3), deleted=dice.randrange(2)
    )


def amount(name: str, most: int) -> Draw:
    return lambda dice: [collect(**{name: dice.randrange(1, most + 1)})]


def product(name: str, change: str, most: int = 2) -> Draw:
    return lambda dice: [collect(products={name: {change: dice.randrange(1, most + 1)}})]


def shrinking(name: str) -> Draw:
    """One row of a product is gone, and others stay."""

    def draw(dice: Random) -> list[Step]:
        more = {"created": 3 if name != "investment_transactions" else 9}
        return [collect(products={name: more}), _breath(dice), *gone(name)]

    return draw


def gone(name: str) -> list[Step]:
    return [collect(products={name: {"deleted": 1}})]


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
        return [{"do": "fault", "fault": wanted | chosen}, met, _breath(dice)]

    return draw


def consent(how: str) -> Draw:
    """Withdrawn, and usually given again later."""

    def draw(dice: Random) -> list[Step]:
        between = [_breath(dice), some(dice), {"do": "verify"}][: dice.randrange(4)]
        again = [collect(consent="renewed", created=dice.randrange(3))]
        return [collect(consent=how), *between, *(again if dice.random() < 0.8 else [])]

    return draw


def stall(dice: Random) -> list[Step]:
    """A worker stands still with an answer on its way; its lease lapses, and it comes back."""
    slow = {"kind": "slow", "match": dice.choice(LISTS), "times": 1, "seconds": 0.4}
    return [
        {"do": "fault", "fault": slow},
        some(dice),
        {"do": "pause", "ms": dice.randrange(20, 300)},
        {"do": "stop", "nth": dice.randrange(4)},
        some(dice),
        {"do": "shift", "seconds": 31},
        {"do": "pause", "ms": dice.randrange(50, 600)},
        {"do": "resume"},
    ]


def kill(dice: Random) -> list[Step]:
    """A worker is gone, often in the middle of a sync."""
    return [
        some(dice) if dice.random() < 0.7 else {"do": "verify"},
        {"do": "pause", "ms": dice.randrange(0, 200)},
        {"do": "kill", "nth": dice.randrange(4)},
        {"do": "shift", "seconds": 31},
    ]


def deploy(dice: Random) -> list[Step]:
    return [
        some(dice),
        {"do": "pause", "ms": dice.randrange(100)},
        {"do": "deploy", "nth": dice.randrange(4)},
    ]


def flush(dice: Random) -> list[Step]:
    return [some(dice), {"do": "flush"}] if dice.random() < 0.5 else [{"do": "flush"}, some(dice)]


def outage(dice: Random) -> list[Step]:
    """Postgres is away while a sync is under way and while webhooks come."""
    away: Step = {"do": "postgres_away", "seconds": round(dice.uniform(0.05, 1.2), 2)}
    return [some(dice), {"do": "pause", "ms": dice.randrange(120)}, away, some(dice)]


def failover(*, killed: bool) -> Draw:
    """Postgres takes no writes for a while; often sessions of that time are still there later."""

    def draw(dice: Random) -> list[Step]:
        step = {"do": "read_only", "seconds": round(dice.uniform(0.05, 1.0), 2), "killed": killed}
        return [some(dice), {"do": "pause", "ms": dice.randrange(120)}, step, some(dice)]

    return draw


def lagging(what: str) -> Draw:
    """A collection of which the next answers show nothing yet."""

    def draw(dice: Random) -> list[Step]:
        lag = {f"GET /{what}": dice.randrange(1, 4)}
        # A worker that read everything within the hour believes an unchanged time of collection.
        later = [{"do": "rest", "ms": 3000}, {"do": "shift", "seconds": 4000}]
        order = {"created": dice.randrange(1, 5), "lag": lag}
        if what == "accounts":
            order["products"] = {"accounts": {"created": 1}}
        return [*(later if what == "items" else []), collect(**order), _breath(dice)]

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
    return [{"do": "fault", "fault": fault}, read, _breath(dice)]


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
    return [{"do": "fault", "fault": fault}, {"do": "verify"}, _breath(dice)]


def limited(*, by_its_own_code: bool) -> Draw:
    """Too many requests: of one thing for nearly a day, or until a time given as an epoch."""

    def draw(dice: Random) -> list[Step]:
        fault: dict[str, Any] = {"kind": "status", "status": 429, "times": 1, "match": "GET /v2/*"}
        if by_its_own_code:
            fault |= {"codeDescription": "TOO_MANY_REQUESTS_OF_ACCOUNT", "retryAfter": 85_092}
        else:
            fault |= {"retryAfter": 1, "headers": {"RateLimit-Reset": "1893456000"}}
        return [{"do": "fault", "fault": fault}, some(dice), _breath(dice)]

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


def hold(*, shuffled: bool) -> Draw:
    """Webhooks of several collections are late, and come in order or in another."""

    def draw(dice: Random) -> list[Step]:
        between = [some(dice) for _ in range(dice.randrange(1, 3))]
        between[dice.randrange(len(between))]["order"]["created"] = 2
        order = dice.randrange(2**31) if shuffled else None
        waits = [_breath(dice)] if dice.random() < 0.5 else []
        return [{"do": "hold"}, *between, *waits, {"do": "release", "order": order}]

    return draw


def lose(dice: Random) -> list[Step]:
    return [{"do": "lose", "count": dice.randrange(1, 4)}, some(dice)]


def twice(dice: Random) -> list[Step]:
    return [{"do": "twice", "count": dice.randrange(1, 4)}, some(dice)]


def close(what: str) -> Draw:
    def draw(dice: Random) -> list[Step]:
        others = [] if what == "accounts" else [collect(products={what: {"created": 2}})]
        return [*others, {"do": "close", "what": what, "nth": dice.randrange(8)}]

    return draw


def redate(dice: Random) -> list[Step]:
    """Rows move to another day while all pages are read."""
    fault = {"kind": "redate", "match": "GET /v2/transactions", "times": 2}
    return [{"do": "fault", "fault": fault}, {"do": "verify"}, {"do": "rest", "ms": 3000}]


def dozens(dice: Random) -> list[Step]:
    """So many deletions that a person has to accept them."""
    waits: list[Step] = (
        [{"do": "rest", "ms": 2000}, {"do": "accept"}] if dice.random() < 0.7 else []
    )
    born = [collect(created=70), {"do": "rest", "ms": 2000}]
    return [*born, collect(deleted=dice.randrange(45, 90)), *waits]


def hundreds(dice: Random) -> list[Step]:
    """More new rows of an account than a page holds; often the second page fails at first."""
    fails: Step = {
        "do": "fault",
        "fault": {
            "kind": dice.choice(("reset", "truncate", "repeat_cursor")),
            "match": "GET /v2/transactions",
            "query": "after=",
            "times": 1,
        },
    }
    faults = [fails] if dice.random() < 0.5 else []
    return [*faults, collect(created=dice.randrange(PAGE + 10, PAGE + 150))]


def returned(dice: Random) -> list[Step]:
    return [collect(deleted=2), _breath(dice), collect(returned=1)]


def waiting(dice: Random) -> list[Step]:
    """A run that shows itself half done, and its end."""
    status = dice.choice(("UPDATING", "WAITING_USER_INPUT", "WAITING_USER_ACTION"))
    return [collect(status=status), _breath(dice), some(dice)]


def single(do: str, **fields: Any) -> Draw:
    return lambda dice: [{"do": do} | {k: v(dice) if callable(v) else v for k, v in fields.items()}]


def seconds(low: float, high: float) -> Callable[[Random], float]:
    return lambda dice: round(dice.uniform(low, high), 2)


SERVER_ERRORS: Final = (500, 502, 503, 504)
INGREDIENTS: Final[dict[str, Draw]] = {
    "created": amount("created", 8),
    "late": amount("late", 3),
    "scheduled": amount("scheduled", 3),
    "twins": amount("twins", 2),
    "settled": amount("settled", 4),
    "updated": amount("updated", 6),
    "deleted": amount("deleted", 3),
    "deleted by the dozen": dozens,
    "created by the hundred": hundreds,
    "restated": amount("restated", 3),
    "returned": returned,
    "calendar": lambda dice: [collect(calendar=True, created=1)],
    "accounts updated": product("accounts", "updated"),
    "investments created": product("investments", "created"),
    "investments updated": product("investments", "updated"),
    "investments deleted": shrinking("investments"),
    "investment_transactions created": product("investment_transactions", "created", 3),
    "investment_transactions updated": product("investment_transactions", "updated"),
    "investment_transactions deleted": shrinking("investment_transactions"),
    "loans created": product("loans", "created"),
    "loans updated": product("loans", "updated"),
    "loans deleted": shrinking("loans"),
    "identities updated": product("identities", "updated", 1),
    "bills created": product("bills", "created", 1),
    "bills updated": product("bills", "updated"),
    "bills deleted": shrinking("bills"),
    "partial": lambda dice: [collect(partial=dice.choice(PARTIAL), created=2, updated=1)],
    "warned": lambda dice: [collect(warned=["TRANSACTIONS", "LOANS"], created=2)],
    "outdated": lambda dice: [collect(status="OUTDATED")],
    "login error": lambda dice: [collect(status="LOGIN_ERROR")],
    "run that waits": waiting,
    "consent revoked": consent("revoked"),
    "consent expired": consent("expired"),
    "account closed": close("accounts"),
    "loan closed": close("loans"),
    "investment closed": close("investments"),
    "lost webhook": lose,
    "duplicate webhook": twice,
    "delayed webhook": hold(shuffled=False),
    "reordered webhook": hold(shuffled=True),
    "fault status": fault("status", status=lambda dice: dice.choice(SERVER_ERRORS)),
    "fault 429": fault("status", status=429, retryAfter=1),
    "fault 401": fault("status", status=401, times=1),
    "fault refused": fault("status", status=400, codeDescription="SIMULATED_REFUSAL", times=1),
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
    "worker killed": kill,
    "worker stopped": stall,
    "worker deployed": deploy,
    "more or fewer workers": lambda dice: [{"do": "resize"}, some(dice)],
    "redis emptied": flush,
    "postgres away": outage,
    "read-only sessions killed": failover(killed=True),
    "read-only sessions left": failover(killed=False),
    "clock of Postgres back": lambda dice: [
        *(some(dice) for _ in range(dice.randrange(2))),
        {"do": "step_back", "seconds": dice.choice((1, 30, 600, 4000))},
        some(dice),
    ],
    "lag accounts": lagging("accounts"),
    "lag items": lagging("items"),
    "lag transactions": lagging("v2/transactions"),
    "odd date": odd_date,
    "time ahead": odd_time({"lastUpdatedAt": "2031-01-01T00:00:00.000Z"}),
    "null time": odd_time({"lastUpdatedAt": None}),
    "partial transactions": partial("/transactions"),
    "fault refused cursor": refused_cursor,
    "fault refused part": refused_part,
    "fault 429 of one thing": limited(by_its_own_code=True),
    "fault 429 with an epoch": limited(by_its_own_code=False),
    "keys revoked": single("revoke_keys"),
    "time shift": single("shift", seconds=seconds(60, 90_000)),
    "clock": single("clock", seconds=seconds(60, 9_000)),
    "verify": single("verify"),
    "registration": single("register"),
    "client's update": lambda dice: [{"do": "update"}, _breath(dice)],
}
"""What a step or a few do, by the ingredient's name."""


NEEDS_PAGES: Final = frozenset(
    {"fault redate", "fault repeat_cursor", "fault refused cursor", "partial transactions"}
)
NEEDS_ROWS: Final = frozenset({"settled", "fault wrong_type", "fault date_shape", "fault nul"})
ONE_ACCOUNT: Final = frozenset({"deleted by the dozen", "created by the hundred"})
NEEDS_ACCOUNTS: Final = frozenset({"account closed", "bills deleted", "bills updated"})


def _breath(dice: Random) -> Step:
    """Time for the service to do something, anything or everything."""
    if dice.random() < 0.4:
        return {"do": "rest", "ms": 1500}
    return {"do": "pause", "ms": int(dice.expovariate(1 / 80))}


def new_item(dice: Random, *, big: bool) -> dict[str, Any]:
    """Options of an item; a big one has accounts of several pages."""
    rows = dice.randrange(510, 1200) if big else dice.choice((0, 5, 30, 60, 60, 120, 300))
    return {
        "transactions": rows,
        "accounts": 1 if big else dice.randrange(1, 5),
        "connectorId": dice.choice((0, 0, 601)),
        "quirks": [dice.choice(("nul", "date_shape", "novelty", "wrong_type"))]
        if dice.random() < 0.1
        else [],
    }


def draw_scenarios(seed: int, names: Callable[[], Iterable[str]]) -> Iterator[Scenario]:
    """Endless scenarios, each with its share of a deck in which each ingredient lies once.

    names tells which ingredients, whenever a new deck is needed; none: all.
    """
    dice = Random(f"deck:{seed}")  # noqa: S311 - dice
    deck: list[str] = []
    for number in count():
        share: list[str] = []
        while len(share) < SHARE:
            if not deck:
                deck = sorted(names()) or sorted(INGREDIENTS)
                dice.shuffle(deck)
            share.append(deck.pop())
        yield draw_scenario(seed * 1_000_000 + number, share)


def draw_scenario(seed: int, names: Sequence[str]) -> Scenario:
    """A scenario with these ingredients and others."""
    dice = Random(seed)  # noqa: S311 - dice
    items = [_suited(dice, set(names))]
    if dice.random() < 0.25:
        items.append(new_item(dice, big=False))
    chosen = list(names)
    dice.shuffle(chosen)
    steps = _beginning(dice)
    while chosen or sum(step["do"] not in WAITING for step in steps) < MIN_ACTS:
        # What was wished for happens to the item that was made for it.
        nth = 0 if chosen else dice.randrange(len(items))
        name = chosen.pop() if chosen else dice.choice(list(INGREDIENTS))
        steps += [step | {"item": nth} for step in INGREDIENTS[name](dice)]
        if dice.random() < 0.5:
            steps.append(_breath(dice) | {"item": nth})
    if dice.random() < 0.15:
        steps += _end(dice)
    return Scenario(seed, items, steps)


def _suited(dice: Random, names: set[str]) -> dict[str, Any]:
    """Options of an item on which these ingredients can act."""
    item = new_item(dice, big=bool(names & NEEDS_PAGES) or dice.random() < 0.05)
    if names & NEEDS_ROWS:
        item["transactions"] = max(60, item["transactions"])
    if names & NEEDS_ACCOUNTS:
        item["accounts"] = max(2, item["accounts"])
    elif names & ONE_ACCOUNT:
        # More than a fifth of an account, or than a page of it: of one account, not of four.
        item |= {"accounts": 1, "transactions": min(120, item["transactions"])}
    return item


def _beginning(dice: Random) -> list[Step]:
    """Sometimes the first webhooks are lost, doubled or late; mostly the item is known first."""
    first: list[Step] = []
    if dice.random() < 0.15:
        first = [{"do": "lose", "count": dice.randrange(1, 3)}]
    elif dice.random() < 0.15:
        first = [{"do": "hold"}, {"do": "connect"}, {"do": "pause", "ms": 50}]
        first.append({"do": "release", "order": dice.randrange(2**31)})
    if {"do": "connect"} not in first:
        first.append({"do": "connect"})
    if dice.random() < 0.75:
        first.append({"do": "rest", "ms": 4000})
    return [step | {"item": 0} for step in first]


def _end(dice: Random) -> list[Step]:
    """The client deletes the item; what comes after it must not bring it back."""
    lost: list[Step] = [{"do": "lose", "count": 1}] if dice.random() < 0.3 else []
    steps = [*lost, {"do": "delete"}, _breath(dice)]
    return [step | {"item": 0} for step in steps]
