"""Accounts: a complete list by item; a tombstone includes the account's transactions and bills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.entities.declaration import Listing
from worker.pluggy_api.values import day, inner, moment, money, text
from worker.store.entities import accounts


def account_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.accounts from an account's JSON."""
    bank, credit = inner(fields, "bankData"), inner(fields, "creditData")
    return {
        "type": text(fields.get("type")),
        "subtype": text(fields.get("subtype")),
        "number": text(fields.get("number")),
        "name": text(fields.get("name")),
        "marketing_name": text(fields.get("marketingName")),
        "owner": text(fields.get("owner")),
        "tax_number": text(fields.get("taxNumber")),
        "currency_code": text(fields.get("currencyCode")),
        "balance": money(fields.get("balance")),
        "bank_transfer_number": text(bank.get("transferNumber")),
        "bank_closing_balance": money(bank.get("closingBalance")),
        "credit_level": text(credit.get("level")),
        "credit_brand": text(credit.get("brand")),
        "credit_limit": money(credit.get("creditLimit")),
        "credit_available_limit": money(credit.get("availableCreditLimit")),
        "credit_minimum_payment": money(credit.get("minimumPayment")),
        "credit_balance_close_date": day(credit.get("balanceCloseDate")),
        "credit_balance_due_date": day(credit.get("balanceDueDate")),
        "credit_status": text(credit.get("status")),
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


KNOWN_FIELDS: Final = """
    id itemId type=BANK|CREDIT subtype=CHECKING_ACCOUNT|SAVINGS_ACCOUNT|CREDIT_CARD number name
    marketingName balance taxNumber owner currencyCode createdAt updatedAt
    bankData{transferNumber closingBalance automaticallyInvestedBalance
        overdraftContractedLimit overdraftUsedLimit unarrangedOverdraftAmount hasReservedBalance
        reservedBalances{name identification amounts availableAmounts{amount currencyCode
            remuneration{preFixedRate postFixedIndexerPercentage rateType indexer calculation
                ratePeriodicity indexerAdditionalInfo}}}}
    creditData{level brand brandAdditionalInfo balanceCloseDate balanceDueDate
        availableCreditLimit balanceForeignCurrency minimumPayment creditLimit isLimitFlexible
        status=ACTIVE|BLOCKED|CANCELLED holderType=MAIN|ADDITIONAL
        disaggregatedCreditLimits{creditLineLimitType consolidationType identificationNumber
            isLimitFlexible usedAmount usedAmountCurrencyCode lineName lineNameAdditionalInfo
            limitAmount limitAmountCurrencyCode limitAmountReason customizedLimitAmount
            customizedLimitAmountCurrencyCode availableAmount availableAmountCurrencyCode}
        additionalCards{number}}
"""

# Without rechecks of an empty first list: the event that waits for them confirms them.
ENTITY: Final = Listing(
    product="accounts",
    order=1,
    known_fields=KNOWN_FIELDS,
    path="/accounts?itemId={owner}",
    row_path="/accounts/{id}",
    owner_key="itemId",
    absent="404:ACCOUNT_NOT_FOUND",
    status_keys=("accounts", "creditCards"),
    mapper=account_row,
    version=1,
    load_versions=accounts.load_accounts_versions,
    upsert=accounts.upsert_accounts,
    count_explained=accounts.count_balance_changes,
    load_live_ids=accounts.load_live_accounts_ids,
    tombstone=accounts.tombstone_accounts,
)
