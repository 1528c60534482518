"""The sandbox users of Pluggy's documentation, and the outcome of connecting each."""

from dataclasses import dataclass, replace
from typing import Any

from simulator.items.item import Item

PASSWORD = "password-ok"  # noqa: S105 - printed in Pluggy's documentation
MFA_TOKEN = "123456"  # noqa: S105 - as above
_MAX_ROWS = 5_000
_PERF = "user-ok-perf-"


@dataclass(frozen=True)
class Script:
    """The course of a run of this user."""

    failure: str | None = None  # execution status
    provider_message: str | None = None
    partial: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    multiplier: int = 1
    mfa: bool = False
    approval: bool = False  # in the bank's app, at the first run


_USERS = {
    "user-ok": Script(),
    "user-ok-account-error": Script(
        partial=("INVESTMENTS", "INVESTMENTS_TRANSACTIONS", "LOANS", "IDENTITY")
    ),
    "user-ok-account-warning": Script(warned=("ACCOUNTS", "TRANSACTIONS")),
    "user-logged": Script("ALREADY_LOGGED_IN"),
    "user-locked": Script("ACCOUNT_LOCKED"),
    "user-error": Script("UNEXPECTED_ERROR"),
    "user-unavailable": Script("SITE_NOT_AVAILABLE"),
    "user-account-need-actions": Script("ACCOUNT_NEEDS_ACTION"),
    "user-account-need-actions-provider-message": Script(
        "ACCOUNT_NEEDS_ACTION", "Aceite os termos de uso no aplicativo"
    ),
    "user-connection-error": Script("CONNECTION_ERROR"),
    "user-account-credentials-reset": Script("ACCOUNT_CREDENTIALS_RESET"),
    "user-not-supported": Script("USER_NOT_SUPPORTED"),
}


def script_for(item: Item) -> Script:
    """An item made without credentials (by a control call, or encrypted) is user-ok."""
    connector, given = item.connector, item.parameters
    script = _script(given)
    return replace(
        script,
        mfa=bool(connector["hasMFA"]) and "token" not in given,
        approval=bool(connector["oauth"]),
    )


def _script(given: dict[str, Any]) -> Script:
    user = str(given.get("user", "user-ok"))
    if given.get("password", PASSWORD) != PASSWORD or given.get("token", MFA_TOKEN) != MFA_TOKEN:
        return Script("INVALID_CREDENTIALS")
    if user.startswith(_PERF) and user.removeprefix(_PERF).isdecimal():
        return Script(multiplier=max(1, min(_MAX_ROWS, int(user.removeprefix(_PERF)))))
    return _USERS.get(user, Script("INVALID_CREDENTIALS"))
