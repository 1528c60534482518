"""The judge: what became of every acknowledged event, and whether the mirror equals the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg

from ops.compare.columns import load_tables
from ops.compare.rows import compare
from ops.compare.truth import SimulatorTruth
from ops.demo.processes import ZONE
from tests.chaos.ledger import Account
from tests.chaos.stack import ChaosStack
from worker.infra.postgres import Pool

AT_ONCE: Final = 5000
STORED: Final = """
SELECT event_id, count(*) AS times, min(state) AS state, min(reason) AS reason
FROM pluggy_sync.webhook_events WHERE event_id = ANY($1) GROUP BY event_id
"""


@dataclass(slots=True)
class Verdict:
    """What was found: acknowledged events by their end, and everything that may not be."""

    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    stored_twice: list[str] = field(default_factory=list)
    rows_twice: int = 0
    mismatches: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def doubled(self) -> int:
        return len(self.stored_twice) + self.rows_twice


async def judge(stack: ChaosStack, account: Account) -> Verdict:
    """Look up every acknowledged event, and compare every row."""
    verdict = await judge_database(stack.db, account)
    async with stack.db.acquire() as conn:
        truth = SimulatorTruth(stack.pluggy.session, stack.pluggy.base_url)
        found = await compare(conn, truth, ZoneInfo(ZONE))
    verdict.mismatches = found.mismatches
    verdict.differences = list(map(str, found.shown))
    return verdict


async def judge_database(db: Pool, account: Account) -> Verdict:
    """Judge what needs no answer of Pluggy."""
    verdict = Verdict()
    ids = sorted(account.acknowledged)
    for start in range(0, len(ids), AT_ONCE):
        asked = ids[start : start + AT_ONCE]
        _judge_events(verdict, asked, await db.fetch(STORED, asked))
    verdict.rows_twice = await _rows_twice(db)
    return verdict


def _judge_events(
    verdict: Verdict, asked: Sequence[str], records: Iterable[asyncpg.Record]
) -> None:
    """Applied, ignored by name, or dead with a reason; once."""
    by_id = {record["event_id"]: record for record in records}
    for event_id in asked:
        record = by_id.get(event_id)
        if record is None:
            verdict.lost.append(event_id)
        elif record["times"] > 1:
            verdict.stored_twice.append(event_id)
        elif record["state"] == "applied":
            verdict.ends["applied"] += 1
        elif record["state"] in ("ignored", "dead") and record["reason"]:
            verdict.ends[f"{record['state']}: {record['reason']}"] += 1
        else:
            verdict.unsettled.append(event_id)


async def _rows_twice(db: Pool) -> int:
    """Rows that stand under two items: within one, the primary key sees to it."""
    async with db.acquire() as conn:
        tables = await load_tables(conn)
    return sum(
        [
            await db.fetchval(
                "SELECT count(*) FROM (SELECT id FROM"  # noqa: S608 - constants
                f" pluggy.{name} GROUP BY id HAVING count(*) > 1) AS twice"
            )
            for name in tables
        ]
    )
