"""Bills: the closed bills of a credit card, a complete list by account."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Listing, Scope
from worker.pluggy_api.values import mapper
from worker.store.entities import bills

bill_row: Final = mapper(
    text="currency_code=totalAmountCurrencyCode",
    money="total_amount minimum_payment_amount",
    day="due_date closing_date=billClosingDate",
    boolean="allows_installments",
    moment="source_created_at=createdAt source_updated_at=updatedAt",
)
"""Columns of pluggy.bills from a bill's JSON."""


KNOWN_FIELDS: Final = """
    id accountId dueDate billClosingDate totalAmount totalAmountCurrencyCode
    minimumPaymentAmount allowsInstallments createdAt updatedAt
    financeCharges{id type=LATE_PAYMENT_REMUNERATIVE_INTEREST|LATE_PAYMENT_FEE
        |LATE_PAYMENT_INTEREST|IOF|OTHER amount currencyCode additionalInfo}
    payments{id valueType=INSTALLMENT_PAYMENT|FULL_PAYMENT|OTHER_PAYMENT paymentDate
        paymentMode=DEBIT_ACCOUNT|BANK_SLIP|PAYROLL_DEDUCTION|PIX amount currencyCode}
"""

ENTITY: Final = Listing(
    product="bills",
    order=3,
    known_fields=KNOWN_FIELDS,
    scope=Scope.CARD,
    path="/bills?accountId={owner}",
    row_path="/bills/{id}",
    owner_key="accountId",
    absent="404:CREDIT_CARD_BILL_NOT_FOUND",
    status_keys=("creditCards",),
    rechecks_first=True,
    collected_as="CREDIT_CARDS",
    mapper=bill_row,
    version=1,
    load_versions=bills.load_bills_versions,
    upsert=bills.upsert_bills,
    load_live=bills.load_live_bills,
    tombstone=bills.tombstone_bills,
)
