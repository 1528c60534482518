"""Items: one person connected at one institution, with everything collected for it."""

from collections import deque
from collections.abc import Iterator
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


class Item:
    """All state of one item. Every change of what is shown calls `touch`."""

    def __init__(
        self,
        item_id: str,
        *,
        connector: Payload,
        random: Random,
        owner: Party,
        products: list[str],
        now_ms: int,
        client_user_id: str | None = None,
        webhook_url: str | None = None,
    ) -> None:
        self.id = item_id
        self.connector = connector
        # MeuPluggy: the connection at meu.pluggy.ai that the item shows, named by its consents.
        self.inner_id: str | None = None
        self.random = random
        self.owner = owner
        self.products = products
        self.client_user_id = client_user_id
        self.webhook_url = webhook_url
        self.oauth_redirect_uri: str | None = None
        self.parameters: Payload = {}
        self.quirks: tuple[str, ...] = ()
        self.status = "UPDATING"
        self.execution_status = "CREATED"
        self.error: Payload | None = None
        self.parameter: Payload | None = None
        self.user_action: Payload | None = None
        self.status_detail: Payload | None = None
        self.created = self.updated = now_ms
        self.last_updated: int | None = None
        self.next_auto_sync: int | None = None
        self.auto_sync_disabled: int | None = None
        # Some healthy items of MeuPluggy show no time of their next collection.
        self.hides_next_sync = False
        self.failed_logins = 0
        self.failures = 0
        self.consent_expires: int | None = None
        self.withheld = False
        # Whether resources at the bank wait for another approval.
        self.pending_authorization = False
        # Products that no collection has been able to read yet.
        self.unread: set[str] = set()
        self.timer: Timer | None = None
        self.expiry: Timer | None = None
        self.accounts: dict[str, Account] = {}
        self.bills: dict[str, Payload] = {}
        self.investments: dict[str, Payload] = {}
        self.movements: dict[str, list[Payload]] = {}
        self.loans: dict[str, Payload] = {}
        self.identity: Payload | None = None
        self.consents: dict[str, Payload] = {}
        self.removed: list[Row] = []
        # As it was before the collection whose answers lag.
        self.past: Item | None = None
        # What the institution or Pluggy leaves out of every row.
        self.without: frozenset[str] = frozenset()
        self.timeline: deque[Payload] = deque(maxlen=TIMELINE_LINES)
        self._json: bytes | None = None

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
