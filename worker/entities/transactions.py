"""Transactions: their columns; worker/sync/transactions.py reads and stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.entities.declaration import Entity, Scope
from worker.infra.parsing import parse_uuid
from worker.pluggy_api.values import (
    inner,
    integer,
    moment,
    money,
    posted_on,
    required,
    text,
)
from worker.store.entities import transactions


def transaction_row(fields: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.transactions from a transaction's JSON. Raises UnreadableRow."""
    card = inner(fields, "creditCardMetadata")
    date = required(moment(fields.get("date")), "date is no time")
    return {
        "account_id": required(parse_uuid(fields.get("accountId")), "accountId is no UUID"),
        "description": text(fields.get("description")),
        "description_raw": text(fields.get("descriptionRaw")),
        "currency_code": text(fields.get("currencyCode")),
        "amount": required(money(fields.get("amount")), "amount is no number"),
        "amount_in_account_currency": money(fields.get("amountInAccountCurrency")),
        "date": date,
        "posted_on": posted_on(fields.get("date"), zone),
        "type": text(fields.get("type")),
        # Absent means POSTED; https://docs.pluggy.ai/reference/transactions-list
        "status": text(fields.get("status")) or "POSTED",
        "balance": money(fields.get("balance")),
        "category": text(fields.get("category")),
        "category_id": text(fields.get("categoryId")),
        "provider_code": text(fields.get("providerCode")),
        "provider_id": text(fields.get("providerId")),
        "operation_type": text(fields.get("operationType")),
        "payment_method": text(inner(fields, "paymentData").get("paymentMethod")),
        "merchant_name": text(inner(fields, "merchant").get("name")),
        "installment_number": integer(card.get("installmentNumber")),
        "total_installments": integer(card.get("totalInstallments")),
        "bill_id": parse_uuid(card.get("billId")),
        "order_in_day": integer(fields.get("order")),
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


MAPPED_FIELDS: Final = """
    accountId description descriptionRaw currencyCode amount amountInAccountCurrency date type
    status balance category categoryId providerCode providerId operationType order createdAt
    updatedAt paymentData{paymentMethod} merchant{name}
    creditCardMetadata{installmentNumber totalInstallments billId}
"""
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
    mapped_fields=MAPPED_FIELDS,
)
