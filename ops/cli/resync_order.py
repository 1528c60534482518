"""Choose the items of a resync, estimate its requests, and order the reads some at a time."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Final

import click
import msgspec

from ops.cli import console
from ops.cli.pluggy import UNKNOWN_TO_PLUGGY, unknown_at_pluggy
from worker.entities.registry import PRODUCTS
from worker.inbox.accept import Accepted
from worker.inbox.events import READ_ACCOUNTS
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.infra.settings import SyncSettings, load
from worker.maintenance.reconciliation import event_id_of, order_verify
from worker.pluggy_api.rate_limit import BURST
from worker.store import operating
from worker.store import resync as resync_store

GROUP: Final = 200
ROWS_A_PAGE: Final = 500
FIRST: Final = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen items: those listed, or all mirrored ones that match."""

    item_ids: tuple[uuid.UUID, ...] | None = None
    connector: int | None = None
    client_user: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def names_something(self) -> bool:
        """Whether it is of a connector or clientUserId that has items, if it is no mistake."""
        return self.since is None and (self.connector, self.client_user) != (None, None)


@dataclass(slots=True)
class Tally:
    """Counts of the items by their progress, and of the requests that they need."""

    name: str
    dry_run: bool
    accounts_alone: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def order_id(self) -> str:
        return f"resync:{self.name}"

    def summary(self, per_minute: int) -> dict[str, Any]:
        """Minutes: of the group of endpoints that needs most, without other requests."""
        slowest = max(self.requests.values(), default=0)
        return {
            "name": self.name,
            "dry_run": self.dry_run,
            "items": self.counts["items"],
            "ordered": self.counts["ordered"],
            "waiting": self.counts["waiting"],
            "done": self.counts["done"],
            "requests": self.requests.total(),
            "minutes_at_least": math.ceil(slowest / (per_minute * (1 - BURST))),
        }


async def order_resync(choice: Choice, tally: Tally) -> dict[str, Any]:
    """Order what is not done yet; returns the summary. Raises CommandFailed, and as database()."""
    settings = load(SyncSettings)
    async with console.database(settings) as db:
        if choice.item_ids is not None:
            await _refuse_unknown(db, choice.item_ids)
        if not tally.dry_run:
            # At once: one that is interrupted goes on by its name.
            click.echo(f"resync {tally.name}: --name {tally.name} continues it", err=True)
        async for group in _groups(db, choice):
            tally.counts["items"] += len(group)
            await _check(db, tally, group, settings.products)
            if not tally.dry_run:
                await _order(db, tally, group, named=choice.item_ids is not None)
    if not tally.counts["items"] and choice.names_something:
        raise console.CommandFailed("no mirrored item is chosen by it; see: items list")
    return tally.summary(settings.pluggy_requests_per_minute)


async def _refuse_unknown(db: Pool, item_ids: Sequence[uuid.UUID]) -> None:
    """Refuse ids that are not held and that Pluggy does not know, before anything is ordered."""
    stored = set(await operating.known_items(db, item_ids=item_ids))
    if unknown := await unknown_at_pluggy([i for i in item_ids if i not in stored]):
        names = ", ".join(sorted(map(str, unknown)))
        raise console.CommandFailed(f"{UNKNOWN_TO_PLUGGY}: {names}; nothing is ordered")


async def _groups(db: Pool, choice: Choice) -> AsyncIterator[Sequence[uuid.UUID]]:
    """The chosen items, some at a time."""
    if choice.item_ids is not None:
        listed = iter(choice.item_ids)
        while group := list(islice(listed, GROUP)):
            yield group
        return
    chosen: dict[str, Any] = {
        "connector_id": choice.connector,
        "client_user_id": choice.client_user,
        "limit": GROUP,
    }
    load = partial(resync_store.mirrored_items, db, **chosen)
    if choice.since is not None:
        chosen |= {"accepted_from": choice.since}
        chosen |= {"accepted_before": choice.until or datetime.now(UTC)}
        load = partial(resync_store.announced_items, db, **chosen)
    after = FIRST
    while found := await load(after=after):
        yield found
        after = found[-1]


async def _check(
    db: Pool, tally: Tally, group: Sequence[uuid.UUID], products: Sequence[str]
) -> None:
    """Count how far this resync is with a group, and the requests that the rest needs."""
    ids = [event_id_of(tally.order_id, item_id) for item_id in group]
    states = {r.item_id: r.state for r in await resync_store.load_resynced(db, event_ids=ids)}
    # What died or was superseded is ordered again.
    tally.counts["waiting"] += sum(state in ("pending", "walking") for state in states.values())
    done = {item_id for item_id, state in states.items() if state == "applied"}
    tally.counts["done"] += len(done)
    rest = [item_id for item_id in group if item_id not in done]
    estimate = await resync_store.estimate_resync(db, item_ids=rest, rows_a_page=ROWS_A_PAGE)
    lists = msgspec.structs.asdict(estimate)
    read = ("accounts",) if tally.accounts_alone else products
    tally.requests.update({p: lists[PRODUCTS[p].scope] for p in read if p != "transactions"})
    tally.requests["transactions"] += estimate.transaction_pages * ("transactions" in read)


async def _order(db: Pool, tally: Tally, group: Sequence[uuid.UUID], *, named: bool) -> None:
    """No worker is woken: the sweep takes the items up as slots become free."""
    if tally.accounts_alone:
        lane = Lane.LIVE if named else Lane.BACKFILL
        answers = await order_verify(
            db, group, order_id=tally.order_id, event=READ_ACCOUNTS, lane=lane
        )
    else:
        answers = await order_verify(db, group, order_id=tally.order_id)
    tally.counts["ordered"] += sum(isinstance(a, Accepted) and a.is_new for a in answers)
