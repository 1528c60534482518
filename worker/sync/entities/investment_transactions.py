"""Investment transactions: listed by investment, without a GET by id.

A row that a complete, non-empty list leaves out is doubted; a second such list buries it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.infra.postgres import Connection
from worker.infra.queries import QUERIES
from worker.lease.lease import Claim
from worker.lease.progress import defer_step, stamp_step
from worker.planner.steps import (
    ReadInvestmentTransactions,
)
from worker.pluggy_api.values import moment, money, text
from worker.sync.store_rows import Entity, Listed, read_rows, store_rows

PRODUCT: Final = "investment_transactions"
ASK_AGAIN_AFTER: Final = timedelta(minutes=5)
DOUBTED: Final = "doubted_rows"


def investment_transaction_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.investment_transactions; investment_id comes from the request."""
    return {
        "type": text(fields.get("type")),
        "movement_type": text(fields.get("movementType")),
        "quantity": money(fields.get("quantity")),
        "value": money(fields.get("value")),
        "amount": money(fields.get("amount")),
        "net_amount": money(fields.get("netAmount")),
        "date": moment(fields.get("date")),
        "trade_date": moment(fields.get("tradeDate")),
        "description": text(fields.get("description")),
        "brokerage_number": text(fields.get("brokerageNumber")),
    }


INVESTMENT_TRANSACTIONS: Final = Entity(
    product=PRODUCT, mapper=investment_transaction_row, version=1
)


async def sync_investment_transactions(claim: Claim, step: ReadInvestmentTransactions) -> None:
    """Read the movements of one investment. Raises PluggyError, FencedOff."""
    started_at = claim.now
    page = await claim.pluggy.investment_transactions(step.investment_id)
    rows, rejected = await read_rows(page, owner_key="investmentId", owner=step.investment_id)
    records = await claim.db.fetch(
        QUERIES["load_live_investment_transactions_ids"], claim.item_id, step.investment_id
    )
    held = {record["id"] for record in records}
    listed = Listed.of(rows, rejected).among(held)
    async with claim.page() as conn:
        if held and not page:
            await defer_step(conn, claim, PRODUCT, step.investment_id)
            return
        await store_rows(
            conn,
            claim,
            INVESTMENT_TRANSACTIONS,
            rows,
            rejected,
            account_id=step.investment_id,
            owner_columns={"investment_id": step.investment_id},
        )
        if await _doubt(conn, claim, step.investment_id, held - listed):
            await defer_step(
                conn, claim, PRODUCT, step.investment_id, reason=DOUBTED, pause=ASK_AGAIN_AFTER
            )
            return
        await stamp_step(
            conn,
            claim,
            PRODUCT,
            step.investment_id,
            started_at=started_at,
            source_updated_at=step.source_updated_at,
            fingerprint=step.fingerprint,
        )


async def _doubt(
    conn: Connection, claim: Claim, investment_id: uuid.UUID, missing: set[uuid.UUID]
) -> bool:
    """Bury what two lists have left out; returns whether one leaves out something new."""
    if not missing:
        return False
    records = await conn.fetch(
        QUERIES["doubt_investment_transactions"], claim.item_id, investment_id, sorted(missing)
    )
    proven = [record["id"] for record in records]
    buried = await conn.fetch(
        QUERIES["tombstone_investment_transactions"], claim.item_id, proven, claim.run
    )
    claim.counts.deleted += len(buried)
    return len(proven) < len(missing)
