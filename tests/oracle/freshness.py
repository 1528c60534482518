"""The freshness expected of each product at rest, from the item that Pluggy shows alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.infra.postgres import Pool

STATUS_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("accounts", "creditCards"),
    "bills": ("creditCards",),
    "transactions": ("transactions",),
    "investments": ("investments",),
    "investment_transactions": ("investmentsTransactions", "investmentTransactions"),
    "loans": ("loans",),
    "identities": ("identity",),
}
"""The keys of statusDetail by product; a product without one depends on the item alone."""
FRESH: Final = ("fresh", None)
NOT_COLLECTED: Final = ("stale", "not_collected")
QUOTA_SPENT: Final = ("stale", "monthly_quota")
QUOTA: Final = "423"
GENERAL: Final = ("incomplete", "general_warning")
PENDING: Final = ("incomplete", "authorization_pending")
LISTS_OF_RESOURCES: Final = frozenset({"accounts", "investments", "loans"})
WARNED: Final = ("incomplete", "collected_with_warning")
UNREADABLE: Final = frozenset({"LOGIN_ERROR", "OUTDATED"})
SHOWN: Final = """
SELECT product, scope_id, state, nullif(reason, 'confirming') AS reason
FROM pluggy_ops.freshness WHERE item_id = $1
"""


def expected(item: Mapping[str, Any], product: str) -> tuple[str, str | None]:
    """State and reason of a product whose reads have all gone well."""
    details = item.get("statusDetail") or {}
    statuses = [details[key] for key in STATUS_KEYS.get(product, ()) if details.get(key)]
    codes = {warning["code"] for detail in statuses for warning in detail.get("warnings") or ()}
    if any(detail.get("isUpdated") is False for detail in statuses):
        return QUOTA_SPENT if QUOTA in codes else NOT_COLLECTED
    if item.get("hasResourcesPendingAuthorization") and product in LISTS_OF_RESOURCES:
        return PENDING
    if not codes:
        return FRESH
    return GENERAL if codes == {"001"} else WARNED


async def wrong_freshness(db: Pool, item: Mapping[str, Any]) -> list[str]:
    """Rows of the view that differ. Not of an item whose login is broken: the view says that."""
    if item["status"] in UNREADABLE:
        return []
    return [
        f"freshness: {dict(record)}, not {wanted}"
        for record in await db.fetch(SHOWN, item["id"])
        if (wanted := expected(item, record["product"])) != (record["state"], record["reason"])
    ]
