"""Row for row: what Postgres holds of an item against what Pluggy would return of it.

The rules of columns are those of ops.compare.columns, which knows nothing of the worker.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg

from ops.compare.columns import MIRRORED, Mirrored
from ops.compare.truth import TrueRow, read_truth
from worker.infra.postgres import Pool

ZONE: Final = ZoneInfo("America/Sao_Paulo")
FLAGS: Final = frozenset({"no_witness", "too_many_at_once"})
ONLY_OPEN_FINANCE: Final = frozenset({"consents"})
"""Other connectors have none to ask for."""


@dataclass(frozen=True, slots=True)
class Truth:
    """All that Pluggy holds of an item; withheld: it would return none of it now."""

    rows: Mapping[str, Mapping[uuid.UUID, TrueRow]]
    withheld: bool
    item: Mapping[str, Any] | None

    @property
    def open_finance(self) -> bool:
        return self.item is not None and bool(self.item["connector"]["isOpenFinance"])

    @property
    def updated_at(self) -> str | None:
        """When anything of the item changed last; None: it is deleted."""
        return None if self.item is None else str(self.item["updatedAt"])

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


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as Pluggy has it: missing, extra, different, tombstoned, flagged."""

    kind: str
    table: str
    row_id: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.table} {self.row_id} {self.kind} {self.detail}".rstrip()


def _day(row: TrueRow) -> str:
    return str(row.fields["date"])[:10]


async def parse_truth(document: bytes) -> Truth:
    """Read a truth document of the simulator."""
    answer = json.loads(document)
    found: dict[str, dict[uuid.UUID, TrueRow]] = {name: {} for name in MIRRORED}
    async for row in read_truth(_once(document)):
        if row.entity in found:
            found[row.entity][uuid.UUID(row.fields["id"])] = _storable(row)
    items = answer["items"]
    return Truth(found, bool(answer.get("withheld")), items[0] if items else None)


async def _once(document: bytes) -> AsyncIterator[bytes]:
    yield document


async def differences(
    db: Pool,
    item_id: str,
    truth: Truth,
    *,
    tables: Mapping[str, Mirrored] = MIRRORED,
    flags: bool = True,
) -> list[Difference]:
    """What is not equal; of a withheld item only what is destroyed.

    flags: a row that is flagged as absent counts as equal to its absence.
    """
    found: list[Difference] = []
    for name, table in tables.items():
        if name in ONLY_OPEN_FINANCE and not truth.open_finance and truth.item is not None:
            continue
        records = await _joined(db, table, item_id, truth.rows[name])
        hidden = truth.withheld and name not in ("items", "consents")
        flagged = await _flags(db, item_id) if flags and name == "transactions" else {}
        for record in records:
            row = truth.rows[name].get(record["row_id"])
            judge = _judge_hidden if hidden else _judge
            if (difference := judge(table, row, record, flagged)) is not None:
                found.append(difference)
    return found


def _judge(
    table: Mirrored,
    row: TrueRow | None,
    record: asyncpg.Record,
    flags: Mapping[uuid.UUID, str],
) -> Difference | None:
    row_id = str(record["row_id"])
    reason = flags.get(record["row_id"])
    if row is None:
        if record["tombstoned"] or reason in FLAGS:
            return None
        return Difference("extra", table.table, row_id, reason or "")
    if not record["held"]:
        return Difference("missing", table.table, row_id)
    if record["tombstoned"]:
        return Difference("tombstoned", table.table, row_id)
    if reason is not None:
        return Difference("flagged", table.table, row_id, reason)
    columns = [n for n, rule in table.columns.items() if record[f"held_{n}"] != rule(row, ZONE)]
    if not record["same_payload"]:
        columns.append("payload")
    return Difference("different", table.table, row_id, ", ".join(columns)) if columns else None


def _judge_hidden(
    table: Mirrored,
    row: TrueRow | None,
    record: asyncpg.Record,
    flags: Mapping[uuid.UUID, str],
) -> Difference | None:
    """Nothing can be read: what was known stays, and nothing that exists is deleted or flagged."""
    if row is not None and (record["tombstoned"] or record["row_id"] in flags):
        return Difference("destroyed", table.table, str(record["row_id"]))
    return None


async def _joined(
    db: Pool, table: Mirrored, item_id: str, true: Mapping[uuid.UUID, TrueRow]
) -> list[asyncpg.Record]:
    """A record for each row that is held or true. Postgres compares the payloads as jsonb."""
    columns = ", ".join(f"t.{column} AS held_{column}" for column in table.columns)
    return await db.fetch(
        # Names come from the constants of compare_columns.
        "SELECT coalesce(t.id, r.id) AS row_id, t.id IS NOT NULL AS held,"  # noqa: S608
        f" t.deleted_at IS NOT NULL AS tombstoned, {columns},"
        " t.payload = r.payload::jsonb - $4::text[] AS same_payload"
        f" FROM (SELECT * FROM pluggy.{table.table} WHERE {table.owner} = $1) AS t"
        " FULL JOIN unnest($2::uuid[], $3::text[]) AS r(id, payload) ON r.id = t.id",
        item_id,
        list(true),
        [row.text for row in true.values()],
        list(table.left_out),
    )


async def _flags(db: Pool, item_id: str) -> dict[uuid.UUID, str]:
    records = await db.fetch(
        "SELECT transaction_id, reason FROM pluggy_ops.flagged_deletions WHERE item_id = $1",
        item_id,
    )
    return {record["transaction_id"]: record["reason"] for record in records}


_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def _storable(row: TrueRow) -> TrueRow:
    """As Postgres can hold it: U+0000 and lone surrogates are U+FFFD in the mirror."""
    if "\\u" not in row.text:
        return row
    text = json.dumps(_clean(json.loads(row.text)))
    return replace(row, text=text, fields=_clean(row.fields))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    return value
