"""The possible outcomes of a collection, and the item's fields after each."""

from typing import Any

from simulator.clock import HOUR_MS, iso, iso_or_none
from simulator.items.item import STATUS_KEYS, Item

# Execution status -> status of the item, message.
FAILURES = {
    "INVALID_CREDENTIALS": ("LOGIN_ERROR", "Invalid credentials"),
    "INVALID_CREDENTIALS_MFA": ("LOGIN_ERROR", "Invalid MFA credentials"),
    "ACCOUNT_LOCKED": ("LOGIN_ERROR", "The account is locked"),
    "ACCOUNT_CREDENTIALS_RESET": ("LOGIN_ERROR", "The credentials must be reset"),
    "USER_AUTHORIZATION_REVOKED": ("LOGIN_ERROR", "The user revoked the authorization"),
    "USER_AUTHORIZATION_NOT_GRANTED": ("LOGIN_ERROR", "The user did not grant the authorization"),
    "USER_AUTHORIZATION_PENDING": ("OUTDATED", "The authorization is pending"),
    "USER_NOT_SUPPORTED": ("LOGIN_ERROR", "The user is not supported"),
    "USER_INPUT_TIMEOUT": ("LOGIN_ERROR", "The user did not answer in time"),
    "ALREADY_LOGGED_IN": ("OUTDATED", "The user is logged in elsewhere"),
    "UNEXPECTED_ERROR": ("OUTDATED", "Unexpected error"),
    "SITE_NOT_AVAILABLE": ("OUTDATED", "The institution is not available"),
    "ACCOUNT_NEEDS_ACTION": ("OUTDATED", "The account needs an action of the user"),
    "CONNECTION_ERROR": ("OUTDATED", "The connection to the institution failed"),
    "MERGE_ERROR": ("OUTDATED", "The collected data could not be merged"),
    "ERROR": ("OUTDATED", "Error"),
}
USUAL = {"LOGIN_ERROR": "INVALID_CREDENTIALS", "OUTDATED": "SITE_NOT_AVAILABLE"}
# A status that waits: its execution status and its webhook event.
WAITING = {
    "UPDATING": ("ACCOUNTS_IN_PROGRESS", "item/login_succeeded"),
    "WAITING_USER_INPUT": ("WAITING_USER_INPUT", "item/waiting_user_input"),
    "WAITING_USER_ACTION": ("WAITING_USER_ACTION", "item/waiting_user_action"),
}
# The products of `partial: true`: those for which banks fail most often.
USUALLY_PARTIAL = ("INVESTMENTS", "INVESTMENTS_TRANSACTIONS", "LOANS")
AUTO_SYNC_EVERY_MS = 24 * HOUR_MS
RETRY_EVERY_MS = HOUR_MS
RETRIES = 5
# The code of a warning that the month's Open Finance quota is used up.
MONTHLY_QUOTA = "423"


def fail(
    item: Item, execution_status: str, *, now_ms: int, provider_message: str | None = None
) -> str:
    """Return the name of the webhook event."""
    status, message = FAILURES[execution_status]
    item.status, item.execution_status = status, execution_status
    item.error = {"code": execution_status, "message": message}
    if provider_message is not None:
        item.error["providerMessage"] = provider_message
    if execution_status == "USER_INPUT_TIMEOUT":
        item.error["parameter"] = "token"
    item.parameter = item.user_action = None
    item.failures += 1
    item.failed_logins += status == "LOGIN_ERROR"
    item.next_auto_sync = _retry_at(item, now_ms)
    item.touch(now_ms)
    return "item/error"


def _retry_at(item: Item, now_ms: int) -> int | None:
    """Hourly, five times; a login that failed waits for the user, so does a first import."""
    if item.status == "LOGIN_ERROR" or item.failures > RETRIES or item.last_updated is None:
        return None
    return now_ms + RETRY_EVERY_MS if item.auto_sync else None


def wait(item: Item, status: str, *, now_ms: int) -> str:
    """Return the name of the webhook event."""
    execution_status, event = WAITING[status]
    item.status, item.execution_status = status, execution_status
    item.error = None
    item.touch(now_ms)
    return event


def succeed(
    item: Item, *, now_ms: int, stale: dict[str, str], warned: dict[str, str], code: str
) -> None:
    """`stale` and `warned`: product -> reason; a stale product keeps its older data.

    code: of the warnings.
    """
    item.status = "UPDATED"
    item.execution_status = "PARTIAL_SUCCESS" if stale else "SUCCESS"
    item.error = item.parameter = item.user_action = None
    item.failures = item.failed_logins = 0
    item.status_detail = None
    if stale or warned:
        item.status_detail = _status_detail(item, now_ms, stale, warned, code)
    item.last_updated = now_ms
    item.next_auto_sync = now_ms + AUTO_SYNC_EVERY_MS if item.auto_sync else None
    item.touch(now_ms)


def reasons(item: Item, names: bool | list[str]) -> dict[str, str]:
    """Why products were not read, or not in full; true means those where it is usual."""
    chosen = USUALLY_PARTIAL if names is True else names or ()
    return {name: f"{name} could not be read in full" for name in chosen if name in item.products}


def _status_detail(
    item: Item, now_ms: int, stale: dict[str, str], warned: dict[str, str], code: str
) -> dict[str, Any]:
    detail: dict[str, Any] = {}
    for product, key in STATUS_KEYS.items():
        detail[key] = None
        if product in item.products:
            reason = stale.get(product) or warned.get(product)
            detail[key] = {
                "isUpdated": product not in stale,
                "lastUpdatedAt": _last_read(item, key) if product in stale else iso(now_ms),
                "warnings": [_warning(reason, code)] if reason else [],
            }
    return detail


def _last_read(item: Item, key: str) -> str | None:
    """When a product that could not be read now was read last."""
    before = (item.status_detail or {}).get(key)
    if before is not None:
        return str(before["lastUpdatedAt"]) if before["lastUpdatedAt"] else None
    return iso_or_none(item.last_updated)


def _warning(reason: str, code: str) -> dict[str, Any]:
    if code == MONTHLY_QUOTA:
        reason = f"Open Finance monthly rate limit reached: {reason}"
    return {"code": code, "message": reason, "providerMessage": reason}
