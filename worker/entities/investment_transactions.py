"""Investment transactions: their columns; worker/sync/investment_transactions.py reads them."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Entity, Scope
from worker.pluggy_api.values import mapper
from worker.store.entities import investment_transactions

investment_transaction_row: Final = mapper(
    text="type movement_type description brokerage_number",
    money="quantity value amount net_amount",
    moment="date trade_date",
)
"""Columns of pluggy.investment_transactions; investment_id comes from the request."""


KNOWN_FIELDS: Final = """
    id investmentId type=BUY|SELL|TAX|TRANSFER|INTEREST|AMORTIZATION movementType=CREDIT|DEBIT
    description quantity value amount netAmount agreedRate indexerPercentage priceFactor date
    tradeDate brokerageNumber createdAt updatedAt
    expenses{serviceTax brokerageFee incomeTax tradingAssetsNoticeFee maintenanceFee
        settlementFee clearingFee stockExchangeFee custodyFee operatingFee other iof
        iofProvision}
"""

# An empty list is no reason to read again: they follow their investment.
ENTITY: Final = Entity(
    product="investment_transactions",
    order=5,
    known_fields=KNOWN_FIELDS,
    scope=Scope.INVESTMENT,
    path="/investments/{owner}/transactions",
    status_keys=("investmentsTransactions", "investmentTransactions"),
    mapper=investment_transaction_row,
    version=1,
    load_versions=investment_transactions.load_investment_transactions_versions,
    upsert=investment_transactions.upsert_investment_transactions,
    tombstone=investment_transactions.tombstone_owned_investment_transactions,
)
