"""Items: one person connected at one institution, with everything collected for it."""

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from simulator.bank.accounts import Account
from simulator.bank.people import Party
from simulator.bank.rows import Row
from simulator.clock import Timer, iso, iso_or_none

# Product -> its key in statusDetail.
STATUS_KEYS = {
    "ACCOUNTS": "accounts",
    "CREDIT_CARDS": "creditCards",
    "TRANSACTIONS": "transactions",
    "INVESTMENTS": "investments",
    "INVESTMENTS_TRANSACTIONS": "investmentsTransactions",
    "IDENTITY": "identity",
    "PAYMENT_DATA": "paymentData",
    "LOANS": "loans",
}
# A soak of days must not fill the memory with history.
TIMELINE_LINES = 50_000
IN_PROGRESS = frozenset({"UPDATING", "MERGING", "WAITING_USER_INPUT", "WAITING_USER_ACTION"})
Payload = dict[str, Any]


@dataclass(eq=False, kw_only=True)
class Item:
    """All state of one item. Every change of what is shown calls `touch`."""

    id: str
    connector: Payload
    # MeuPluggy: the connection at meu.pluggy.ai that the item shows, named by its consents.
    inner_id: str | None = None
    random: Random
    owner: Party
    products: list[str]
    client_user_id: str | None = None
    webhook_url: str | None = None
    oauth_redirect_uri: str | None = None
    parameters: Payload = field(default_factory=dict)
    quirks: tuple[str, ...] = ()
    status: str = "UPDATING"
    execution_status: str = "CREATED"
    error: Payload | None = None
    parameter: Payload | None = None
    user_action: Payload | None = None
    status_detail: Payload | None = None
    created: int
    last_updated: int | None = None
    next_auto_sync: int | None = None
    auto_sync_disabled: int | None = None
    # Some healthy items of MeuPluggy show no time of their next collection.
    hides_next_sync: bool = False
    failed_logins: int = 0
    failures: int = 0
    consent_expires: int | None = None
    withheld: bool = False
    # Whether resources at the bank wait for another approval.
    pending_authorization: bool = False
    # Products that no collection has been able to read yet.
    unread: set[str] = field(default_factory=set)
    timer: Timer | None = None
    expiry: Timer | None = None
    accounts: dict[str, Account] = field(default_factory=dict)
    bills: dict[str, Payload] = field(default_factory=dict)
    investments: dict[str, Payload] = field(default_factory=dict)
    movements: dict[str, list[Payload]] = field(default_factory=dict)
    loans: dict[str, Payload] = field(default_factory=dict)
    identity: Payload | None = None
    consents: dict[str, Payload] = field(default_factory=dict)
    removed: list[Row] = field(default_factory=list)
    # As it was before the collection whose answers lag.
    past: "Item | None" = None
    # What the institution or Pluggy leaves out of every row.
    without: frozenset[str] = frozenset()
    timeline: deque[Payload] = field(default_factory=lambda: deque(maxlen=TIMELINE_LINES))
    _json: bytes | None = None
    updated: int = field(init=False)

    def __post_init__(self) -> None:
        self.updated = self.created

    @property
    def open_finance(self) -> bool:
        return bool(self.connector["isOpenFinance"])

    @property
    def auto_sync(self) -> bool:
        return self.auto_sync_disabled is None

    @property
    def _resources_collected(self) -> int | None:
        """Only Open Finance lists resources with their authorization."""
        return self.last_updated if self.open_finance else None

    @property
    def _pending_authorization(self) -> bool | None:
        return None if self._resources_collected is None else self.pending_authorization

    @property
    def in_progress(self) -> bool:
        return self.status in IN_PROGRESS

    def touch(self, now_ms: int) -> None:
        self.updated = now_ms
        self._json = None

    def delete_json(self) -> None:
        """Drop cached bytes after a change that is shown but not the item's own (its connector)."""
        self._json = None

    def snapshot(self) -> "Item":
        """The item as it is now, whatever changes later."""
        past = copy.copy(self)
        past.delete_json()
        past.past = past.timer = None
        past.accounts = {account.id: account.snapshot() for account in self.accounts.values()}
        past.movements = {owner: list(rows) for owner, rows in self.movements.items()}
        for name in ("bills", "investments", "loans", "consents"):
            setattr(past, name, dict(getattr(self, name)))
        return past

    def owned_ids(self) -> Iterator[str]:
        """Ids of all but accounts and transactions."""
        yield from (*self.bills, *self.investments, *self.loans, *self.consents)
        if self.identity is not None:
            yield self.identity["id"]

    def json(self) -> bytes:
        if self._json is None:
            self._json = msgspec.json.encode(self.shown())
        return self._json

    def shown(self) -> Payload:
        return {
            "id": self.id,
            "connector": self.connector,
            "products": self.products,
            "createdAt": iso(self.created),
            "updatedAt": iso(self.updated),
            "status": self.status,
            "executionStatus": self.execution_status,
            "lastUpdatedAt": iso_or_none(self.last_updated),
            "webhookUrl": self.webhook_url,
            "error": self.error,
            "clientUserId": self.client_user_id,
            "consecutiveFailedLoginAttempts": self.failed_logins,
            "statusDetail": self.status_detail,
            "parameter": self.parameter,
            "userAction": self.user_action,
            "nextAutoSyncAt": None if self.hides_next_sync else iso_or_none(self.next_auto_sync),
            "autoSyncDisabledAt": iso_or_none(self.auto_sync_disabled),
            "consentExpiresAt": iso_or_none(self.consent_expires),
            "oauthRedirectUri": self.oauth_redirect_uri,
            "resourcesCollectedAt": iso_or_none(self._resources_collected),
            "hasResourcesPendingAuthorization": self._pending_authorization,
        }
