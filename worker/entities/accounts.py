"""Accounts: a complete list by item; a tombstone includes the account's transactions and bills."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Listing
from worker.pluggy_api.values import mapper
from worker.store.entities import accounts

account_row: Final = mapper(
    text=(
        "type subtype number name marketing_name owner tax_number currency_code "
        "bank_transfer_number=bankData.transferNumber credit_level=creditData.level "
        "credit_brand=creditData.brand credit_status=creditData.status"
    ),
    money=(
        "balance bank_closing_balance=bankData.closingBalance credit_limit=creditData.creditLimit "
        "credit_available_limit=creditData.availableCreditLimit "
        "credit_minimum_payment=creditData.minimumPayment"
    ),
    day=(
        "credit_balance_close_date=creditData.balanceCloseDate "
        "credit_balance_due_date=creditData.balanceDueDate"
    ),
    moment="source_created_at=createdAt source_updated_at=updatedAt",
)
"""Columns of pluggy.accounts from an account's JSON."""


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
    load_live=accounts.load_live_accounts,
    tombstone=accounts.tombstone_accounts,
)
