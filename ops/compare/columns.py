"""The expected value of each typed column of the mirror, by its name and type in the catalogue.

Nothing is taken from the worker's mapping: it is what the comparison judges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import asyncpg

from ops.compare.rules import Column, Kind, column_rule, posted_on, status

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

OURS: Final = {
    "item_id", "id", "payload", "row_hash", "row_version", "run_id", "first_seen_at", "changed_at",
    "deleted_at", "deletion_flagged_at", "deletion_flag", "deletion_refused_at", "deletion_cause",
    "missing_since", "missing_collected_at", "ended_at", "inner_item_id",
}  # fmt: skip
"""Columns that say where a row comes from and whether it is still there; Pluggy has none."""
LISTED_UNDER: Final = ""
PATHS: Final = {
    # Objects of Pluggy with other names than our prefixes have.
    "accounts.bank_transfer_number": "bankData.transferNumber",
    "accounts.bank_closing_balance": "bankData.closingBalance",
    "accounts.credit_level": "creditData.level",
    "accounts.credit_brand": "creditData.brand",
    "accounts.credit_status": "creditData.status",
    "accounts.credit_limit": "creditData.creditLimit",
    "accounts.credit_available_limit": "creditData.availableCreditLimit",
    "accounts.credit_minimum_payment": "creditData.minimumPayment",
    "accounts.credit_balance_close_date": "creditData.balanceCloseDate",
    "accounts.credit_balance_due_date": "creditData.balanceDueDate",
    "transactions.payment_method": "paymentData.paymentMethod",
    "transactions.installment_number": "creditCardMetadata.installmentNumber",
    "transactions.total_installments": "creditCardMetadata.totalInstallments",
    "transactions.bill_id": "creditCardMetadata.billId",
    "loans.outstanding_balance": "payments.contractOutstandingBalance",
    "loans.total_installments": "installments.totalNumberOfInstallments",
    "loans.paid_installments": "installments.paidInstallments",
    # Abbreviations that Pluggy writes in capitals.
    "loans.cet": "CET",
    "investments.issuer_cnpj": "issuerCNPJ",
    # Names that other tables have for the same thing, or that say more than Pluggy's.
    "transactions.order_in_day": "order",
    "bills.currency_code": "totalAmountCurrencyCode",
    "bills.closing_date": "billClosingDate",
    "consents.permissions": "openFinancePermissionsGranted",
    # The day of a transaction is computed from its time.
    "transactions.posted_on": "date",
    # The rows of this list do not name the investment that it was asked for by.
    "investment_transactions.investment_id": LISTED_UNDER,
}
KINDS: Final[Mapping[str, Kind]] = {
    "transactions.posted_on": posted_on,
    # POSTED where Pluggy says none.
    "transactions.status": status,
}
LEFT_OUT: Final = {"items": ("connector",)}
"""Keys that are not kept in the payload: the connector has a table of its own."""

COLUMNS: Final = """
SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'pluggy'::regnamespace AND c.relkind IN ('r', 'p')
    -- Connectors and categories are of no item: they are the same for all who ask.
    AND (c.relname = 'items' OR EXISTS (
        SELECT FROM pg_attribute i WHERE i.attrelid = c.oid AND i.attname = 'item_id'))
ORDER BY c.relname, a.attnum
"""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A table of schema pluggy and the rules of its columns.

    owner is the column with the item's id; left_out are keys of Pluggy's JSON that are not kept in
    the payload.
    """

    table: str
    owner: str
    left_out: tuple[str, ...] = ()
    columns: dict[str, Column] = field(default_factory=dict)

    def without(self, columns: Collection[str]) -> Mirrored:
        """The same table, some columns of which are not compared."""
        compared = {name: rule for name, rule in self.columns.items() if name not in columns}
        return replace(self, columns=compared)


async def load_tables(conn: Connection) -> dict[str, Mirrored]:
    """Tables of the mirror by name, which is also the entity's in the truth.

    Raises UnknownType, and asyncpg's errors.
    """
    tables: dict[str, Mirrored] = {}
    for name, column, type_ in await conn.fetch(COLUMNS):
        owner = "id" if name == "items" else "item_id"
        table = tables.setdefault(name, Mirrored(name, owner, LEFT_OUT.get(name, ())))
        if column not in OURS:
            place = f"{name}.{column}"
            table.columns[column] = column_rule(column, type_, PATHS.get(place), KINDS.get(place))
    return tables
