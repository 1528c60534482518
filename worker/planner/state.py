"""The stored state of an item that a plan is made from: events, steps, walks and accounts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from worker.entities.declaration import Scope
from worker.store.item_state import ItemStateRow

WHOLE_ITEM: Final = uuid.UUID(int=0)
"""scope_id of a step that covers the whole item."""


class PendingEvent(msgspec.Struct, frozen=True):
    """An event that is not settled. pending_seq: its place in the order of reads and failures.

    ids_open: number of its ids that are still to be read (None: the event has no ids).
    ids_came_back: whether one of the ids read was returned.
    ids_unreadable: whether the event has ids that cannot be read.
    confirming, confirming_since: the step that is rechecked because its answer contradicted the
    event, and the start of its schedule (see confirmations.py).
    """

    id: int
    event: str
    lane: int
    state: str
    pending_since: datetime
    pending_seq: int
    account_id: uuid.UUID | None = None
    ids_open: int | None = None
    ids_came_back: bool = False
    ids_unreadable: bool = False
    created_at_from: datetime | None = None
    expected_rows: int | None = None
    ask_again_at: datetime | None = None
    confirming: str | None = None
    confirming_since: datetime | None = None

    @property
    def announces_rows(self) -> bool:
        """Whether the event announces new rows."""
        return self.event == "transactions/created" and bool(self.expected_rows)


class Step(msgspec.Struct, frozen=True):
    """Progress of a product in one scope; see pluggy_sync.product_sync."""

    product: str
    scope_id: uuid.UUID = WHOLE_ITEM
    watermark: datetime | None = None
    source_updated_at: datetime | None = None
    complete_read_at: datetime | None = None
    walked_at: datetime | None = None
    read_since: datetime | None = None
    read_up_to: datetime | None = None
    narrow_until: datetime | None = None
    wide_by: datetime | None = None
    recent_at: datetime | None = None
    read_seq: int | None = None
    walked_seq: int | None = None
    recent_seq: int | None = None
    dead_seq: int | None = None
    unreadable_walk_at: datetime | None = None
    first_read_at: datetime | None = None
    awaits_rows: bool = False
    fingerprint: str | None = None
    attempts: int = 0
    failing_since: datetime | None = None
    next_try_at: datetime | None = None
    dead_at: datetime | None = None
    deferred_since: datetime | None = None
    failure_code: str | None = None
    error_id: str | None = None


class Walk(msgspec.Struct, frozen=True):
    """A running read of all pages of an account; see pluggy_sync.account_walks."""

    account_id: uuid.UUID
    walk_id: int
    kind: str
    lane: int
    asked_at: datetime
    expects_rows: bool = False
    finds_candidates: bool = False
    verifies: bool = False
    started_at: datetime | None = None
    pluggy_started_at: datetime | None = None
    source_updated_at: datetime | None = None
    read_since: datetime | None = None
    read_seq: int | None = None
    next: str | None = None
    pages: int = 0
    rows_seen: int = 0
    read_at: datetime | None = None


class AccountState(msgspec.Struct, frozen=True):
    """A stored account of the item; a tombstone is not live."""

    id: uuid.UUID
    live: bool
    type: str | None = None


class InvestmentState(msgspec.Struct, frozen=True):
    """A live investment; the fingerprint changes with any of its fields."""

    id: uuid.UUID
    fingerprint: str


class StoredItem(msgspec.Struct, frozen=True):
    """The item's row as it is stored, a tombstone too; an answer is compared with it."""

    payload: bytes
    row_hash: bytes
    row_version: int
    source_updated_at: datetime | None
    changed_at: datetime
    deleted_at: datetime | None
    connector_id: int | None
    connector_name: str | None
    connector_is_open_finance: bool | None


@dataclass(frozen=True, slots=True)
class ItemState:
    """One consistent snapshot: the generation with exactly the events that it counts."""

    item_id: uuid.UUID
    now: datetime
    generation: int
    events: Sequence[PendingEvent]
    steps: Mapping[tuple[str, uuid.UUID], Step]
    walks: Mapping[uuid.UUID, Walk]
    accounts: Mapping[uuid.UUID, AccountState]
    investments: Sequence[InvestmentState]
    stored_item: StoredItem | None
    item_deleted: bool
    webhook_check_at: datetime | None = None
    parked: frozenset[str] = frozenset()
    """Products that Pluggy refuses for many items: their steps are left out."""
    unwitnessed: Sequence[uuid.UUID] = ()
    """Accounts with deletion candidates for which no witness was available."""
    newest_rows: Mapping[uuid.UUID, datetime] = field(default_factory=dict)
    """createdAt of the newest stored row, by account of open transactions/created events."""

    @property
    def item(self) -> bytes | None:
        """The stored item's JSON."""
        return None if self.stored_item is None else self.stored_item.payload

    def step(self, product: str, scope_id: uuid.UUID = WHOLE_ITEM) -> Step:
        """The stored step, or a new one."""
        return self.steps.get((product, scope_id)) or Step(product, scope_id)

    def accounts_with(self, scope: Scope) -> list[uuid.UUID]:
        """Live accounts that have lists of this scope: all, or the cards."""
        if scope != Scope.CARD:
            return self.live_accounts
        return [i for i in self.live_accounts if self.accounts[i].type == "CREDIT"]

    @property
    def live_accounts(self) -> list[uuid.UUID]:
        """Accounts that are not tombstoned, in a stable order."""
        return sorted(a.id for a in self.accounts.values() if a.live)

    @property
    def parked_walks(self) -> frozenset[tuple[str, uuid.UUID]]:
        """Product and account of the walks that cannot go on while their product is parked."""
        if "transactions" not in self.parked:
            return frozenset()
        return frozenset(("transactions", account_id) for account_id in self.walks)

    @property
    def transaction_steps(self) -> list[Step]:
        """The steps that read the transactions of the live accounts."""
        return [self.step("transactions", account_id) for account_id in self.live_accounts]


_events = msgspec.json.Decoder(list[PendingEvent])
_steps = msgspec.json.Decoder(list[Step])
_walks = msgspec.json.Decoder(list[Walk])
_investments = msgspec.json.Decoder(list[InvestmentState])
_newest = msgspec.json.Decoder(dict[uuid.UUID, datetime | None])
_accounts = msgspec.json.Decoder(list[AccountState])


def item_state_from_row(item_id: uuid.UUID, row: ItemStateRow) -> ItemState:
    """Decode the row of query load_item_state."""
    return ItemState(
        item_id=item_id,
        now=row.now,
        generation=row.generation,
        events=_events.decode(row.events),
        steps={(s.product, s.scope_id): s for s in _steps.decode(row.steps)},
        walks={w.account_id: w for w in _walks.decode(row.walks)},
        accounts={a.id: a for a in _accounts.decode(row.accounts)},
        investments=_investments.decode(row.investments),
        stored_item=_stored_item(row),
        item_deleted=row.item_deleted_at is not None,
        webhook_check_at=row.webhook_check_at,
        parked=frozenset(row.parked),
        unwitnessed=row.unwitnessed,
        newest_rows={a: at for a, at in _newest.decode(row.newest_rows).items() if at},
    )


def _stored_item(row: ItemStateRow) -> StoredItem | None:
    if row.item is None or row.item_hash is None or row.item_changed_at is None:
        return None
    return StoredItem(
        payload=row.item.encode(),
        row_hash=row.item_hash,
        row_version=row.item_version or 0,
        source_updated_at=row.item_updated_at,
        changed_at=row.item_changed_at,
        deleted_at=row.item_deleted_at,
        connector_id=row.connector_id,
        connector_name=row.connector_name,
        connector_is_open_finance=row.is_open_finance,
    )
