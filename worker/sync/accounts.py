"""Accounts: a complete list by item; what is missing is asked for by id before it is buried."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from worker.claim import Claim
from worker.failures import PluggyNotFound
from worker.held import NO_ACCOUNT
from worker.plan import ReadAccounts
from worker.queries import QUERIES
from worker.row_values import day, inner, moment, money, text
from worker.sync.rows import Entity, Row, read_rows, store_rows

ABSENT: Final = "404:ACCOUNT_NOT_FOUND"
WITNESSES: Final = 3


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


ACCOUNTS: Final = Entity(
    product="accounts",
    mapper=account_row,
    version=1,
    load_versions="load_account_versions",
    upsert="upsert_accounts",
)


async def sync_accounts(claim: Claim, step: ReadAccounts) -> None:
    """Read the list and store it; bury what a 404 proves absent. Raises PluggyError, FencedOff.

    An empty list where we hold live accounts is no answer (consent revoked, bank down: lists are
    empty with 200) unless one of them, asked for by id, comes back.
    """
    started_at = claim.now
    page = await claim.pluggy.accounts(claim.item_id)
    rows, rejected = read_rows(page.rows, owner_key="itemId", owner=claim.item_id)
    held = await _live_account_ids(claim)
    missing = held - {row.id for row in rows}
    suspicious = not rows and bool(held)
    absent, returned = await _ask_accounts(claim, missing, for_witness=suspicious)
    async with claim.page() as conn:
        if suspicious and not returned:
            await conn.execute(
                QUERIES["defer_step"],
                claim.item_id,
                "accounts",
                NO_ACCOUNT,
                "empty_answer",
                None,
            )
            return
        await store_rows(conn, claim, ACCOUNTS, [*rows, *returned], rejected)
        for account_id in absent:
            claim.counts.deleted += await conn.fetchval(
                QUERIES["tombstone_account"], claim.item_id, account_id, claim.run
            )
        await conn.execute(
            QUERIES["stamp_step"],
            claim.item_id,
            "accounts",
            NO_ACCOUNT,
            started_at,
            step.source_updated_at,
            None,
            None,
        )


async def _live_account_ids(claim: Claim) -> set[uuid.UUID]:
    records = await claim.db.fetch(QUERIES["load_live_account_ids"], claim.item_id)
    return {record["id"] for record in records}


async def _ask_accounts(
    claim: Claim, account_ids: set[uuid.UUID], *, for_witness: bool
) -> tuple[list[uuid.UUID], list[Row]]:
    """Ask for accounts by id; after an empty list, for as many as are needed to find a witness."""
    absent: list[uuid.UUID] = []
    returned: list[Row] = []
    for account_id in sorted(account_ids):
        if for_witness and not returned and len(absent) >= WITNESSES:
            break
        try:
            body = await claim.pluggy.account(account_id)
        except PluggyNotFound as answer:
            if answer.code != ABSENT:
                raise
            absent.append(account_id)
            continue
        found, _ = read_rows([msgspec.Raw(body)], owner_key="itemId", owner=claim.item_id)
        returned += found
    return absent, returned
