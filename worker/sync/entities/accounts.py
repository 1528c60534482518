"""Accounts: a complete list by item; a tombstone includes the account's transactions and bills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.pluggy_api.values import day, inner, moment, money, text
from worker.store.entities import accounts
from worker.sync.full_list import Listing
from worker.sync.store_rows import Entity


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


ACCOUNTS: Final = Listing(
    entity=Entity(
        product="accounts",
        mapper=account_row,
        version=1,
        load_versions=accounts.load_accounts_versions,
        upsert=accounts.upsert_accounts,
    ),
    path="/accounts",
    owner_key="itemId",
    absent="404:ACCOUNT_NOT_FOUND",
    load_live_ids=accounts.load_live_accounts_ids,
    tombstone=accounts.tombstone_accounts,
)
