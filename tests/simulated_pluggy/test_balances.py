"""GET /accounts/{id}/balance of the simulator: a live call that changes the account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import Caller, Receiver, delivered

BALANCES_A_MONTH = 420


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(rate_limit=0, clock_scale=0) as process:
        yield process


@pytest.fixture
def simulator(running: SimulatorProcess) -> SimulatorProcess:
    running.post("/_simulator/reset")
    return running


@pytest.fixture
def caller(simulator: SimulatorProcess) -> Caller:
    return Caller(simulator)


def made(simulator: SimulatorProcess, connector: int, **options: Any) -> tuple[str, list[str]]:
    """An item and its accounts, the bank account first."""
    body = {"transactions": 4, "connectorId": connector}
    item = simulator.post("/_simulator/items", body | options)
    rows = simulator.get(f"/_simulator/truth/{item['id']}")["accounts"]
    return item["id"], [row["id"] for row in sorted(rows, key=lambda row: row["type"])]


@pytest.mark.parametrize("nth", [0, 1])
def test_a_balance_that_is_read_becomes_the_accounts(
    simulator: SimulatorProcess, caller: Caller, nth: int
) -> None:
    item_id, accounts = made(simulator, 600)
    before, item = caller.get(f"/accounts/{accounts[nth]}"), caller.get(f"/items/{item_id}")
    with Receiver() as receiver:
        caller.call("POST", "/webhooks", {"event": "all", "url": receiver.url})
        simulator.post("/_simulator/clock", {"advance": 60})
        answer = caller.get(f"/accounts/{accounts[nth]}/balance")
        delivered(simulator)
        assert receiver.deliveries == []
    after = caller.get(f"/accounts/{accounts[nth]}")
    assert answer["balance"] == after["balance"] != before["balance"]
    assert answer["updateDateTime"] == after["updatedAt"] > before["updatedAt"]
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed == {"balance", "updatedAt"} | ({"bankData"} if nth == 0 else set())
    if nth == 0:
        assert after["bankData"] | {"closingBalance": 0} == before["bankData"] | {
            "closingBalance": 0
        }
        assert answer["closingBalance"] == after["bankData"]["closingBalance"]
    assert caller.get(f"/items/{item_id}") == item


def test_balances_that_cannot_be_read_are_refused(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    for connector in (0, 200):
        _, accounts = made(simulator, connector)
        refused = caller.refused("GET", f"/accounts/{accounts[0]}/balance")
        assert refused == (400, "BALANCE_INVALID_REQUEST")
    unknown = "/accounts/0f8fad5b-d9cb-469f-a165-70867728950e/balance"
    assert caller.refused("GET", unknown) == (404, "BALANCE_NOT_FOUND")
    item_id, accounts = made(simulator, 600)
    simulator.post(f"/_simulator/items/{item_id}/collect", {"consent": "revoked"})
    refused = caller.refused("GET", f"/accounts/{accounts[0]}/balance")
    assert refused == (403, "BALANCE_CONSENT_ERROR")


def test_an_account_has_so_many_balances_a_month(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    _, accounts = made(simulator, 600)
    path = f"/accounts/{accounts[0]}/balance"
    for _ in range(BALANCES_A_MONTH):
        caller.get(path)
    assert caller.refused("GET", path) == (429, "BALANCE_OPEN_FINANCE_RATE_LIMIT")
    caller.get(f"/accounts/{accounts[1]}/balance")
    simulator.post("/_simulator/clock", {"advance": 32 * 86_400})
    caller.log_in()
    caller.get(path)
