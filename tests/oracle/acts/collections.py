"""Ingredients of collections: what banks and the client change, and how a collection ends."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.oracle.acts.steps import Draw, breath, collect, some
from tests.oracle.ingredients import PAGE
from tests.oracle.scenario import Step

PARTIAL: Final = (True, ["TRANSACTIONS"], ["ACCOUNTS"], ["CREDIT_CARDS"], ["LOANS", "IDENTITY"])


def amount(name: str, most: int) -> Draw:
    return lambda dice: [collect(**{name: dice.randrange(1, most + 1)})]


def product(name: str, change: str, most: int = 2) -> Draw:
    return lambda dice: [collect(products={name: {change: dice.randrange(1, most + 1)}})]


def shrinking(name: str) -> Draw:
    """One row of a product is gone, and others stay."""

    def draw(dice: Random) -> list[Step]:
        more = {"created": 3 if name != "investment_transactions" else 9}
        return [collect(products={name: more}), breath(dice), *gone(name)]

    return draw


def gone(name: str) -> list[Step]:
    return [collect(products={name: {"deleted": 1}})]


def consent(how: str) -> Draw:
    """Withdrawn, and usually given again later."""

    def draw(dice: Random) -> list[Step]:
        between = [breath(dice), some(dice), {"do": "verify"}][: dice.randrange(4)]
        again = [collect(consent="renewed", created=dice.randrange(3))]
        return [collect(consent=how), *between, *(again if dice.random() < 0.8 else [])]

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
        return [*(later if what == "items" else []), collect(**order), breath(dice)]

    return draw


def close(what: str) -> Draw:
    def draw(dice: Random) -> list[Step]:
        others = [] if what == "accounts" else [collect(products={what: {"created": 2}})]
        return [*others, {"do": "close", "what": what, "nth": dice.randrange(8)}]

    return draw


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
    return [collect(deleted=2), breath(dice), collect(returned=1)]


def waiting(dice: Random) -> list[Step]:
    """A run that shows itself half done, and its end."""
    status = dice.choice(("UPDATING", "WAITING_USER_INPUT", "WAITING_USER_ACTION"))
    return [collect(status=status), breath(dice), some(dice)]


def approval(dice: Random) -> list[Step]:
    """A second holder has to approve at the bank, and mostly does later."""
    waits = collect(pendingAuthorization=True, created=1)
    given = collect(pendingAuthorization=False, products={"accounts": {"created": 1}})
    return [waits, breath(dice), *([given] if dice.random() < 0.6 else [])]


COLLECTIONS: Final[dict[str, Draw]] = {
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
    "authorization pending": approval,
    "monthly quota": lambda dice: [
        collect(partial=dice.choice(PARTIAL), warningCode="423", created=1)
    ],
    "warned": lambda dice: [collect(warned=["TRANSACTIONS", "LOANS"], created=2)],
    "outdated": lambda dice: [collect(status="OUTDATED")],
    "login error": lambda dice: [collect(status="LOGIN_ERROR")],
    "run that waits": waiting,
    "consent revoked": consent("revoked"),
    "consent expired": consent("expired"),
    "account closed": close("accounts"),
    "loan closed": close("loans"),
    "investment closed": close("investments"),
    "lag accounts": lagging("accounts"),
    "lag items": lagging("items"),
    "lag transactions": lagging("v2/transactions"),
    "client's update": lambda dice: [{"do": "update"}, breath(dice)],
}
