"""The permission that a person gave to a connection."""

from random import Random
from typing import Any

from simulator.clock import iso
from simulator.history import new_id

_PERMISSIONS = [
    "ACCOUNTS_ALL",
    "CREDIT_CARDS_ALL",
    "REGISTRATION_ALL",
]


def consent(
    random: Random, *, item_id: str, products: list[str], open_finance: bool, now_ms: int
) -> dict[str, Any]:
    return {
        "id": new_id(random),
        "itemId": item_id,
        "products": products,
        "openFinancePermissionsGranted": _PERMISSIONS if open_finance else [],
        "createdAt": iso(now_ms),
        "expiresAt": None,
        "revokedAt": None,
    }
