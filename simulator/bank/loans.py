"""Loans, drawn from a seed, and their repayment month by month."""

from random import Random
from typing import Any

from simulator.bank.history import new_id
from simulator.bank.people import cnpj
from simulator.bank.rows import money
from simulator.clock import DAY_MS, iso, without_zone


def loan(random: Random, *, item_id: str, now_ms: int) -> dict[str, Any]:
    today = now_ms // DAY_MS
    total = random.choice((12, 24, 36, 48))
    paid = random.randrange(1, total)
    amount = random.randrange(200_000, 9_000_000)
    signed = today - paid * 30 - 10
    return {
        "id": new_id(random),
        "itemId": item_id,
        "contractNumber": f"{random.randrange(10**14):015d}",
        "ipocCode": f"{random.getrandbits(128):041d}"[:41],
        "productName": random.choice(("Crédito Pessoal Consignado", "Financiamento de Veículo")),
        "type": "CREDITO_PESSOAL_COM_CONSIGNACAO",
        "kind": random.choice(("LOAN", "FINANCING")),
        "date": without_zone(today),
        "contractDate": without_zone(signed),
        "disbursementDates": [without_zone(signed + 2)[:10]],
        "settlementDate": None,
        "contractAmount": money(amount),
        "currencyCode": "BRL",
        "dueDate": without_zone(signed + total * 30),
        "installmentPeriodicity": "MONTHLY",
        "installmentPeriodicityAdditionalInfo": None,
        "firstInstallmentDueDate": without_zone(signed + 30),
        "CET": 0.29,
        "amortizationScheduled": "PRICE",
        "amortizationScheduledAdditionalInfo": None,
        "cnpjConsignee": cnpj(random),
        "interestRates": [
            {
                "taxType": "EFFECTIVE",
                "interestRateType": "COMPOUND",
                "taxPeriodicity": "MONTHLY",
                "calculation": "21/252",
                "referentialRateIndexerType": "PRE_FIXADO",
                "referentialRateIndexerSubType": None,
                "referentialRateIndexerAdditionalInfo": None,
                "preFixedRate": 0.0189,
                "postFixedRate": 0,
                "additionalInfo": None,
            }
        ],
        "contractedFees": [
            {
                "name": "Renovação de cadastro",
                "code": "CADASTRO",
                "chargeType": "UNIQUE",
                "charge": "FIXED",
                "amount": 59.9,
                "rate": None,
            }
        ],
        "contractedFinanceCharges": [
            {"type": "JUROS_REMUNERATORIOS_POR_ATRASO", "additionalInfo": None, "rate": 0.07}
        ],
        "warranties": [],
        "installments": {
            "typeNumberOfInstallments": "MONTH",
            "totalNumberOfInstallments": total,
            "typeContractRemaining": "MONTH",
            "contractRemainingNumber": total - paid,
            "paidInstallments": paid,
            "dueInstallments": total - paid,
            "pastDueInstallments": 0,
            "balloonPayments": [],
        },
        "payments": {
            "contractOutstandingBalance": money(amount * (total - paid) // total),
            "releases": [_release(random, today - 5, amount // total)],
        },
        "createdAt": iso(now_ms),
        "updatedAt": iso(now_ms),
    }


def _release(random: Random, day: int, cents: int) -> dict[str, Any]:
    return {
        "isOverParcelPayment": False,
        "installmentId": f"{random.getrandbits(96):024x}",
        "paidDate": without_zone(day),
        "currencyCode": "BRL",
        "paidAmount": money(cents),
        "overParcel": None,
    }


def pay(random: Random, stored: dict[str, Any], *, now_ms: int) -> dict[str, Any]:
    """The same loan after one more instalment."""
    installments = stored["installments"]
    paid = min(installments["paidInstallments"] + 1, installments["totalNumberOfInstallments"])
    left = installments["totalNumberOfInstallments"] - paid
    total = round(stored["contractAmount"] * 100)
    part = total // installments["totalNumberOfInstallments"]
    today = now_ms // DAY_MS
    return stored | {
        "date": without_zone(today),
        "installments": installments
        | {"paidInstallments": paid, "dueInstallments": left, "contractRemainingNumber": left},
        "payments": {
            "contractOutstandingBalance": money(part * left),
            "releases": [*stored["payments"]["releases"], _release(random, today, part)],
        },
        "updatedAt": iso(now_ms),
    }
