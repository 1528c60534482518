"""Count the ingredients that a step really brought; a wish alone counts nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

LYING: Final = frozenset({"novelty", "wrong_type", "nul", "date_shape", "partial"})
"""Faults that make Pluggy's answers wrong: only a later read can tell."""
STATUS_NAMES: Final = {429: "429", 401: "401", 400: "refused"}
PART_REFUSED: Final = frozenset({401, 403, 410})
RUNNING: Final = frozenset({"UPDATING", "WAITING_USER_INPUT", "WAITING_USER_ACTION"})
KINDS_OF_ROWS: Final = ("late", "scheduled", "twins", "settled", "restated", "returned")
PAGE: Final = 500
"""Rows of a page of transactions."""
MANY: Final = 20
"""More deletions of an account at once are flagged for a person."""


def of_fault(fault: dict[str, Any]) -> str:
    """The ingredient that a fault is."""
    kind = str(fault["kind"])
    if kind == "status":
        return f"fault {_of_status(fault)}"
    if kind in ("lag", "partial"):
        return f"{kind} {fault['match'].rpartition('/')[2].strip('*')}"
    if kind == "fields":
        return "null time" if None in fault["fields"].values() else "time ahead"
    return "odd date" if kind == "headers" else f"fault {kind}"


def _of_status(fault: dict[str, Any]) -> str:
    status = int(fault["status"])
    if fault.get("query"):
        return "refused cursor"
    if fault.get("body") is not None:
        return "without errorId"
    if status == 429 and fault.get("codeDescription"):
        return "429 of one thing"
    if status == 429 and fault.get("headers"):
        return "429 with an epoch"
    # A bare 401 means the key; a message is that of the part.
    if status in PART_REFUSED and fault.get("message"):
        return "refused part"
    return STATUS_NAMES.get(status, "status")


def lies(fault: dict[str, Any]) -> bool:
    """Whether what it makes Pluggy say cannot be seen through, or is refused for good."""
    unseen = fault["kind"] == "empty" and not fault["match"].endswith("/v2/transactions")
    refused = fault.get("status") == 400 and not fault.get("query")
    return fault["kind"] in LYING or unseen or refused


def is_odd(fault: dict[str, Any]) -> bool:
    """Whether it shows the item otherwise than it is, until the item is read again."""
    return str(fault["kind"]) == "fields"


def of_collection(order: dict[str, Any], done: dict[str, Any]) -> Counter[str]:
    """The ingredients of a collection, from its order and the simulator's answer."""
    changes, item = done["changes"], done["item"]
    return (
        _of_rows(order, changes["accounts"])
        + _of_products(changes["products"])
        + _of_item(order, item)
    )


def _of_rows(order: dict[str, Any], accounts: dict[str, dict[str, list[str]]]) -> Counter[str]:
    found = Counter[str]()
    for lists in accounts.values():
        found.update(kind for kind, ids in lists.items() if ids)
        found["deleted by the dozen"] += len(lists["deleted"]) > MANY
        found["created by the hundred"] += len(lists["created"]) > PAGE
    found.update(kind for kind in KINDS_OF_ROWS if order.get(kind) and accounts)
    return found


def _of_products(products: dict[str, dict[str, list[str]]]) -> Counter[str]:
    return Counter(
        f"{product} {change}"
        for product, lists in products.items()
        for change, ids in lists.items()
        if ids
    )


def _of_item(order: dict[str, Any], item: dict[str, Any]) -> Counter[str]:
    happened = {
        "calendar": bool(order.get("calendar")),
        "warned": bool(order.get("warned")),
        "partial": item["executionStatus"] == "PARTIAL_SUCCESS",
        "authorization pending": bool(item["hasResourcesPendingAuthorization"]),
        "monthly quota": "'423'" in str(item["statusDetail"]),
        "outdated": item["status"] == "OUTDATED",
        "login error": order.get("status") == "LOGIN_ERROR",
        "run that waits": item["status"] in RUNNING,
        f"consent {order.get('consent')}": order.get("consent") is not None,
    }
    return Counter(name for name, true in happened.items() if true)
