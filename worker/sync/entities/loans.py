"""Loans: a complete list by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.pluggy_api.values import day, inner, integer, moment, money, text
from worker.store.entities import loans
from worker.sync.full_list import Listing
from worker.sync.store_rows import Entity


def loan_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.loans from a loan's JSON."""
    installments, payments = inner(fields, "installments"), inner(fields, "payments")
    return {
        "contract_number": text(fields.get("contractNumber")),
        "ipoc_code": text(fields.get("ipocCode")),
        "product_name": text(fields.get("productName")),
        "type": text(fields.get("type")),
        "kind": text(fields.get("kind")),
        "currency_code": text(fields.get("currencyCode")),
        "contract_amount": money(fields.get("contractAmount")),
        "outstanding_balance": money(payments.get("contractOutstandingBalance")),
        "cet": money(fields.get("CET")),
        "date": day(fields.get("date")),
        "contract_date": day(fields.get("contractDate")),
        "settlement_date": day(fields.get("settlementDate")),
        "due_date": day(fields.get("dueDate")),
        "first_installment_due_date": day(fields.get("firstInstallmentDueDate")),
        "total_installments": integer(installments.get("totalNumberOfInstallments")),
        "paid_installments": integer(installments.get("paidInstallments")),
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


LOANS: Final = Listing(
    entity=Entity(
        product="loans",
        mapper=loan_row,
        version=1,
        load_versions=loans.load_loans_versions,
        upsert=loans.upsert_loans,
    ),
    path="/loans",
    owner_key="itemId",
    absent="404:LOAN_NOT_FOUND",
    load_live_ids=loans.load_live_loans_ids,
    tombstone=loans.tombstone_loans,
)
