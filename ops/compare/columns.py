"""The expected value of each typed column of the mirror, by table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ops.compare.rules import (
    Rule,
    boolean,
    day,
    identifier,
    listed_under,
    moment,
    money,
    posted_on,
    text,
    texts,
    whole,
)


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


ITEMS: Final = Mirrored(
    table="items",
    owner="id",
    left_out=("connector",),
    columns={
        "connector_id": whole("connector", "id"),
        "connector_name": text("connector", "name"),
        "connector_is_open_finance": boolean("connector", "isOpenFinance"),
        "status": text("status"),
        "execution_status": text("executionStatus"),
        "error_code": text("error", "code"),
        "client_user_id": text("clientUserId"),
        "products": texts("products"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
        "last_updated_at": moment("lastUpdatedAt"),
        "next_auto_sync_at": moment("nextAutoSyncAt"),
        "consent_expires_at": moment("consentExpiresAt"),
    },
)
ACCOUNTS: Final = Mirrored(
    table="accounts",
    columns={
        "type": text("type"),
        "subtype": text("subtype"),
        "number": text("number"),
        "name": text("name"),
        "marketing_name": text("marketingName"),
        "owner": text("owner"),
        "tax_number": text("taxNumber"),
        "currency_code": text("currencyCode"),
        "balance": money("balance"),
        "bank_transfer_number": text("bankData", "transferNumber"),
        "bank_closing_balance": money("bankData", "closingBalance"),
        "credit_level": text("creditData", "level"),
        "credit_brand": text("creditData", "brand"),
        "credit_limit": money("creditData", "creditLimit"),
        "credit_available_limit": money("creditData", "availableCreditLimit"),
        "credit_minimum_payment": money("creditData", "minimumPayment"),
        "credit_balance_close_date": day("creditData", "balanceCloseDate"),
        "credit_balance_due_date": day("creditData", "balanceDueDate"),
        "credit_status": text("creditData", "status"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
    },
)
TRANSACTIONS: Final = Mirrored(
    table="transactions",
    columns={
        "account_id": identifier("accountId"),
        "description": text("description"),
        "description_raw": text("descriptionRaw"),
        "currency_code": text("currencyCode"),
        "amount": money("amount"),
        "amount_in_account_currency": money("amountInAccountCurrency"),
        "date": moment("date"),
        "posted_on": posted_on("date"),
        "type": text("type"),
        "status": text("status", otherwise="POSTED"),
        "balance": money("balance"),
        "category": text("category"),
        "category_id": text("categoryId"),
        "provider_code": text("providerCode"),
        "provider_id": text("providerId"),
        "operation_type": text("operationType"),
        "payment_method": text("paymentData", "paymentMethod"),
        "merchant_name": text("merchant", "name"),
        "installment_number": whole("creditCardMetadata", "installmentNumber"),
        "total_installments": whole("creditCardMetadata", "totalInstallments"),
        "bill_id": identifier("creditCardMetadata", "billId"),
        "order_in_day": whole("order"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
    },
)

INVESTMENTS: Final = Mirrored(
    table="investments",
    columns={
        "type": text("type"),
        "subtype": text("subtype"),
        "name": text("name"),
        "number": text("number"),
        "code": text("code"),
        "isin": text("isin"),
        "status": text("status"),
        "currency_code": text("currencyCode"),
        "balance": money("balance"),
        "amount": money("amount"),
        "amount_original": money("amountOriginal"),
        "amount_profit": money("amountProfit"),
        "amount_withdrawal": money("amountWithdrawal"),
        "quantity": money("quantity"),
        "value": money("value"),
        "taxes": money("taxes"),
        "taxes2": money("taxes2"),
        "rate": money("rate"),
        "rate_type": text("rateType"),
        "fixed_annual_rate": money("fixedAnnualRate"),
        "last_month_rate": money("lastMonthRate"),
        "annual_rate": money("annualRate"),
        "last_twelve_months_rate": money("lastTwelveMonthsRate"),
        "issuer": text("issuer"),
        "issuer_cnpj": text("issuerCNPJ"),
        "owner": text("owner"),
        "institution_name": text("institution", "name"),
        "date": moment("date"),
        "due_date": day("dueDate"),
        "issue_date": day("issueDate"),
        "purchase_date": day("purchaseDate"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
    },
)
INVESTMENT_TRANSACTIONS: Final = Mirrored(
    table="investment_transactions",
    columns={
        "investment_id": listed_under(),
        "type": text("type"),
        "movement_type": text("movementType"),
        "quantity": money("quantity"),
        "value": money("value"),
        "amount": money("amount"),
        "net_amount": money("netAmount"),
        "date": moment("date"),
        "trade_date": moment("tradeDate"),
        "description": text("description"),
        "brokerage_number": text("brokerageNumber"),
    },
)
LOANS: Final = Mirrored(
    table="loans",
    columns={
        "contract_number": text("contractNumber"),
        "ipoc_code": text("ipocCode"),
        "product_name": text("productName"),
        "type": text("type"),
        "kind": text("kind"),
        "currency_code": text("currencyCode"),
        "contract_amount": money("contractAmount"),
        "outstanding_balance": money("payments", "contractOutstandingBalance"),
        "cet": money("CET"),
        "date": day("date"),
        "contract_date": day("contractDate"),
        "settlement_date": day("settlementDate"),
        "due_date": day("dueDate"),
        "first_installment_due_date": day("firstInstallmentDueDate"),
        "total_installments": whole("installments", "totalNumberOfInstallments"),
        "paid_installments": whole("installments", "paidInstallments"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
    },
)
IDENTITIES: Final = Mirrored(
    table="identities",
    columns={
        "full_name": text("fullName"),
        "company_name": text("companyName"),
        "document": text("document"),
        "document_type": text("documentType"),
        "tax_number": text("taxNumber"),
        "birth_date": day("birthDate"),
        "job_title": text("jobTitle"),
        "investor_profile": text("investorProfile"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
    },
)
BILLS: Final = Mirrored(
    table="bills",
    columns={
        "account_id": identifier("accountId"),
        "due_date": day("dueDate"),
        "closing_date": day("billClosingDate"),
        "total_amount": money("totalAmount"),
        "currency_code": text("totalAmountCurrencyCode"),
        "minimum_payment_amount": money("minimumPaymentAmount"),
        "allows_installments": boolean("allowsInstallments"),
        "source_created_at": moment("createdAt"),
        "source_updated_at": moment("updatedAt"),
    },
)
CONSENTS: Final = Mirrored(
    table="consents",
    columns={
        "products": texts("products"),
        "permissions": texts("openFinancePermissionsGranted"),
        "expires_at": moment("expiresAt"),
        "revoked_at": moment("revokedAt"),
        "source_created_at": moment("createdAt"),
    },
)

MIRRORED: Final[Mapping[str, Mirrored]] = {
    mirrored.table: mirrored
    for mirrored in (
        ITEMS,
        ACCOUNTS,
        TRANSACTIONS,
        INVESTMENTS,
        INVESTMENT_TRANSACTIONS,
        LOANS,
        IDENTITIES,
        BILLS,
        CONSENTS,
    )
}
"""By the entity's name in the truth; a new entity is one more entry here."""
