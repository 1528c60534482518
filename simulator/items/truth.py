"""The true state of an item, entity by entity, for comparison with a mirror."""

from collections.abc import Iterator
from typing import Any

import msgspec

from simulator.bank.rows import render
from simulator.items.item import Item

ENTITIES = (
    "items",
    "accounts",
    "transactions",
    "investments",
    "investment_transactions",
    "loans",
    "identities",
    "bills",
    "consents",
)
_CHUNK = 2_000
# Up to so many rows the truth is a snapshot; beyond that it is streamed while data may change.
AT_ONCE = 100_000


def nothing() -> dict[str, list[Any]]:
    return {name: [] for name in ENTITIES}


def _owned(item: Item) -> dict[str, list[Any]]:
    """All rows but the transactions, which may be too many for one list."""
    return {
        "accounts": [account.payload for account in item.accounts.values()],
        "investments": list(item.investments.values()),
        "investment_transactions": [row for rows in item.movements.values() for row in rows],
        "loans": list(item.loans.values()),
        "identities": [] if item.identity is None else [item.identity],
        "bills": list(item.bills.values()),
    }


def owners(item: Item) -> dict[str, dict[str, str]]:
    """Owners of investment transactions, which do not carry them: id -> investment id."""
    return {
        "investment_transactions": {
            row["id"]: investment_id
            for investment_id, rows in item.movements.items()
            for row in rows
        }
    }


def _real_movements(item: Item) -> dict[str, str]:
    """Transaction id -> id by which an earlier connection first showed the same movement."""
    rows = (row for account in item.accounts.values() for row in account.rows)
    return {row.id: row.real for row in rows if row.real is not None}


def write(item: Item) -> Iterator[bytes]:
    """The truth as JSON, in pieces."""
    head: dict[str, Any] = {"items": [item.shown()], "consents": list(item.consents.values())}
    head["withheld"] = item.withheld
    head["owners"] = owners(item)
    head["real"] = _real_movements(item)
    if item.withheld:
        head |= {name: [] for name in ENTITIES if name not in head}
        yield msgspec.json.encode(head)[:-1] + b',"behind":'
        yield from _data(item, {})
        yield b"}"
        return
    yield from _data(item, head)


def _data(item: Item, head: dict[str, Any]) -> Iterator[bytes]:
    yield msgspec.json.encode(head | _owned(item))[:-1] + b',"transactions":['
    first = True
    for account in item.accounts.values():
        for start in range(0, len(account.rows), _CHUNK):
            rows = [render(row) for row in account.rows[start : start + _CHUNK]]
            yield (b"" if first else b",") + msgspec.json.encode(rows)[1:-1]
            first = False
    yield b"]}"
