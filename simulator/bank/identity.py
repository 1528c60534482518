"""Identities: the connected person or firm."""

from random import Random
from typing import Any

from simulator.bank.history import new_id
from simulator.bank.people import Party, address, person_name
from simulator.clock import iso


def phone(random: Random) -> dict[str, Any]:
    return {
        "type": "Personal",
        "value": f"+55 {random.randrange(11, 99)} 9{random.randrange(10**7, 10**8)}",
    }


def identity(random: Random, *, item_id: str, owner: Party, now_ms: int) -> dict[str, Any]:
    login = owner.name.lower().replace(" ", ".").encode("ascii", "ignore").decode()
    birth_year = random.randrange(1950, 2004)
    return {
        "id": new_id(random),
        "itemId": item_id,
        "fullName": owner.name,
        "companyName": None,
        "document": owner.document,
        "documentType": "CPF",
        "taxNumber": owner.document,
        "birthDate": f"{birth_year}-05-01T00:00:00.000Z",
        "jobTitle": random.choice(("Comercial", "Engenheira", "Professor", "Médica")),
        "investorProfile": random.choice(("Conservative", "Moderate", "Aggressive")),
        "establishmentCode": "001",
        "establishmentName": "Agência Central",
        "phoneNumbers": [phone(random)],
        "emails": [{"type": "Personal", "value": f"{login}@example.com"}],
        "addresses": [address(random)],
        "relations": [{"type": "Mother", "name": person_name(random)}],
        "createdAt": iso(now_ms),
        "updatedAt": iso(now_ms),
    }


def moved_house(random: Random, stored: dict[str, Any], *, now_ms: int) -> dict[str, Any]:
    return stored | {
        "addresses": [address(random)],
        "phoneNumbers": [phone(random)],
        "updatedAt": iso(now_ms),
    }
