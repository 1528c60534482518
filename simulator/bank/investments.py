"""Investments and their movements, drawn from a seed, and how they change over time."""

from random import Random
from typing import Any

from simulator.bank.history import new_id
from simulator.bank.people import Party, cnpj
from simulator.bank.rows import money
from simulator.clock import DAY_MS, iso

# Type, subtype, name, code, rate type.
_KINDS = (
    ("FIXED_INCOME", "CDB", "CDB1194KL0Z - BANCO MASTER S/A", "CDB1194KL0Z", "CDI"),
    ("FIXED_INCOME", "LCI", "LCI BANCO INTER", "LCI22070", "CDI"),
    ("FIXED_INCOME", "TREASURY", "TESOURO IPCA+ 2035", "BRSTNCNTB4O3", "IPCA"),
    ("MUTUAL_FUND", "MULTIMARKET_FUND", "Bahia AM Advisory FIC de FIM", "12.345.678/0001-00", None),
    ("MUTUAL_FUND", "FIXED_INCOME_FUND", "Trend DI FIC FI Simples", "33.499.011/0001-68", "CDI"),
    ("EQUITY", "STOCK", "PETROBRAS PN", "PETR4", None),
    ("EQUITY", "REAL_ESTATE_FUND", "CSHG LOGISTICA FII", "HGLG11", None),
    ("SECURITY", "RETIREMENT", "Pluggy PREVIDENCIA", "PREV01", None),
    ("ETF", "ETF", "ISHARES IBOVESPA", "BOVA11", None),
)


def investment(random: Random, *, item_id: str, owner: Party, now_ms: int) -> dict[str, Any]:
    kind, subtype, name, code, rate_type = random.choice(_KINDS)
    original = random.randrange(50_000, 5_000_000)
    quantity = random.randrange(1, 500)
    amount = original + original * random.randrange(-5, 30) // 100
    bought = now_ms // DAY_MS * DAY_MS - random.randrange(30, 900) * DAY_MS
    fixed = kind == "FIXED_INCOME"
    taxes = max(0, (amount - original) * 15 // 100)
    return {
        "id": new_id(random),
        "itemId": item_id,
        "type": kind,
        "subtype": subtype,
        "number": None,
        "name": name,
        "code": code,
        "isin": None,
        "balance": money(amount - taxes),
        "currencyCode": "BRL",
        "date": iso(now_ms // DAY_MS * DAY_MS),
        "owner": owner.name,
        "value": round(amount / quantity / 100, 4),
        "quantity": quantity,
        "amount": money(amount),
        "amountOriginal": money(original),
        "amountProfit": money(amount - original),
        "amountWithdrawal": money(amount - taxes),
        "taxes": money(taxes),
        "taxes2": 0,
        "lastMonthRate": None if fixed else 0.0039,
        "annualRate": None if fixed else 3.24,
        "lastTwelveMonthsRate": None if fixed else 3,
        "dueDate": iso(bought + 1800 * DAY_MS) if fixed else None,
        "issuer": "Banco Pluggy S/A" if fixed else None,
        "issuerCNPJ": cnpj(random) if fixed else None,
        "issueDate": iso(bought) if fixed else None,
        "purchaseDate": iso(bought) if fixed else None,
        "rate": random.randrange(90, 121) if rate_type else None,
        "rateType": rate_type,
        "fixedAnnualRate": 10.5 if rate_type == "IPCA" else None,
        "status": "ACTIVE",
        "institution": {"name": "BANCO PLUGGY S/A", "number": "30306294000145"},
        "metadata": None,
        "transactions": None,
        "createdAt": iso(now_ms),
        "updatedAt": iso(now_ms),
    }


def movement(
    random: Random, stored: dict[str, Any], *, now_ms: int, days_ago: int
) -> dict[str, Any]:
    """One movement of an investment; movements have neither updatedAt nor a GET by id."""
    kind = random.choice(("BUY", "BUY", "SELL", "INTEREST", "TAX"))
    quantity = random.randrange(1, 50)
    cents = random.randrange(1_000, 500_000)
    day = iso(now_ms // DAY_MS * DAY_MS - days_ago * DAY_MS)
    return {
        "id": new_id(random),
        "type": kind,
        "movementType": "CREDIT" if kind == "BUY" else "DEBIT",
        "quantity": quantity,
        "value": round(cents / quantity / 100, 4),
        "amount": money(cents),
        "netAmount": money(cents),
        "agreedRate": None,
        "indexerPercentage": None,
        "priceFactor": None,
        "date": day,
        "tradeDate": day,
        "description": f"{'Aplicação' if kind == 'BUY' else 'Movimento'} {stored['name']}",
        "brokerageNumber": None,
        "expenses": {"incomeTax": money(cents // 100), "iof": 0},
    }


def move_on(random: Random, stored: dict[str, Any], *, now_ms: int) -> dict[str, Any]:
    """The same investment after a day on the market."""
    amount = round(stored["amount"] * 100) + random.randrange(1, 50_000)
    original = round(stored["amountOriginal"] * 100)
    taxes = max(0, (amount - original) * 15 // 100)
    return stored | {
        "amount": money(amount),
        "balance": money(amount - taxes),
        "amountProfit": money(amount - original),
        "amountWithdrawal": money(amount - taxes),
        "taxes": money(taxes),
        "value": round(amount / stored["quantity"] / 100, 4),
        "date": iso(now_ms // DAY_MS * DAY_MS),
        "updatedAt": iso(now_ms),
    }
