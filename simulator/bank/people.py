"""Brazilian people and firms with valid CPF and CNPJ numbers: owners, payers, payees, merchants."""

from random import Random
from typing import Any, NamedTuple

_FIRST = """
Ana Maria João José Antônio Francisco Carlos Paulo Pedro Lucas Luiz Marcos Luís Gabriel Rafael
Juliana Adriana Márcia Fernanda Patrícia Aline Sandra Camila Amanda Bruna Jéssica Letícia Júlia
Luciana Vanessa Mariana Beatriz Larissa Rodrigo Felipe Gustavo Thiago André Eduardo Caio Íris
"""
_LAST = """
Silva Santos Oliveira Souza Rodrigues Ferreira Alves Pereira Lima Gomes Costa Ribeiro Martins
Carvalho Almeida Lopes Soares Fernandes Vieira Barbosa Rocha Dias Nascimento Andrade Moreira
Nunes Marques Machado Mendes Freitas Cardoso Ramos Gonçalves Araújo Teixeira Assunção
"""
_FIRST_NAMES = tuple(_FIRST.split())
_LAST_NAMES = tuple(_LAST.split())
_STREETS = ("Rua das Acácias", "Av. Brasil", "Rua XV de Novembro", "Av. Lúcio Costa", "Rua Sergipe")
_CITIES = (
    ("São Paulo", "SP", "01310-100"),
    ("Rio de Janeiro", "RJ", "22620-171"),
    ("Belo Horizonte", "MG", "30130-010"),
    ("Curitiba", "PR", "80020-000"),
    ("Recife", "PE", "50030-230"),
)
# Name of the bank, COMPE routing number, ISPB.
BANKS = (
    ("Banco do Brasil", "001", "00000000"),
    ("Bradesco", "237", "60746948"),
    ("Itaú", "341", "60701190"),
    ("Caixa", "104", "00360305"),
    ("Nubank", "260", "18236120"),
    ("Inter", "077", "00416968"),
)


def _check_digit(digits: list[int], weights: list[int]) -> int:
    rest = sum(d * w for d, w in zip(digits, weights, strict=True)) % 11
    return 0 if rest < 2 else 11 - rest


def cpf(random: Random) -> str:
    digits = [random.randrange(10) for _ in range(9)]
    digits.append(_check_digit(digits, list(range(10, 1, -1))))
    digits.append(_check_digit(digits, list(range(11, 1, -1))))
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def cnpj(random: Random) -> str:
    digits = [random.randrange(10) for _ in range(8)] + [0, 0, 0, 1]
    weights = [5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]
    digits.append(_check_digit(digits, weights))
    digits.append(_check_digit(digits, [6, *weights]))
    text = "".join(map(str, digits))
    return f"{text[:2]}.{text[2:5]}.{text[5:8]}/{text[8:12]}-{text[12:]}"


class Party(NamedTuple):
    """The other side of a movement; `participant` and `merchant` are shared by all rows of it."""

    name: str
    document: str
    participant: dict[str, Any]
    merchant: dict[str, Any] | None


def person_name(random: Random) -> str:
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    return f"{first} {random.choice(_LAST_NAMES)} {last}"


def participant(random: Random, name: str, document: str) -> dict[str, Any]:
    _, compe, ispb = random.choice(BANKS)
    return {
        "name": name,
        "documentNumber": {"type": "CPF" if len(document) == 14 else "CNPJ", "value": document},
        "accountNumber": f"{random.randrange(10**5, 10**6)}-{random.randrange(10)}",
        "branchNumber": f"{random.randrange(1, 9999):04d}",
        "routingNumber": compe,
        "routingNumberISPB": ispb,
    }


def person(random: Random) -> Party:
    name, document = person_name(random), cpf(random)
    return Party(name, document, participant(random, name, document), None)


def firm(random: Random, name: str, category: str) -> Party:
    document = cnpj(random)
    merchant = {
        "name": name,
        "businessName": f"{name.upper()} LTDA",
        "cnpj": "".join(c for c in document if c.isdigit()),
        "cnae": f"{random.randrange(1000000, 9999999)}",
        "category": category,
    }
    return Party(name, document, participant(random, name, document), merchant)


def address(random: Random) -> dict[str, Any]:
    street, number = random.choice(_STREETS), random.randrange(1, 3000)
    city, state, postal_code = random.choice(_CITIES)
    return {
        "fullAddress": f"{street}, {number}, {city}, {state}",
        "primaryAddress": f"{street}, {number}",
        "city": city,
        "state": state,
        "postalCode": postal_code,
        "country": "Brasil",
        "type": "Personal",
        "additionalInfo": f"Apartamento {random.randrange(1, 200)}",
    }
