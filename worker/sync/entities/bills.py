"""Bills: the closed bills of a credit card, a complete list by account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.pluggy_api.values import day, moment, money, text
from worker.store.entities import bills
from worker.sync.full_list import Listing
from worker.sync.store_rows import Entity


def bill_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.bills from a bill's JSON."""
    allows = fields.get("allowsInstallments")
    return {
        "due_date": day(fields.get("dueDate")),
        "closing_date": day(fields.get("billClosingDate")),
        "total_amount": money(fields.get("totalAmount")),
        "currency_code": text(fields.get("totalAmountCurrencyCode")),
        "minimum_payment_amount": money(fields.get("minimumPaymentAmount")),
        "allows_installments": allows if isinstance(allows, bool) else None,
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


BILLS: Final = Listing(
    entity=Entity(
        product="bills",
        mapper=bill_row,
        version=1,
        load_versions=bills.load_bills_versions,
        upsert=bills.upsert_bills,
    ),
    path="/bills",
    owner_key="accountId",
    absent="404:CREDIT_CARD_BILL_NOT_FOUND",
    load_live_ids=bills.load_live_bills_ids,
    tombstone=bills.tombstone_bills,
)
