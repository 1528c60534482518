"""Investments: a complete list by item."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Listing
from worker.pluggy_api.values import mapper
from worker.store.entities import investments

investment_row: Final = mapper(
    text=(
        "type subtype name number code isin status currency_code rate_type issuer "
        "issuer_cnpj=issuerCNPJ owner institution_name=institution.name"
    ),
    money=(
        "balance amount amount_original amount_profit amount_withdrawal quantity value taxes "
        "taxes2 rate fixed_annual_rate last_month_rate annual_rate last_twelve_months_rate"
    ),
    day="due_date issue_date purchase_date",
    moment="date source_created_at=createdAt source_updated_at=updatedAt",
)
"""Columns of pluggy.investments from an investment's JSON."""


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
    load_live=investments.load_live_investments,
    tombstone=investments.tombstone_investments,
)
