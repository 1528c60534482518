"""Loans: a complete list by item."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Listing
from worker.pluggy_api.values import mapper
from worker.store.entities import loans

loan_row: Final = mapper(
    text="contract_number ipoc_code product_name type kind currency_code",
    money="contract_amount outstanding_balance=payments.contractOutstandingBalance cet=CET",
    integer=(
        "total_installments=installments.totalNumberOfInstallments "
        "paid_installments=installments.paidInstallments"
    ),
    day="date contract_date settlement_date due_date first_installment_due_date",
    moment="source_created_at=createdAt source_updated_at=updatedAt",
)
"""Columns of pluggy.loans from a loan's JSON."""


KNOWN_FIELDS: Final = """
    id itemId contractNumber ipocCode productName type providerId createdAt updatedAt
    kind=LOAN|FINANCING|INVOICE_FINANCING|UNARRANGED_ACCOUNT_OVERDRAFT date contractDate
    disbursementDates settlementDate contractAmount currencyCode dueDate
    installmentPeriodicity=WITHOUT_REGULAR_PERIODICITY|WEEKLY|FORTNIGHTLY|MONTHLY|BIMONTHLY
    |QUARTERLY|SEMESTERLY|YEARLY|OTHERS
    installmentPeriodicityAdditionalInfo firstInstallmentDueDate CET
    amortizationScheduled=SAC|PRICE|SAM|WITHOUT_AMORTIZATION_SYSTEM|OTHERS
    amortizationScheduledAdditionalInfo cnpjConsignee
    interestRates{taxType=NOMINAL|EFFECTIVE|EFETIVA
        interestRateType=SIMPLE|COMPOUND|SIMPLES|COMPOSTO
        taxPeriodicity=MONTHLY|YEARLY|AM|AA calculation referentialRateIndexerType
        referentialRateIndexerSubType referentialRateIndexerAdditionalInfo preFixedRate
        postFixedRate additionalInfo}
    contractedFees{name code chargeType=UNIQUE|BY_INSTALLMENT|UNICA|POR_PARCELA
        charge=MINIMUM|MAXIMUM|FIXED|PERCENTAGE|MINIMO|MAXIMO|FIXO|PERCENTUAL amount rate}
    contractedFinanceCharges{type additionalInfo rate chargeAdditionalInfo chargeRate}
    warranties{currencyCode type subtype amount}
    installments{typeNumberOfInstallments=DAY|WEEK|MONTH|YEAR|WITHOUT_TOTAL_PERIOD
        |DIA|SEMANA|MES|ANO|SEM_PRAZO_TOTAL totalNumberOfInstallments
        typeContractRemaining=DAY|WEEK|MONTH|YEAR|WITHOUT_TOTAL_PERIOD|WITHOUT_REMAINING_PERIOD
        |DIA|SEMANA|MES|ANO|SEM_PRAZO_TOTAL|SEM_PRAZO_REMANESCENTE
        contractRemainingNumber paidInstallments dueInstallments pastDueInstallments
        balloonPayments{dueDate amount{value currencyCode}}}
    payments{contractOutstandingBalance releases{isOverParcelPayment installmentId paidDate
        currencyCode paidAmount overParcel{fees{name code amount}
            charges{type additionalInfo amount}}}}
"""

ENTITY: Final = Listing(
    product="loans",
    order=6,
    known_fields=KNOWN_FIELDS,
    path="/loans?itemId={owner}",
    row_path="/loans/{id}",
    owner_key="itemId",
    absent="404:LOAN_NOT_FOUND",
    status_keys=("loans",),
    rechecks_first=True,
    collected_as="LOANS",
    mapper=loan_row,
    version=1,
    load_versions=loans.load_loans_versions,
    upsert=loans.upsert_loans,
    load_live=loans.load_live_loans,
    tombstone=loans.tombstone_loans,
)
