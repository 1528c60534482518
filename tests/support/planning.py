"""Item states for planner tests: completely read, apart from the fields that a test changes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from worker.inbox.events import TRANSACTION_EVENTS
from worker.infra.lanes import Lane
from worker.infra.settings import PRODUCTS
from worker.planner.item_status import Item, read_item
from worker.planner.outcomes import Answered, Outcome, SyncPlan
from worker.planner.plan import plan
from worker.planner.state import (
    WHOLE_ITEM,
    AccountState,
    InvestmentState,
    ItemState,
    PendingEvent,
    Step,
    StoredItem,
    Walk,
)
from worker.planner.steps import Gone, NotRead

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CHECKING, CARD, SAVINGS = (uuid.UUID(int=n, version=4) for n in (1, 2, 3))
INVESTMENT = uuid.UUID(int=9, version=4)
ROWS = tuple(uuid.UUID(int=n, version=4) for n in range(100, 106))
ACCOUNTS = (CHECKING, CARD)
COLLECTED = NOW - 10 * MINUTE
"""When Pluggy has collected everything of the item."""
READ_BEFORE, READ_AFTER = COLLECTED - DAY, COLLECTED
"""What a read of the collection before, and of this one, is stamped with."""
NOTHING_ASKED = Answered()


def place(at: datetime, *, event: bool = False) -> int:
    """Sequence number for a time, in the order of events and reads; reads go first."""
    return 2 * round(at.timestamp() * 1000) + event


def made_step(product: str, scope_id: uuid.UUID = WHOLE_ITEM, **fields: Any) -> Step:
    """A step with sequence numbers derived from its times."""
    for seq, at in (
        ("read_seq", "complete_read_at"),
        ("walked_seq", "walked_at"),
        ("recent_seq", "recent_at"),
        ("dead_seq", "dead_at"),
    ):
        if fields.get(at) is not None:
            fields.setdefault(seq, place(fields[at], event=seq == "dead_seq"))
    return Step(product, scope_id, **fields)


def item(status: str = "UPDATED", collected: datetime | None = COLLECTED, **more: Any) -> Item:
    """An item as answered by GET. collected: collection time of all products."""
    fields = {"status": status, "lastUpdatedAt": collected and collected.isoformat(), **more}
    fields.setdefault("updatedAt", fields["lastUpdatedAt"])
    return read_item(fields, is_open_finance=True)


def step(product: str, scope_id: uuid.UUID = WHOLE_ITEM, **fields: Any) -> Step:
    """A step that was read completely a day ago."""
    read = {"complete_read_at": NOW - DAY, "source_updated_at": READ_BEFORE}
    if product == "transactions":
        read |= {"watermark": NOW - DAY, "walked_at": NOW - 30 * DAY, "recent_at": NOW - DAY}
    return made_step(product, scope_id, **(read | fields))


def fresh_steps() -> list[Step]:
    """Every step of an item whose last collection has been read to its end."""
    by_item = ["items", "accounts", "investments", "loans", "identities", "consents"]
    found = [step(product, source_updated_at=READ_AFTER) for product in by_item]
    # An item that was read within the hour need not have moved again when a webhook says so.
    found[1] = step("accounts", source_updated_at=READ_AFTER, complete_read_at=NOW - 30 * MINUTE)
    found += [step("transactions", a, source_updated_at=READ_AFTER) for a in ACCOUNTS]
    found += [step("bills", CARD, source_updated_at=READ_AFTER)]
    read = {"fingerprint": "same", "source_updated_at": READ_AFTER}
    return [*found, step("investment_transactions", INVESTMENT, **read)]


def event(name: str, event_id: int = 1, *, age: timedelta = MINUTE, **fields: Any) -> PendingEvent:
    if name in TRANSACTION_EVENTS:
        fields.setdefault("account_id", CHECKING)
    if name in ("transactions/updated", "transactions/deleted"):
        fields.setdefault("ids_open", 2)
    fields.setdefault("lane", Lane.LIVE)
    fields.setdefault("pending_since", NOW - age)
    fields.setdefault("pending_seq", place(fields["pending_since"], event=True))
    return PendingEvent(id=event_id, event=name, state="pending", **fields)


def walk(account_id: uuid.UUID, kind: str = "walk") -> Walk:
    return Walk(account_id, walk_id=1, kind=kind, lane=Lane.BACKFILL, asked_at=NOW - MINUTE)


STORED_ITEM: Final = StoredItem(
    payload=b"{}",
    row_hash=b"",
    row_version=1,
    source_updated_at=None,
    changed_at=NOW,
    deleted_at=None,
    connector_id=None,
    connector_name=None,
    connector_is_open_finance=True,
)


def item_state(
    *events: PendingEvent,
    steps: Iterable[Step] | None = None,
    changed: Iterable[Step] = (),
    walks: Iterable[Walk] = (),
    accounts: Iterable[uuid.UUID] = ACCOUNTS,
    tombstoned: Iterable[uuid.UUID] = (),
    investments: Iterable[InvestmentState] = (InvestmentState(INVESTMENT, "same"),),
    known: bool = True,
    item_deleted: bool = False,
    newest_rows: Mapping[uuid.UUID, datetime] | None = None,
) -> ItemState:
    """State of a completely read item, apart from the given changes."""
    rows = [*(fresh_steps() if steps is None else steps), *changed]
    live = {a: AccountState(a, True, "CREDIT" if a == CARD else "BANK") for a in accounts}
    return ItemState(
        item_id=uuid.UUID(int=7, version=4),
        now=NOW,
        generation=len(events),
        events=events,
        steps={(s.product, s.scope_id): s for s in rows},
        walks={w.account_id: w for w in walks},
        accounts=live | {a: AccountState(a, False) for a in tombstoned},
        investments=list(investments),
        stored_item=STORED_ITEM if known else None,
        item_deleted=item_deleted,
        newest_rows=dict.fromkeys(accounts, NOW) if newest_rows is None else newest_rows,
    )


def unknown(*events: PendingEvent) -> ItemState:
    """State of an item that was never read."""
    return item_state(*events, steps=[], accounts=[], investments=[], known=False)


def decided(
    state: ItemState,
    *,
    of: Item | Gone | NotRead | None = None,
    answered: Answered = NOTHING_ASKED,
    products: Sequence[str] = PRODUCTS,
) -> SyncPlan:
    return plan(of or item(), state, answered, products=products)


def only(outcomes: Mapping[int, Outcome]) -> Outcome:
    [outcome] = outcomes.values()
    return outcome
