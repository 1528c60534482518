"""Reconnections: the accounts of an item that Pluggy ends go on under a new item; both are linked.

Pluggy carries no history over: the new item brings its own copies of the last 12 months, under new
ids. Accounts are linked where they are certainly the same, then their rows one to one, and
pluggy_live leaves out the older row of each link. No row is merged or changed.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

import structlog

from worker.infra.postgres import Connection, Pool
from worker.lease.runs import run_of_its_own
from worker.maintenance.restatements import MAX_DATE_DIFFERENCE, Link, Version, pair, version
from worker.store import reconnections
from worker.store.reconnections import AccountPair, DueLink

log = structlog.get_logger()

RECONNECTIONS_LOCK: Final = 0x70_6C_75_67_05
"""Advisory lock: one worker at a time."""
MAX_PAIRS: Final = 1000
MAX_LINKS: Final = 20
MAX_ROWS: Final = 20_000
MIN_MATCHING_ROWS: Final = 3
MIN_MATCHING_SHARE: Final = 0.8
"""A card shows four digits, which others share: so many of its rows have to agree as well."""
SHIFTED_BY: Final = timedelta(days=1)
"""Two connections may report one movement a day apart, and word it otherwise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is made of a pair of accounts: linked, or proposed to a person; and why."""

    pair: AccountPair
    state: str
    reason: str

    @property
    def is_stored(self) -> bool:
        """Whether this is proposed already: a proposal waits for its person without new runs."""
        return self.state == "proposed" and self.pair.is_proposed


async def link_reconnections(db: Pool) -> bool:
    """Link accounts of items that end, and their rows; returns whether there may be more.

    Each transaction holds the lock of the feed only at its end. Errors: those of a Postgres that is
    away; existing links stay, and the next call continues.
    """
    async with _exclusive(db) as conn:
        if conn is None or not await _link_accounts(conn):
            return False
    for _ in range(MAX_LINKS):
        async with _exclusive(db) as conn:
            due = [] if conn is None else await reconnections.load_due_links(conn, limit=1)
            if conn is None or not due:
                return False
            await _link_rows(conn, due[0])
    return True


@asynccontextmanager
async def _exclusive(db: Pool) -> AsyncIterator[Connection | None]:
    """A transaction under the lock; None while another worker has it."""
    async with db.acquire() as conn, conn.transaction():
        locked = await reconnections.lock_reconnections(conn, lock=RECONNECTIONS_LOCK)
        yield conn if locked else None


async def _link_accounts(conn: Connection) -> bool:
    """Remove links that no longer hold and add new ones; returns whether any item ends."""
    endings = await reconnections.load_endings(conn)
    if endings.has_links:
        for item_id in await reconnections.remove_void_links(conn):
            async with run_of_its_own(conn, "reconnection", item_id=item_id) as run:
                run.plan = ["unlinked"]
            log.info("reconnection_unlinked", item_id=str(item_id), run_id=run.id)
    if not endings.has_items:
        return False
    pairs = await reconnections.load_account_pairs(conn, limit=MAX_PAIRS)
    undecided = (verdict for verdict in judge(pairs) if not verdict.is_stored)
    for item_id, found in groupby(undecided, key=lambda verdict: verdict.pair.item_id):
        await _add(conn, item_id, list(found))
    return True


def judge(pairs: Sequence[AccountPair]) -> list[Verdict]:
    """Decide each pair; of several newer accounts of one, which were stored first goes first.

    A bank account is matched by number, kind and tax number already: the first is linked. A card
    is linked if one candidate alone has matching rows beside; otherwise a person decides.
    """
    verdicts: list[Verdict] = []
    for _, group in groupby(pairs, key=lambda p: (p.item_id, p.account_id)):
        candidates = list(group)
        if not candidates[0].is_card:
            verdicts.append(Verdict(candidates[0], "linked", "same_number_and_tax_number"))
            continue
        proven = [candidate for candidate in candidates if _rows_agree(candidate)]
        if len(proven) == 1:
            verdicts.append(Verdict(proven[0], "linked", "same_card_and_rows"))
        else:
            verdicts += [Verdict(card, "proposed", "same_last_digits") for card in candidates]
    return verdicts


def _rows_agree(card: AccountPair) -> bool:
    share = card.matching_rows >= MIN_MATCHING_SHARE * card.compared_rows
    return card.matching_rows >= MIN_MATCHING_ROWS and share


async def _add(conn: Connection, item_id: uuid.UUID, verdicts: Sequence[Verdict]) -> None:
    pairs = [verdict.pair for verdict in verdicts]
    async with run_of_its_own(conn, "reconnection", item_id=item_id) as run:
        added = await reconnections.add_account_links(
            conn,
            run_id=run.id,
            item_ids=[p.item_id for p in pairs],
            account_ids=[p.account_id for p in pairs],
            newer_item_ids=[p.newer_item_id for p in pairs],
            newer_ids=[p.newer_id for p in pairs],
            states=[verdict.state for verdict in verdicts],
            reasons=[verdict.reason for verdict in verdicts],
            matching=[p.matching_rows for p in pairs],
            compared=[p.compared_rows for p in pairs],
        )
        run.plan, run.counts.changed = ["accounts"], added
    log.info("accounts_linked", item_id=str(item_id), links=added, run_id=run.id)


async def _link_rows(conn: Connection, link: DueLink) -> None:
    """Link what both accounts show; what is linked already stays."""
    accounts: dict[str, Any] = {
        "account_id": link.account_id,
        "newer_item_id": link.newer_item_id,
        "newer_id": link.newer_id,
    }
    async with run_of_its_own(conn, "reconnection", item_id=link.item_id) as run:
        rows = await reconnections.link_equal_transactions(
            conn, link.item_id, **accounts, run_id=run.id
        )
        rows += await _link_similar(conn, link, accounts, run.id)
        rows += await reconnections.link_bills(conn, link.item_id, **accounts, run_id=run.id)
        rows += await reconnections.link_holdings(
            conn, link.item_id, newer_item_id=link.newer_item_id, run_id=run.id
        )
        await reconnections.mark_link_checked(
            conn, link.item_id, account_id=link.account_id, seq=link.seq
        )
        run.plan, run.counts.changed = ["rows"], rows
    log.info("reconnected_rows_linked", item_id=str(link.item_id), links=rows, run_id=run.id)


async def _link_similar(
    conn: Connection, link: DueLink, accounts: dict[str, Any], run_id: int
) -> int:
    """Link rows that the two connections word or date otherwise; returns how many."""
    found = await reconnections.load_unlinked(
        conn, link.item_id, **accounts, days=MAX_DATE_DIFFERENCE.days, limit=MAX_ROWS
    )
    if len(found) == MAX_ROWS:
        # Ambiguity cannot be ruled out with only a part of the rows.
        log.warning("too_many_to_link", account_id=str(link.account_id))
        return 0
    links = similar(
        [version(row) for row in found if not row.is_newer],
        [version(row) for row in found if row.is_newer],
    )
    await reconnections.add_row_links(
        conn,
        link.item_id,
        newer_item_id=link.newer_item_id,
        run_id=run_id,
        ids=[found.id for found in links],
        superseded_bys=[found.superseded_by for found in links],
        reasons=[found.reason for found in links],
    )
    return len(links)


def similar(older: Sequence[Version], newer: Sequence[Version]) -> list[Link]:
    """Links of rows that agree in amount and day, or in amount and text within three days."""
    links = same_day(older, newer)
    taken = {link.id for link in links} | {link.superseded_by for link in links}
    return links + pair(
        [row for row in older if row.id not in taken],
        [row for row in newer if row.id not in taken],
        agree=same_movement,
    )


def same_day(older: Iterable[Version], newer: Iterable[Version]) -> list[Link]:
    """Of one day and amount, where both accounts have as many: which is which changes no sum."""
    groups: defaultdict[Any, tuple[list[Version], list[Version]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((older, newer)):
        for row in rows:
            groups[row.money, row.posted_on][side].append(row)
    return [
        Link(old.id, new.id, "amount+date")
        for olds, newer_rows in groups.values()
        if len(olds) == len(newer_rows)
        for old, new in zip(
            sorted(olds, key=_by_words), sorted(newer_rows, key=_by_words), strict=True
        )
    ]


def _by_words(row: Version) -> tuple[str, uuid.UUID]:
    return row.words, row.id


def same_movement(older: Version, newer: Version) -> str | None:
    """The fields that agree, if that makes two rows of two connections one movement."""
    apart = abs(older.posted_on - newer.posted_on)
    if older.money != newer.money or apart > MAX_DATE_DIFFERENCE:
        return None
    if older.words and older.words == newer.words:
        return "amount+date+description"
    return "amount+date" if apart <= SHIFTED_BY else None


async def decide_link(
    db: Pool, *, account_id: uuid.UUID, superseded_by: uuid.UUID, accepts: bool
) -> bool:
    """A person's decision about a pair; returns whether there is such a pair.

    Accepted, its rows are linked within a minute; refused, they count apart. Raises
    asyncpg.UniqueViolationError if the older account is linked to another one already.
    """
    async with db.acquire() as conn, conn.transaction():
        items = await reconnections.decide_account_link(
            conn, account_id=account_id, superseded_by=superseded_by, accepts=accepts
        )
        for item_id in items:
            async with run_of_its_own(conn, "reconnection", item_id=item_id) as run:
                run.plan = ["accepted" if accepts else "refused"]
    return bool(items)
