"""Investments: a complete list by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.entities.declaration import Listing
from worker.pluggy_api.values import day, inner, moment, money, text
from worker.store.entities import investments


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


KNOWN_FIELDS: Final = """
    id itemId type=COE|EQUITY|ETF|FIXED_INCOME|MUTUAL_FUND|SECURITY|OTHER
    subtype=STRUCTURED_NOTE|STOCK|ETF|REAL_ESTATE_FUND|BDR|DERIVATIVES|OPTION|TREASURY|LCI|LCA
    |LF|CDB|CRI|CRA|CORPORATE_DEBT|LC|DEBENTURES|INVESTMENT_FUND|MULTIMARKET_FUND
    |FIXED_INCOME_FUND|STOCK_FUND|ETF_FUND|OFFSHORE_FUND|FIP_FUND|EXCHANGE_FUND|FI_INFRA|FI_AGRO
    |RETIREMENT|OTHER
    status=ACTIVE|PENDING|TOTAL_WITHDRAWAL number name code isin balance value quantity amount
    amountProfit amountWithdrawal amountOriginal taxes taxes2 currencyCode date owner dueDate
    issueDate purchaseDate gracePeriodDate issuer issuerCNPJ rate rateType ratePeriodicity
    fixedAnnualRate lastMonthRate lastTwelveMonthsRate annualRate taxExempt
    indexerAdditionalInfo priceFactor debtor{name} providerId createdAt updatedAt transactions
    couponPayment{hasCoupon periodicity additionalInfo} institution{name number}
    metadata{taxRegime proposalNumber processNumber fundName insurer{name cnpj} anbimaClass
        anbimaSubclass anbimaCategory}
"""

ENTITY: Final = Listing(
    product="investments",
    order=4,
    known_fields=KNOWN_FIELDS,
    path="/investments?itemId={owner}",
    row_path="/investments/{id}",
    owner_key="itemId",
    absent="404:INVESTMENT_NOT_FOUND",
    status_keys=("investments",),
    rechecks_first=True,
    collected_as="INVESTMENTS",
    mapper=investment_row,
    version=1,
    load_versions=investments.load_investments_versions,
    upsert=investments.upsert_investments,
    load_live_ids=investments.load_live_investments_ids,
    tombstone=investments.tombstone_investments,
)
