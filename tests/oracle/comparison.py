"""Compare what Postgres holds of an item with what Pluggy would return of it.

Rows are compared by ops.compare, which imports nothing of the worker. What is added here is what
may differ while webhooks are lost or consent is withdrawn.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

from ops.compare.columns import load_tables
from ops.compare.rows import EXTRA, TOMBSTONED, Comparison, Difference, compare_item
from ops.compare.truth import TrueRow
from ops.demo.processes import ZONE as ZONE_NAME
from tests.oracle.scenario import MEU_PLUGGY
from tests.support.truth_document import read_document
from worker.infra.postgres import Pool

ZONE: Final = ZoneInfo(ZONE_NAME)
EXCUSED_REASONS: Final = frozenset({"no_witness", "too_many_at_once"})
ONLY_WITH_CONSENT: Final = frozenset({"consents"})
"""Other connectors have none to ask for."""
READABLE_ALWAYS: Final = frozenset({"items", "consents"})
"""What a withdrawn consent does not withhold."""


@dataclass(frozen=True, slots=True)
class Truth:
    """All that Pluggy holds of an item; withheld: it would return none of it now."""

    rows: Mapping[str, Mapping[uuid.UUID, TrueRow]]
    withheld: bool
    item: Mapping[str, Any] | None

    def lists(self, table: str) -> bool:
        """Whether there is such a list to ask for; of a deleted item all are empty."""
        return table not in ONLY_WITH_CONSENT or self.item is None or has_consents(self.item)

    async def read(self) -> AsyncIterator[TrueRow]:
        """All rows."""
        for rows in self.rows.values():
            for row in rows.values():
                yield row

    @property
    def updated_at(self) -> str | None:
        """When anything of the item changed last; None: it is deleted."""
        return None if self.item is None else str(self.item["updatedAt"])

    @property
    def is_open_finance(self) -> bool:
        """Whether its institution can be asked for a balance."""
        return self.item is not None and bool(self.item["connector"]["isOpenFinance"])

    @property
    def in_progress(self) -> bool:
        """A collection is under way, or waits for the person."""
        waiting = {"UPDATING", "MERGING", "WAITING_USER_INPUT", "WAITING_USER_ACTION"}
        return self.item is not None and self.item["status"] in waiting

    def transactions_since(self, day: date) -> set[uuid.UUID]:
        """Ids of the rows of that day and later."""
        dated = self.rows["transactions"].items()
        return {row_id for row_id, row in dated if _day(row) >= day.isoformat()}

    def has_others(self, table: str) -> bool:
        """Whether a list of these rows is not empty when one of them is gone."""
        listed = Counter(row.listed_under for row in self.rows[table].values())
        return bool(listed) and min(listed.values()) > 1


def _day(row: TrueRow) -> str:
    return str(row.fields["date"])[:10]


def has_consents(item: Mapping[str, Any]) -> bool:
    """Whether Pluggy lists consents of the item: of Open Finance's, and of those of MeuPluggy."""
    connector = item["connector"]
    return bool(connector["isOpenFinance"]) or connector["id"] == MEU_PLUGGY


async def parse_truth(document: bytes) -> Truth:
    """Read a truth document of the simulator."""
    answer = json.loads(document)
    found: dict[str, dict[uuid.UUID, TrueRow]] = defaultdict(dict)
    async for row in read_document(document):
        found[row.entity][uuid.UUID(row.fields["id"])] = row
    items = answer["items"]
    return Truth(found, bool(answer.get("withheld")), items[0] if items else None)


async def differences(
    db: Pool,
    item_id: str,
    truth: Truth,
    *,
    but: Collection[str] = (),
    allow_pending: bool = True,
) -> list[Difference]:
    """What is not equal, but in some tables; of a withheld item only what is destroyed.

    allow_pending: a row that Pluggy has not and that waits for a person to accept its deletion
    counts as equal; a row that Pluggy has may not wait for that.
    """
    found = Comparison(max_shown=sys.maxsize)
    async with db.acquire() as conn:
        tables = await load_tables(conn)
        listed = {n: t for n, t in tables.items() if n not in but and truth.lists(n)}
        await compare_item(conn, item_id, truth.read(), ZONE, found, listed)
    pending = await _pending_deletions(db, item_id) if allow_pending else {}
    remaining = {(d.entity, d.row_id): d for d in found.shown if not _is_excused(d, truth, pending)}
    for row_id, reason in pending.items():
        if uuid.UUID(row_id) in truth.rows["transactions"]:
            difference = Difference(f"flagged as {reason}", "transactions", item_id, row_id)
            remaining.setdefault((difference.entity, row_id), difference)
    return [*remaining.values(), *await _accounts_with_deletions(db, item_id, truth)]


def _is_excused(difference: Difference, truth: Truth, pending: Mapping[str, str]) -> bool:
    """Of rows that cannot be read only deletions count: the others are kept as they were."""
    if truth.withheld and difference.entity not in READABLE_ALWAYS:
        return difference.kind != TOMBSTONED
    is_absence = difference.kind == EXTRA and difference.entity == "transactions"
    return is_absence and pending.get(difference.row_id) in EXCUSED_REASONS


async def _pending_deletions(db: Pool, item_id: str) -> dict[str, str]:
    records = await db.fetch(
        "SELECT transaction_id, reason FROM pluggy_ops.flagged_deletions"
        " WHERE item_id = $1 AND transaction_id IS NOT NULL",
        item_id,
    )
    return {str(record["transaction_id"]): record["reason"] for record in records}


async def _accounts_with_deletions(db: Pool, item_id: str, truth: Truth) -> list[Difference]:
    """Accounts that wait for a person although Pluggy has them, or shows none to anybody."""
    records = await db.fetch(
        "SELECT account_id, reason FROM pluggy_ops.flagged_deletions"
        " WHERE item_id = $1 AND transaction_id IS NULL",
        item_id,
    )
    return [
        Difference(f"flagged as {record['reason']}", "accounts", item_id, str(record["account_id"]))
        for record in records
        if truth.withheld or record["account_id"] in truth.rows["accounts"]
    ]
