"""The simulator: a connector that is withdrawn, and a person who connects the bank again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import Caller, Receiver, delivered

BRADESCO, BRADESCO_OPEN = 203, 603
CONTROL = f"/_simulator/connectors/{BRADESCO}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def simulator(receiver: Receiver) -> Iterator[SimulatorProcess]:
    options: dict[str, Any] = {"clock_scale": 0, "clock_start": "2026-06-10T12:00:00.000Z"}
    with SimulatorProcess(receiver.url, rate_limit=0, seed=5, **options) as running:
        yield running


def listed(caller: Caller) -> set[int]:
    return {connector["id"] for connector in caller.get("/connectors?sandbox=true")["results"]}


def test_a_withdrawn_connector_is_gone_and_its_items_go_later(
    simulator: SimulatorProcess, receiver: Receiver
) -> None:
    caller = Caller(simulator)
    item = simulator.post("/_simulator/items", {"connectorId": BRADESCO, "transactions": 10})
    assert BRADESCO in listed(caller)
    simulator.post(CONTROL, {"withdrawn": True, "itemsDeletedAfter": 3600})
    assert BRADESCO not in listed(caller)
    assert caller.refused("GET", f"/connectors/{BRADESCO}") == (404, "CONNECTOR_NOT_FOUND")
    assert caller.get(f"/items/{item['id']}")["connector"]["id"] == BRADESCO
    simulator.post("/_simulator/clock", {"advance": 3700})
    delivered(simulator)
    assert caller.refused("GET", f"/items/{item['id']}") == (404, "ITEM_NOT_FOUND")
    events = [d.body for d in receiver.deliveries if d.body["event"] == "item/deleted"]
    assert [event["itemId"] for event in events] == [item["id"]]
    simulator.post(CONTROL, {"withdrawn": False})
    assert BRADESCO in listed(caller)


def test_an_unlisted_connector_answers_by_id(simulator: SimulatorProcess) -> None:
    caller = Caller(simulator)
    simulator.post(CONTROL, {"unlisted": True})
    assert BRADESCO not in listed(caller)
    assert caller.get(f"/connectors/{BRADESCO}")["id"] == BRADESCO


def test_a_new_connection_shows_the_same_books_under_new_ids(simulator: SimulatorProcess) -> None:
    old = simulator.post("/_simulator/items", {"connectorId": BRADESCO, "transactions": 60})["id"]
    before = simulator.get(f"/_simulator/truth/{old}")
    simulator.post(CONTROL, {"withdrawn": True, "itemsDeletedAfter": 1})
    simulator.post("/_simulator/clock", {"advance": 2})
    assert simulator.get(f"/_simulator/truth/{old}")["transactions"] == []
    wanted = {"connectorId": BRADESCO_OPEN, "reconnects": old, "historyDays": 180}
    new = simulator.post("/_simulator/items", wanted)["id"]
    after = simulator.get(f"/_simulator/truth/{new}")
    real, first = after["real"], {row["id"]: row for row in before["transactions"]}
    assert 0 < len(after["transactions"]) < 60
    for row in after["transactions"]:
        shown = first[real[row["id"]]]
        assert row["id"] not in first
        assert {key: row[key] for key in ("amount", "date", "description", "category")} == {
            key: shown[key] for key in ("amount", "date", "description", "category")
        }
    numbers = [
        {(account["number"], account["taxNumber"], account["balance"]) for account in truth}
        for truth in (before["accounts"], after["accounts"])
    ]
    assert numbers[0] == numbers[1]
    alone = simulator.get(f"/_simulator/ledger?items={old}")
    assert simulator.get(f"/_simulator/ledger?items={old},{new}") == alone
    assert (alone["transactions"], alone["accounts"]) == (60, 2)
