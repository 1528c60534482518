"""Investments: a complete list by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.pluggy_api.values import day, inner, moment, money, text
from worker.store.entities import investments
from worker.sync.full_list import Listing
from worker.sync.store_rows import Entity


def investment_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.investments from an investment's JSON."""
    return {
        "type": text(fields.get("type")),
        "subtype": text(fields.get("subtype")),
        "name": text(fields.get("name")),
        "number": text(fields.get("number")),
        "code": text(fields.get("code")),
        "isin": text(fields.get("isin")),
        "status": text(fields.get("status")),
        "currency_code": text(fields.get("currencyCode")),
        "balance": money(fields.get("balance")),
        "amount": money(fields.get("amount")),
        "amount_original": money(fields.get("amountOriginal")),
        "amount_profit": money(fields.get("amountProfit")),
        "amount_withdrawal": money(fields.get("amountWithdrawal")),
        "quantity": money(fields.get("quantity")),
        "value": money(fields.get("value")),
        "taxes": money(fields.get("taxes")),
        "taxes2": money(fields.get("taxes2")),
        "rate": money(fields.get("rate")),
        "rate_type": text(fields.get("rateType")),
        "fixed_annual_rate": money(fields.get("fixedAnnualRate")),
        "last_month_rate": money(fields.get("lastMonthRate")),
        "annual_rate": money(fields.get("annualRate")),
        "last_twelve_months_rate": money(fields.get("lastTwelveMonthsRate")),
        "issuer": text(fields.get("issuer")),
        "issuer_cnpj": text(fields.get("issuerCNPJ")),
        "owner": text(fields.get("owner")),
        "institution_name": text(inner(fields, "institution").get("name")),
        "date": moment(fields.get("date")),
        "due_date": day(fields.get("dueDate")),
        "issue_date": day(fields.get("issueDate")),
        "purchase_date": day(fields.get("purchaseDate")),
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


INVESTMENTS: Final = Listing(
    entity=Entity(
        product="investments",
        mapper=investment_row,
        version=1,
        load_versions=investments.load_investments_versions,
        upsert=investments.upsert_investments,
    ),
    path="/investments",
    owner_key="itemId",
    absent="404:INVESTMENT_NOT_FOUND",
    load_live_ids=investments.load_live_investments_ids,
    tombstone=investments.tombstone_investments,
)
