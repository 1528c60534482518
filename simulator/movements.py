"""What happens on Brazilian accounts: kinds of movement, merchants and their usual amounts."""

from random import Random
from typing import NamedTuple

from simulator.people import Party, firm, person

# How an institution reports the time of a movement.
MIDNIGHT, BRAZIL_MIDNIGHT, EXACT = "midnight", "brazil_midnight", "exact"


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
    payment_method: str | None = None
    party: str | None = None
    fee_type: str | None = None


BANK_KINDS = (
    Kind("pix_out", "PIX ENVIADO", "05070000", -1, (500, 150000), EXACT, 30, "PIX", "PIX", "person"),
    Kind("pix_in", "PIX RECEBIDO", "05070000", 1, (500, 200000), EXACT, 22, "PIX", "PIX", "person"),
    Kind("pix_shop", "PIX QR CODE", "08000000", -1, (300, 60000), EXACT, 10, "PIX", "PIX", "firm"),
    Kind("ted_out", "TED ENVIADA", "05080000", -1, (20000, 900000), MIDNIGHT, 3, "TED", "TED", "person"),
    Kind("ted_in", "TED RECEBIDA", "05080000", 1, (20000, 900000), MIDNIGHT, 3, "TED", "TED", "person"),
    Kind(
        "boleto", "PAGAMENTO DE BOLETO", "05010000", -1, (4000, 180000), MIDNIGHT, 8, "BOLETO", "BOLETO", "firm"
    ),
    Kind("debit", "COMPRA CARTAO DEBITO", "", -1, (400, 40000), BRAZIL_MIDNIGHT, 14, "CARTAO", None, "firm"),
    Kind("salary", "SALARIO", "01010000", 1, (250000, 1800000), MIDNIGHT, 2, "FOLHA_PAGAMENTO", None, "firm"),
    Kind("power", "DEB AUT ENEL ENERGIA", "17020002", -1, (8000, 60000), MIDNIGHT, 1, "OUTROS"),
    Kind("water", "DEB AUT SABESP", "17020001", -1, (4000, 25000), MIDNIGHT, 1, "OUTROS"),
    Kind("phone", "DEB AUT VIVO MOVEL", "07010002", -1, (4990, 19990), MIDNIGHT, 1, "OUTROS"),
    Kind("fee", "TARIFA PACOTE DE SERVICOS", "16010000", -1, (1990, 6990), MIDNIGHT, 1, "TARIFA"),
    Kind("cash", "SAQUE 24H", "05020000", -1, (2000, 100000), BRAZIL_MIDNIGHT, 2, "SAQUE"),
    Kind("own", "TRANSF MESMA TITULARIDADE", "04000000", -1, (10000, 500000), EXACT, 2, "PIX", "PIX", "owner"),
)
CARD_PAID_FROM_BANK = Kind(
    "bill_paid", "PAGAMENTO FATURA CARTAO", "05100000", -1, (0, 0), MIDNIGHT, 0, "OUTROS"
)
OWN_RECEIVED = Kind(
    "own_in", "TRANSF MESMA TITULARIDADE", "04000000", 1, (0, 0), EXACT, 0, "PIX", "PIX", "owner"
)
SAVINGS_KINDS = (
    Kind("yield", "RENDIMENTOS", "03060000", 1, (10, 9000), MIDNIGHT, 6, "RENDIMENTO_APLIC_FINANCEIRA"),
    Kind("saved", "APLICACAO POUPANCA", "03020000", 1, (5000, 300000), MIDNIGHT, 3, "DEPOSITO"),
    Kind("redeemed", "RESGATE POUPANCA", "03020000", -1, (5000, 200000), MIDNIGHT, 3, "OUTROS"),
)
CARD_KINDS = (
    Kind("purchase", "", "", -1, (590, 60000), EXACT, 84, "PAGAMENTO", None, "firm"),
    Kind("midnight_purchase", "", "", -1, (590, 90000), MIDNIGHT, 10, "PAGAMENTO", None, "firm"),
    Kind("abroad", "", "", -1, (300, 30000), EXACT, 4, "PAGAMENTO", None, "foreign"),
    Kind("refund", "ESTORNO", "", 1, (590, 30000), MIDNIGHT, 2, "ESTORNO", None, "firm"),
    Kind(
        "annual_fee", "ANUIDADE DIFERENCIADA", "16030000", -1, (990, 4990), MIDNIGHT, 1, "TARIFA",
        fee_type="ANNUAL_FEE",
    ),
)  # fmt: skip
# Pluggy writes this row from the bill when the bank reports no payment.
BILL_PAYMENT = Kind(
    "payment", "Pagamento recebido", "05100000", 1, (0, 0), MIDNIGHT, 0, "PAGAMENTO_FATURA"
)

# Name, category, merchant category code.
_FIRMS = """
Carrefour|10000000|5411;Pão de Açúcar|10000000|5411;Assaí Atacadista|10000000|5300;Extra|10000000|5411
iFood|11020000|5812;Rappi|11020000|5812;Padaria São José|11010000|5462;Outback|11010000|5812
Starbucks|11010000|5814;Habib's|11010000|5814;Uber|19010000|4121;99 Tecnologia|19010000|4121
Posto Ipiranga|19050001|5541;Posto Shell|19050001|5541;Estapar|19050002|7523;Sem Parar|19050003|4784
Amazon BR|08010000|5942;Mercado Livre|08010000|5999;Magazine Luiza|08020000|5732;Americanas|08010000|5311
Renner|08040000|5651;Riachuelo|08040000|5651;C&A|08040000|5651;Petz|08030000|5995
Drogasil|18020000|5912;Droga Raia|18020000|5912;Fleury|18040000|8071;Hospital Sírio-Libanês|18040000|8062
Netflix|09020000|4899;Spotify|09030000|4899;Steam|09010000|5816;Claro|07010002|4814
Smart Fit|07030001|7997;Cinemark|07040003|7832;Gol Linhas Aéreas|12010000|4511;LATAM|12010000|4511
Airbnb|12020000|7011;Leroy Merlin|17030000|5200;Kalunga|08080000|5943;Decathlon|08070000|5941
Colégio Objetivo|07020003|8211;Estácio|07020002|8220;Porto Seguro|20040000|6300;Livraria Cultura|08060000|5942
"""
_FOREIGN = """
GITHUB INC|09000000|5734;OPENAI *CHATGPT|09000000|5734;AMZN MKTP US|08010000|5942
BOOKING.COM|12020000|7011;HOTEL LISBOA|12020000|7011;APPLE.COM/BILL|09000000|5818
"""


class Merchant(NamedTuple):
    party: Party
    category: str
    mcc: int


class Society:
    """Everybody that an account can deal with, drawn once per seed and shared by all items."""

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
