"""Restatements: links a deleted transaction to the created one that replaces it; no row is merged.

Pluggy gives a row whose amount, date or text the bank has changed a new id and deletes the old one,
and nothing says that they are the same; https://docs.pluggy.ai/docs/transactions.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby, takewhile
from typing import Any, Final

import msgspec
import structlog

from worker.infra.postgres import Connection, Pool
from worker.lease.runs import run_of_its_own
from worker.maintenance.deletion_review import accept_deletions
from worker.store import restatements
from worker.store.reconnections import UnlinkedRow
from worker.store.restatements import CreatedRow, DeletedRow, RunToCheck

log = structlog.get_logger()

MAX_TIME_BETWEEN: Final = timedelta(hours=24)
MAX_DATE_DIFFERENCE: Final = timedelta(days=3)
MAX_DAYS_APART: Final = timedelta(days=45)
"""A row with the same amount and text but a date further away is a different one."""
RESTATEMENTS_LOCK: Final = 0x70_6C_75_67_04
"""Advisory lock: one worker at a time."""
MAX_RUNS: Final = 500
MAX_ITEMS: Final = 20
MAX_ROWS: Final = 5000

CONFIDENCE: Final[Mapping[str, Decimal]] = {
    "amount+date+description": Decimal("0.95"),
    "amount+date": Decimal("0.80"),
    "amount+description": Decimal("0.70"),
    "date+description": Decimal("0.60"),
}
"""By the fields that agree. It is a ranking, not a probability: a person may check the lower ones.
"""


@dataclass(frozen=True, slots=True)
class Version:
    """One of two rows that may be the same: the compared fields, and when it came or went."""

    id: uuid.UUID
    amount: Decimal
    currency_code: str | None
    posted_on: date
    description: str | None
    first_seen_at: datetime
    source_created_at: datetime | None = None
    deleted_at: datetime | None = None
    awaits_decision: bool = False

    @property
    def money(self) -> tuple[Decimal, str | None]:
        return self.amount, self.currency_code

    @property
    def words(self) -> str:
        """The description without case and spacing; empty if there is none."""
        return " ".join((self.description or "").casefold().split())


@dataclass(frozen=True, slots=True)
class Link:
    """A tombstone and the row that replaces it."""

    id: uuid.UUID
    superseded_by: uuid.UUID
    reason: str

    @property
    def confidence(self) -> Decimal:
        return CONFIDENCE[self.reason]


def agreement(deleted: Version, created: Version) -> str | None:
    """The fields that agree, if two of amount, date and description do; None if fewer."""
    if not _may_follow(deleted, created):
        return None
    same = {
        "amount": deleted.money == created.money,
        "date": abs(deleted.posted_on - created.posted_on) <= MAX_DATE_DIFFERENCE,
        "description": bool(deleted.words) and deleted.words == created.words,
    }
    agreed = [name for name, agrees in same.items() if agrees]
    return "+".join(agreed) if len(agreed) >= 2 else None


def _may_follow(deleted: Version, created: Version) -> bool:
    """Whether one was created after the other, and seen within a day of the other's deletion."""
    if deleted.id == created.id or deleted.deleted_at is None:
        return False
    if deleted.source_created_at is not None and created.source_created_at is not None:
        # A first import gives all rows one creation time: they never replace each other.
        later = created.source_created_at > deleted.source_created_at
    else:
        later = created.first_seen_at > deleted.first_seen_at
    return later and abs(created.first_seen_at - deleted.deleted_at) <= MAX_TIME_BETWEEN


Agreement = Callable[[Version, Version], str | None]


def pair(
    deleted: Iterable[Version], created: Iterable[Version], agree: Agreement = agreement
) -> list[Link]:
    """Link rows of one account one to one, whatever their order.

    A link is made where each is the other's only best match. That removes both, which may leave
    others with one best match, and so on; ambiguous rows are not linked.
    """
    matches = _matches(deleted, created, agree)
    links: list[Link] = []
    while found := _mutual(matches):
        links += found
        taken = {link.id for link in found}, {link.superseded_by for link in found}
        matches = {
            pair: reason
            for pair, reason in matches.items()
            if pair[0] not in taken[0] and pair[1] not in taken[1]
        }
    return sorted(links, key=lambda link: link.id)


_Pair = tuple[uuid.UUID, uuid.UUID]


def _matches(
    deleted: Iterable[Version], created: Iterable[Version], agree: Agreement
) -> dict[_Pair, str]:
    """All pairs that agree in two of three fields, and so in the amount or in the description."""
    alike: defaultdict[Any, dict[uuid.UUID, Version]] = defaultdict(dict)
    for version in created:
        alike[version.money][version.id] = version
        alike[version.words][version.id] = version
    return {
        (gone.id, other.id): reason
        for gone in deleted
        for other in (alike[gone.money] | alike[gone.words]).values()
        if (reason := agree(gone, other)) is not None
    }


def _mutual(matches: Mapping[_Pair, str]) -> list[Link]:
    best_of_deleted = _only_best(matches, side=0)
    best_of_created = _only_best(matches, side=1)
    return [
        Link(gone, other, matches[gone, other])
        for gone, other in best_of_deleted.items()
        if best_of_created.get(other) == gone
    ]


def certain(links: Iterable[Link], deleted: Iterable[Version]) -> list[Link]:
    """Leave out links of pending deletions where restatement does not explain their absence.

    It does where most pending ones of the account have their own replacement with a similar date.
    An account of which Pluggy shows only a part has few, by chance: these stay pending for a
    person.
    """
    candidates = {version.id for version in deleted if version.awaits_decision}
    of_tombstones: list[Link] = []
    of_candidates: list[Link] = []
    for link in links:
        if link.id not in candidates:
            of_tombstones.append(link)
        elif "date" in link.reason:
            of_candidates.append(link)
    explained = 2 * len(of_candidates) > len(candidates)
    return of_tombstones + (of_candidates if explained else [])


def _only_best(matches: Mapping[_Pair, str], *, side: int) -> dict[uuid.UUID, uuid.UUID]:
    """Each row's best match on the other side, if there is a single best one."""
    best: dict[uuid.UUID, tuple[Decimal, set[uuid.UUID]]] = {}
    for ids, reason in matches.items():
        confidence, (own, other) = CONFIDENCE[reason], (ids[side], ids[1 - side])
        best_confidence, rivals = best.get(own, (Decimal(0), set()))
        if confidence > best_confidence:
            best[own] = confidence, {other}
        elif confidence == best_confidence:
            rivals.add(other)
    return {own: next(iter(rivals)) for own, (_, rivals) in best.items() if len(rivals) == 1}


async def link_restatements(db: Pool) -> bool:
    """Check the next runs that have created or deleted rows; returns whether there may be more.

    One transaction, one run for each item that has new links. A pending one that is linked becomes
    a tombstone afterwards, in a transaction of its own: it takes the item's lease row before the
    lock of the feed, as pages do. Errors: those of a Postgres that is away; existing links stay,
    and the next call continues.
    """
    more = await _link(db)
    for record in await restatements.load_linked_deletions(db, limit=MAX_ITEMS):
        await accept_deletions(db, item_id=record.item_id, transaction_ids=record.ids)
    return more


async def _link(db: Pool) -> bool:
    async with db.acquire() as conn, conn.transaction():
        if not await restatements.lock_restatements(conn, lock=RESTATEMENTS_LOCK):
            return False
        runs = await restatements.load_runs_to_check(conn, limit=MAX_RUNS)
        items, seq = _items(runs)
        if seq is None:
            return False
        found = [await _Changes.of(conn, item_id, since) for item_id, since in items.items()]
        # Written at the end and together: the lock of the feed is held from the first run on.
        for changes in found:
            await changes.store(conn)
        await restatements.advance_restatement_cursor(conn, seq=seq)
        return len(items) == MAX_ITEMS or len(runs) == MAX_RUNS


def _items(runs: Sequence[RunToCheck]) -> tuple[dict[uuid.UUID, datetime], int | None]:
    """Items to check with the time of their earliest run, and the last run that they cover."""
    items: dict[uuid.UUID, datetime] = {}
    seq: int | None = None
    for run in takewhile(lambda run: run.has_rested, runs):
        if run.writes and run.item_id is not None and run.item_id not in items:
            if len(items) == MAX_ITEMS:
                break
            items[run.item_id] = run.finished_at
        seq = run.seq
    return items, seq


@dataclass(frozen=True, slots=True)
class _Changes:
    """Links to add to an item, by account, and links that no longer hold."""

    item_id: uuid.UUID
    links: Sequence[tuple[uuid.UUID, Link]]
    void: Sequence[uuid.UUID]

    @classmethod
    async def of(cls, conn: Connection, item_id: uuid.UUID, since: datetime) -> _Changes:
        void = await restatements.load_void_restatements(conn, item_id)
        # A row created in that run may replace one deleted so long before; an hour for the run's
        # length.
        after = since - MAX_TIME_BETWEEN - timedelta(hours=1)
        records = await restatements.load_deleted(
            conn, item_id, deleted_after=after, limit=MAX_ROWS
        )
        links: list[tuple[uuid.UUID, Link]] = []
        for account_id, rows in groupby(records, key=lambda record: record.account_id):
            deleted = [version(row) for row in rows]
            created = await _load_created(conn, item_id, account_id, deleted)
            if MAX_ROWS in (len(records), len(created)):
                # Ambiguity cannot be ruled out with only a part of the rows.
                log.warning("too_many_to_link", account_id=str(account_id))
                continue
            found = certain(pair(deleted, created), deleted)
            links += [(account_id, link) for link in found]
        return cls(item_id, links, void)

    async def store(self, conn: Connection) -> None:
        if not self.links and not self.void:
            return
        async with run_of_its_own(conn, "restatement", item_id=self.item_id) as run:
            await restatements.remove_restatements(conn, self.item_id, ids=self.void)
            added = await restatements.add_restatements(
                conn,
                self.item_id,
                run_id=run.id,
                ids=[link.id for _, link in self.links],
                superseded_bys=[link.superseded_by for _, link in self.links],
                account_ids=[account_id for account_id, _ in self.links],
                confidences=[link.confidence for _, link in self.links],
                reasons=[link.reason for _, link in self.links],
            )
            run.counts.changed = len(added) + len(self.void)
            run.plan = ["restatements"]
        log.info("restatements_linked", item_id=str(self.item_id), links=len(added), run_id=run.id)


async def _load_created(
    conn: Connection, item_id: uuid.UUID, account_id: uuid.UUID, deleted: Sequence[Version]
) -> list[Version]:
    gone_at = [version.deleted_at for version in deleted if version.deleted_at is not None]
    days = [version.posted_on for version in deleted]
    born = [version.source_created_at for version in deleted]
    records = await restatements.load_created(
        conn,
        item_id,
        account_id,
        seen_from=min(gone_at) - MAX_TIME_BETWEEN,
        seen_to=max(gone_at) + MAX_TIME_BETWEEN,
        dated_from=min(days) - MAX_DAYS_APART,
        dated_to=max(days) + MAX_DAYS_APART,
        created_after=None if None in born else min(filter(None, born)),
        limit=MAX_ROWS,
    )
    return [version(record) for record in records]


def version(row: DeletedRow | CreatedRow | UnlinkedRow) -> Version:
    """The compared fields of a row."""
    columns = msgspec.structs.asdict(row)
    return Version(**{f.name: columns[f.name] for f in fields(Version) if f.name in columns})
