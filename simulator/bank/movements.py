"""Kinds of movement on Brazilian accounts, with merchants and usual amounts."""

from random import Random
from typing import NamedTuple

from simulator.bank.people import Party, firm, person

# How an institution reports the time of a movement, other than midnight in UTC.
BRAZIL_MIDNIGHT, EXACT = "brazil_midnight", "exact"


class Kind(NamedTuple):
    """One kind of movement. `sign` is the holder's view: -1 is money out."""

    code: str
    text: str
    category: str
    sign: int
    cents: tuple[int, int]
    times: str
    weight: int
    operation: str
    payment_method: str | None
    party: str | None
    fee_type: str | None


# code | text | category (empty: the merchant's) | sign | cents from-to | times | weight |
# operationType | paymentMethod | other side | feeType
_CHECKING = """
pix_out|PIX ENVIADO|05070000|-1|500-150000|exact|30|PIX|PIX|person|
pix_in|PIX RECEBIDO|05070000|1|500-200000|exact|22|PIX|PIX|person|
pix_shop|PIX QR CODE|08000000|-1|300-60000|exact|10|PIX|PIX|firm|
ted_out|TED ENVIADA|05080000|-1|20000-900000|midnight|3|TED|TED|person|
ted_in|TED RECEBIDA|05080000|1|20000-900000|midnight|3|TED|TED|person|
boleto|PAGAMENTO DE BOLETO|05010000|-1|4000-180000|midnight|8|BOLETO|BOLETO|firm|
debit|COMPRA CARTAO DEBITO||-1|400-40000|brazil_midnight|14|CARTAO||firm|
salary|SALARIO|01010000|1|250000-1800000|midnight|2|FOLHA_PAGAMENTO||firm|
power|DEB AUT ENEL ENERGIA|17020002|-1|8000-60000|midnight|1|OUTROS|||
water|DEB AUT SABESP|17020001|-1|4000-25000|midnight|1|OUTROS|||
phone|DEB AUT VIVO MOVEL|07010002|-1|4990-19990|midnight|1|OUTROS|||
fee|TARIFA PACOTE DE SERVICOS|16010000|-1|1990-6990|midnight|1|TARIFA|||
cash|SAQUE 24H|05020000|-1|2000-100000|brazil_midnight|2|SAQUE|||
own|TRANSF MESMA TITULARIDADE|04000000|-1|10000-500000|exact|2|PIX|PIX|owner|
own_in|TRANSF MESMA TITULARIDADE RECEBIDA|04000000|1|10000-500000|exact|2|PIX|PIX|owner|
bill_paid|PAGAMENTO FATURA CARTAO|05100000|-1|0-0|midnight|0|OUTROS|||
"""
_SAVINGS = """
yield|RENDIMENTOS|03060000|1|10-9000|midnight|6|RENDIMENTO_APLIC_FINANCEIRA|||
saved|APLICACAO POUPANCA|04000000|1|5000-300000|midnight|3|DEPOSITO||owner|
redeemed|RESGATE POUPANCA|04000000|-1|5000-200000|midnight|3|OUTROS||owner|
"""
# The last one Pluggy writes itself, from the bill, when the bank reports no payment.
_CARD = """
purchase|||-1|590-60000|exact|84|PAGAMENTO||firm|
booked|||-1|590-90000|midnight|10|PAGAMENTO||firm|
abroad|||-1|300-30000|exact|4|PAGAMENTO||foreign|
refund|ESTORNO||1|590-30000|midnight|2|ESTORNO||firm|
annual_fee|ANUIDADE DIFERENCIADA|16030000|-1|990-4990|midnight|1|TARIFA|||ANNUAL_FEE
payment|Pagamento recebido|05100000|1|0-0|midnight|0|PAGAMENTO_FATURA|||
"""


def _kinds(table: str) -> dict[str, Kind]:
    kinds = map(_kind, table.strip().splitlines())
    return {kind.code: kind for kind in kinds}


def _kind(line: str) -> Kind:
    code, text, category, sign, cents, times, weight, operation, *others = line.split("|")
    low, high = map(int, cents.split("-"))
    named = (other or None for other in others)
    return Kind(code, text, category, int(sign), (low, high), times, int(weight), operation, *named)


KINDS = {
    "CHECKING_ACCOUNT": _kinds(_CHECKING),
    "SAVINGS_ACCOUNT": _kinds(_SAVINGS),
    "CREDIT_CARD": _kinds(_CARD),
}
CARD_PAID_FROM_BANK = KINDS["CHECKING_ACCOUNT"]["bill_paid"]
BILL_PAYMENT = KINDS["CREDIT_CARD"]["payment"]

# Name, category, merchant category code.
_FIRMS = """
Carrefour|10000000|5411;Pão de Açúcar|10000000|5411;Assaí Atacadista|10000000|5300
Extra|10000000|5411;iFood|11020000|5812;Rappi|11020000|5812;Padaria São José|11010000|5462
Outback|11010000|5812;Starbucks|11010000|5814;Habib's|11010000|5814;Uber|19010000|4121
99 Tecnologia|19010000|4121;Posto Ipiranga|19050001|5541;Posto Shell|19050001|5541
Estapar|19050002|7523;Sem Parar|19050003|4784;Amazon BR|08010000|5942
Mercado Livre|08010000|5999;Magazine Luiza|08020000|5732;Americanas|08010000|5311
Renner|08040000|5651;Riachuelo|08040000|5651;C&A|08040000|5651;Petz|08030000|5995
Drogasil|18020000|5912;Droga Raia|18020000|5912;Fleury|18040000|8071
Hospital Sírio-Libanês|18040000|8062;Netflix|09020000|4899;Spotify|09030000|4899
Steam|09010000|5816;Claro|07010002|4814;Smart Fit|07030001|7997;Cinemark|07040003|7832
Gol Linhas Aéreas|12010000|4511;LATAM|12010000|4511;Airbnb|12020000|7011
Leroy Merlin|17030000|5200;Kalunga|08080000|5943;Decathlon|08070000|5941
Colégio Objetivo|07020003|8211;Estácio|07020002|8220;Porto Seguro|200400000|6300
Livraria Cultura|08060000|5942
"""
_FOREIGN = """
DROPBOX INC|09000000|5734;FIGMA *MONTHLY|09000000|5734;AMZN MKTP US|08010000|5942
BOOKING.COM|12020000|7011;HOTEL LISBOA|12020000|7011;APPLE.COM/BILL|09000000|5818
"""


class Merchant(NamedTuple):
    party: Party
    category: str
    mcc: int


class Society:
    """All counterparties of accounts, drawn once per seed and shared by all items."""

    def __init__(self, seed: int) -> None:
        random = Random(f"society:{seed}")
        self.people = [person(random) for _ in range(240)]
        self.firms = _merchants(random, _FIRMS)
        self.foreign = _merchants(random, _FOREIGN)
        self._texts: dict[tuple[str, str], str] = {}

    def text(self, kind: Kind, name: str) -> str:
        """The bank's description; the same object every time, for a million rows must fit."""
        known = self._texts.get((kind.code, name))
        if known is None:
            known = f"{kind.text} {name.upper()}".strip()
            self._texts[kind.code, name] = known
        return known


def _merchants(random: Random, lines: str) -> list[Merchant]:
    made = []
    for entry in lines.replace("\n", ";").strip(";").split(";"):
        name, category, mcc = entry.split("|")
        made.append(Merchant(firm(random, name, category), category, int(mcc)))
    return made
