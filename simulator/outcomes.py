"""How a collection can end, and what the item then shows."""

from typing import Any

from simulator.clock import HOUR_MS, iso
from simulator.items import STATUS_KEYS, Item

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
# A status that waits: its execution status and the event that tells of it.
WAITING = {
    "UPDATING": ("ACCOUNTS_IN_PROGRESS", "item/login_succeeded"),
    "WAITING_USER_INPUT": ("WAITING_USER_INPUT", "item/waiting_user_input"),
    "WAITING_USER_ACTION": ("WAITING_USER_ACTION", "item/waiting_user_action"),
}
AUTO_SYNC_EVERY_MS = 24 * HOUR_MS


def fail(item: Item, execution_status: str, *, now_ms: int, provider: str | None = None) -> None:
    status, message = FAILURES[execution_status]
    item.status, item.execution_status = status, execution_status
    item.error = {"code": execution_status, "message": message}
    if provider is not None:
        item.error["providerMessage"] = provider
    if execution_status == "USER_INPUT_TIMEOUT":
        item.error["parameter"] = "token"
    item.parameter = item.user_action = None
    item.failures += 1
    if status == "LOGIN_ERROR":
        item.failed_logins += 1
        item.next_auto_sync = None
    item.touch(now_ms)


def wait(item: Item, status: str, *, now_ms: int) -> str:
    """The event that tells of it."""
    execution_status, event = WAITING[status]
    item.status, item.execution_status = status, execution_status
    item.error = None
    item.touch(now_ms)
    return event


def succeed(
    item: Item, *, now_ms: int, stale: dict[str, str], warned: dict[str, str] | None = None
) -> None:
    """`stale` and `warned`: product -> reason; a stale product keeps its older data."""
    before = item.status_detail
    item.status = "UPDATED"
    item.execution_status = "PARTIAL_SUCCESS" if stale else "SUCCESS"
    item.error = item.parameter = item.user_action = None
    item.failures = item.failed_logins = 0
    item.status_detail = (
        _status_detail(item, now_ms=now_ms, stale=stale, warned=warned or {}, before=before)
        if stale or warned
        else None
    )
    item.last_updated = now_ms
    item.next_auto_sync = now_ms + AUTO_SYNC_EVERY_MS if item.auto_sync else None
    item.touch(now_ms)


def _status_detail(
    item: Item,
    *,
    now_ms: int,
    stale: dict[str, str],
    warned: dict[str, str],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    detail: dict[str, Any] = {}
    for product, key in STATUS_KEYS.items():
        if product not in item.products:
            detail[key] = None
            continue
        last = iso(now_ms)
        if product in stale:
            last = _last_read(item, key, before)
        reason = stale.get(product) or warned.get(product)
        detail[key] = {
            "isUpdated": product not in stale,
            "lastUpdatedAt": last,
            "warnings": [_warning(reason)] if reason else [],
        }
    return detail


def _last_read(item: Item, key: str, before: dict[str, Any] | None) -> str | None:
    if before and before.get(key):
        last: str | None = before[key]["lastUpdatedAt"]
        return last
    return None if item.last_updated is None else iso(item.last_updated)


def _warning(reason: str) -> dict[str, Any]:
    return {"code": "001", "message": reason, "providerMessage": reason}
