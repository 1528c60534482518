"""Transactions: their columns; worker/sync/transactions.py reads and stores them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.entities.declaration import Entity, Scope
from worker.pluggy_api.values import (
    Fields,
    fields_of,
    integer,
    moment,
    money,
    posted_on,
    required,
)
from worker.store.entities import transactions


class Payment(Fields):
    """paymentData."""

    payment_method: str | None = None


class Merchant(Fields):
    """merchant."""

    name: str | None = None


class Card(Fields):
    """creditCardMetadata."""

    installment_number: Any = None
    total_installments: Any = None
    bill_id: uuid.UUID | None = None


class Transaction(Fields):
    """A transaction, as far as it has columns."""

    account_id: uuid.UUID | None = None
    description: str | None = None
    description_raw: str | None = None
    currency_code: str | None = None
    amount: Any = None
    amount_in_account_currency: Any = None
    date: Any = None
    type: str | None = None
    status: str | None = None
    balance: Any = None
    category: str | None = None
    category_id: str | None = None
    provider_code: str | None = None
    provider_id: str | None = None
    operation_type: str | None = None
    payment_data: Payment | None = None
    merchant: Merchant | None = None
    credit_card_metadata: Card | None = None
    order: Any = None
    created_at: Any = None
    updated_at: Any = None


def transaction_row(fields: Mapping[str, Any] | Transaction, zone: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.transactions from a transaction's JSON. Raises UnreadableRow."""
    row = fields if isinstance(fields, Transaction) else fields_of(Transaction, fields)
    card, date = row.credit_card_metadata or NO_CARD, required(moment(row.date), "date is no time")
    return {
        "account_id": required(row.account_id, "accountId is no UUID"),
        "description": row.description,
        "description_raw": row.description_raw,
        "currency_code": row.currency_code,
        "amount": required(money(row.amount), "amount is no number"),
        "amount_in_account_currency": money(row.amount_in_account_currency),
        "date": date,
        "posted_on": posted_on(row.date, zone, date),
        "type": row.type,
        # Absent means POSTED; https://docs.pluggy.ai/reference/transactions-list
        "status": row.status or "POSTED",
        "balance": money(row.balance),
        "category": row.category,
        "category_id": row.category_id,
        "provider_code": row.provider_code,
        "provider_id": row.provider_id,
        "operation_type": row.operation_type,
        "payment_method": row.payment_data and row.payment_data.payment_method,
        "merchant_name": row.merchant and row.merchant.name,
        "installment_number": integer(card.installment_number),
        "total_installments": integer(card.total_installments),
        "bill_id": card.bill_id,
        "order_in_day": integer(row.order),
        "source_created_at": moment(row.created_at),
        "source_updated_at": moment(row.updated_at),
    }


NO_CARD: Final = Card()
PARTY: Final = (
    "{name accountNumber branchNumber routingNumber routingNumberISPB"
    " documentNumber{type=CPF|CNPJ value}}"
)
KNOWN_FIELDS: Final = f"""
    id accountId description descriptionRaw currencyCode amount amountInAccountCurrency date
    type=DEBIT|CREDIT status=POSTED|PENDING balance category categoryId providerCode providerId
    operationType operationTypeAdditionalInfo order createdAt updatedAt
    paymentData{{payer{PARTY} receiver{PARTY} reason referenceNumber receiverReferenceId
        paymentMethod authenticationCode
        boletoMetadata{{digitableLine barcode baseAmount interestAmount penaltyAmount
            discountAmount}}}}
    creditCardMetadata{{installmentNumber totalInstallments totalAmount payeeMCC purchaseDate
        billId cardNumber
        feeType=ANNUAL_FEE|ATM_WITHDRAWAL_DOMESTIC|ATM_WITHDRAWAL_INTERNATIONAL
        |EMERGENCY_CREDIT_EVALUATION|CARD_REISSUE|BILL_PAYMENT_FEE|SMS|OTHER
        feeTypeAdditionalInfo otherCreditsType=REVOLVING_CREDIT|BILL_INSTALLMENT|LOAN|OTHER
        otherCreditsAdditionalInfo billForecastDate billPostDate transactionDateTime
        paymentType=SINGLE|INSTALLMENT}}
    merchant{{name businessName cnpj cnae category}}
"""

ENTITY: Final = Entity(
    product="transactions",
    order=2,
    known_fields=KNOWN_FIELDS,
    scope=Scope.ACCOUNT,
    path="/v2/transactions?accountId={owner}",
    status_keys=("transactions",),
    rechecks_first=True,
    collected_as="TRANSACTIONS",
    mapper=transaction_row,
    version=1,
    load_versions=transactions.load_transactions_versions,
    upsert=transactions.upsert_transactions,
    tombstone=transactions.tombstone_owned_transactions,
    fields=Transaction,
    load_hashes=transactions.load_transactions_hashes,
)
