"""The expected value of each typed column of the mirror, by table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ops.compare.rules import Rule, listed_under, rules


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A table of schema pluggy and the rules of its columns.

    owner is the column with the item's id; left_out are keys of Pluggy's JSON that are not kept in
    the payload.
    """

    table: str
    columns: Mapping[str, Rule]
    owner: str = "item_id"
    left_out: tuple[str, ...] = ()

    def without(self, columns: Collection[str]) -> Mirrored:
        """The same table, some columns of which are not compared."""
        compared = {name: rule for name, rule in self.columns.items() if name not in columns}
        return replace(self, columns=compared)


_TABLES: Final = (
    Mirrored(
        "items",
        rules(
            text=(
                "connector_name=connector.name status execution_status error_code=error.code "
                "client_user_id"
            ),
            whole="connector_id=connector.id",
            moment=(
                "source_created_at=createdAt source_updated_at=updatedAt last_updated_at "
                "next_auto_sync_at consent_expires_at"
            ),
            boolean=(
                "connector_is_open_finance=connector.isOpenFinance "
                "has_resources_pending_authorization=hasResourcesPendingAuthorization"
            ),
            texts="products",
        ),
        owner="id",
        left_out=("connector",),
    ),
    Mirrored(
        "accounts",
        rules(
            text=(
                "type subtype number name marketing_name owner tax_number currency_code "
                "bank_transfer_number=bankData.transferNumber credit_level=creditData.level "
                "credit_brand=creditData.brand credit_status=creditData.status"
            ),
            money=(
                "balance bank_closing_balance=bankData.closingBalance "
                "credit_limit=creditData.creditLimit "
                "credit_available_limit=creditData.availableCreditLimit "
                "credit_minimum_payment=creditData.minimumPayment"
            ),
            day=(
                "credit_balance_close_date=creditData.balanceCloseDate "
                "credit_balance_due_date=creditData.balanceDueDate"
            ),
            moment="source_created_at=createdAt source_updated_at=updatedAt",
        ),
    ),
    Mirrored(
        "transactions",
        rules(
            text=(
                "description description_raw currency_code type category category_id "
                "provider_code provider_id operation_type "
                "payment_method=paymentData.paymentMethod merchant_name=merchant.name"
            ),
            money="amount amount_in_account_currency balance",
            whole=(
                "installment_number=creditCardMetadata.installmentNumber "
                "total_installments=creditCardMetadata.totalInstallments order_in_day=order"
            ),
            moment="date source_created_at=createdAt source_updated_at=updatedAt",
            posted_on="posted_on=date",
            identifier="account_id bill_id=creditCardMetadata.billId",
            status="status",
        ),
    ),
    Mirrored(
        "investments",
        rules(
            text=(
                "type subtype name number code isin status currency_code rate_type issuer "
                "issuer_cnpj=issuerCNPJ owner institution_name=institution.name"
            ),
            money=(
                "balance amount amount_original amount_profit amount_withdrawal quantity value "
                "taxes taxes2 rate fixed_annual_rate last_month_rate annual_rate "
                "last_twelve_months_rate"
            ),
            day="due_date issue_date purchase_date",
            moment="date source_created_at=createdAt source_updated_at=updatedAt",
        ),
    ),
    Mirrored(
        "investment_transactions",
        {"investment_id": listed_under}
        | rules(
            text="type movement_type description brokerage_number",
            money="quantity value amount net_amount",
            moment="date trade_date",
        ),
    ),
    Mirrored(
        "loans",
        rules(
            text="contract_number ipoc_code product_name type kind currency_code",
            money=(
                "contract_amount outstanding_balance=payments.contractOutstandingBalance cet=CET"
            ),
            whole=(
                "total_installments=installments.totalNumberOfInstallments "
                "paid_installments=installments.paidInstallments"
            ),
            day="date contract_date settlement_date due_date first_installment_due_date",
            moment="source_created_at=createdAt source_updated_at=updatedAt",
        ),
    ),
    Mirrored(
        "identities",
        rules(
            text=(
                "full_name company_name document document_type tax_number job_title "
                "investor_profile"
            ),
            day="birth_date",
            moment="source_created_at=createdAt source_updated_at=updatedAt",
        ),
    ),
    Mirrored(
        "bills",
        rules(
            text="currency_code=totalAmountCurrencyCode",
            money="total_amount minimum_payment_amount",
            day="due_date closing_date=billClosingDate",
            moment="source_created_at=createdAt source_updated_at=updatedAt",
            identifier="account_id",
            boolean="allows_installments",
        ),
    ),
    Mirrored(
        "consents",
        rules(
            moment="expires_at revoked_at source_created_at=createdAt",
            texts="products permissions=openFinancePermissionsGranted",
        ),
    ),
)
MIRRORED: Final[Mapping[str, Mirrored]] = {mirrored.table: mirrored for mirrored in _TABLES}
"""By the entity's name in the truth; a new entity is one more entry of _TABLES."""
