"""Transactions: the compact form that is stored (about 400 bytes), and the form Pluggy shows."""

from typing import TYPE_CHECKING, Any

import msgspec

from simulator.bank.boleto import boleto
from simulator.bank.categories import CATEGORIES
from simulator.bank.movements import Kind
from simulator.bank.people import Party
from simulator.clock import DAY_MS, iso, shared_iso
from simulator.faults.quirks import QUIRKS

if TYPE_CHECKING:
    from simulator.bank.accounts import Account


# What Pluggy shows as the month of a bill that it cannot tell.
_NO_MONTH = "0001-01"
_UNFORECAST_EVERY = 16


class Row(msgspec.Struct, gc=False):
    """One transaction. Amounts are integer cents in Pluggy's sign, times are milliseconds."""

    # gc=False keeps a million rows out of the collector: `Account.clear` breaks the cycle.
    id: str
    account: "Account"
    kind: Kind
    party: Party | None
    description: str
    category: str
    cents: int
    date: int
    created: int
    updated: int
    posted: bool
    order: int = 0
    provider_id: str | None = None
    mcc: int | None = None
    installment: int = 0
    installments: int = 0
    purchased: int = 0
    bill_id: str | None = None
    foreign: tuple[str, int] | None = None  # currency, cents in the account's currency
    balance: int | None = None
    real: str | None = None  # id of the first row of this movement, if a new connection copied it


def dice_of(row_id: str) -> int:
    """A number drawn from a row's id: it never changes, and no other row's depends on it."""
    return int(row_id[:8], 16)


def money(cents: int) -> int | float:
    """Cents as the JSON number that a JavaScript server prints: 10 and not 10.0."""
    whole, rest = divmod(cents, 100)
    return whole if rest == 0 else cents / 100


def _payment_data(row: Row) -> dict[str, Any] | None:
    method = row.kind.payment_method
    if method is None:
        return None
    owner = row.account.owner.participant
    other = row.party.participant if row.party else owner
    payer, receiver = (owner, other) if row.cents < 0 else (other, owner)
    return {
        "payer": payer,
        "receiver": receiver,
        "reason": None,
        "referenceNumber": row.id[:8],
        "receiverReferenceId": None,
        "paymentMethod": method,
        "authenticationCode": row.id[24:].upper(),
        "boletoMetadata": _boleto(row) if method == "BOLETO" else None,
    }


def _boleto(row: Row) -> dict[str, Any]:
    slip = boleto(int(row.id[:8], 16), cents=abs(row.cents), day=row.date // DAY_MS)
    return slip | {
        "baseAmount": money(abs(row.cents)),
        "interestAmount": 0,
        "penaltyAmount": 0,
        "discountAmount": 0,
    }


def _card_metadata(row: Row) -> dict[str, Any]:
    account = row.account
    metadata: dict[str, Any] = {"cardNumber": account.last_digits, "payeeMCC": row.mcc}
    if row.installments:
        metadata["installmentNumber"] = row.installment
        metadata["totalInstallments"] = row.installments
        metadata["purchaseDate"] = iso(row.purchased)
        if not account.open_finance:
            metadata["totalAmount"] = money(row.cents * row.installments)
    if row.kind.fee_type:
        metadata["feeType"] = row.kind.fee_type
    if account.open_finance:
        unknown = dice_of(row.id) % _UNFORECAST_EVERY == 0
        metadata["billForecastDate"] = _NO_MONTH if unknown else account.bill_month(row.date)
        metadata["paymentType"] = "INSTALLMENT" if row.installments else "SINGLE"
        metadata["billPostDate"] = iso(row.date)[:10] if row.bill_id else None
    metadata["billId"] = row.bill_id
    return metadata


def render(row: Row) -> dict[str, Any]:
    """The transaction as every endpoint returns it."""
    account = row.account
    is_card = account.type == "CREDIT"
    money_out = (row.cents > 0) == is_card
    foreign, category = row.foreign, _category(row)
    open_finance = account.open_finance
    shown = {
        "id": row.id,
        "description": row.description,
        "descriptionRaw": row.description,
        "currencyCode": foreign[0] if foreign else "BRL",
        "amount": money(row.cents),
        "amountInAccountCurrency": _converted(row),
        "date": iso(row.date),
        "category": CATEGORIES[category]["description"] if category else None,
        "categoryId": category,
        "balance": None if row.balance is None else money(row.balance),
        "accountId": account.id,
        "providerCode": None if open_finance else row.kind.code,
        "providerId": row.provider_id,
        "status": "POSTED" if row.posted else "PENDING",
        "paymentData": _payment_data(row),
        "type": "DEBIT" if money_out else "CREDIT",
        "operationType": row.kind.operation if open_finance else None,
        "operationTypeAdditionalInfo": None,
        "creditCardMetadata": _card_metadata(row) if is_card else None,
        "merchant": row.party.merchant if row.party else None,
        "order": row.order,
        "createdAt": shared_iso(row.created),
        "updatedAt": shared_iso(row.updated),
    }
    return _with_quirk(row, shown) if account.quirks else shown


def _category(row: Row) -> str | None:
    """None where Pluggy has none: on some rows, and on all without its premium feature."""
    return None if "categories" in row.account.without else row.category or None


def _converted(row: Row) -> int | float | None:
    if row.foreign is None or "conversions" in row.account.without:
        return None
    return money(row.foreign[1])


def _with_quirk(row: Row, shown: dict[str, Any]) -> dict[str, Any]:
    """Each row has at most one quirk, for good: it follows from the id."""
    number = dice_of(row.id)
    quirks = (*row.account.quirks, "")
    quirk = QUIRKS.get(quirks[number % len(quirks)])
    if quirk is not None:
        quirk(shown, number // len(quirks))
    return shown
