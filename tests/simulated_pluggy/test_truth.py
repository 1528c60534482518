"""The simulator: the same seed and calls give the same bytes; another seed gives another world."""

import socket
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import Caller, Receiver, attempted, delivered, until

FROZEN: dict[str, Any] = {
    "rate_limit": 0,
    "clock_scale": 0,
    "clock_start": "2026-03-05T09:30:00.000Z",
}
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/_simulator/items", {"transactions": 700, "accounts": 3}),
    ("POST", "/_simulator/items", {"transactions": 90, "connectorId": 600}),
    ("POST", "/_simulator/clock", {"advance": 100}),
    ("COLLECT", "0", {"created": 9, "updated": 5, "deleted": 4, "restated": 3, "returned": 1}),
    ("COLLECT", "1", {"products": {"bills": {"created": 1}, "loans": {"updated": 1}}}),
    ("COLLECT", "0", {"returned": 2, "scheduled": 2, "partial": True}),
    ("POST", "/_simulator/clock", {"advance": 9 * 24 * 3600}),
    ("COLLECT", "1", {"consent": "revoked"}),
]


def play(seed: int) -> list[bytes]:
    """The bytes of all truths after the calls."""
    with SimulatorProcess(seed=seed, **FROZEN) as running:
        items: list[str] = []
        for method, path, body in CALLS:
            if method == "COLLECT":
                running.post(f"/_simulator/items/{items[int(path)]}/collect", body)
            else:
                answer = running.post(path, body)
                items += [answer["id"]] if "id" in answer else []
        paths = [f"/{i}{tail}" for i in items for tail in ("", "/timeline")]
        return [raw(f"{running.url}/_simulator/truth{path}") for path in ["", *paths]]


def raw(url: str) -> bytes:
    with urlopen(url, timeout=60) as answer:  # noqa: S310 - a simulator on loopback
        return bytes(answer.read())


def test_same_seed_and_same_calls_give_byte_identical_truth() -> None:
    assert play(42) == play(42)


def test_a_reset_begins_the_same_world_again() -> None:
    with Receiver() as receiver, SimulatorProcess(receiver.url, seed=42, **FROZEN) as running:
        caller = Caller(running)
        body = {"transactions": 50}
        first = running.post("/_simulator/items", body)
        truth = running.get(f"/_simulator/truth/{first['id']}")
        running.post("/_simulator/faults", {"match": "/", "kind": "status", "rate": 1})
        delivered(running)
        running.post("/_simulator/reset")
        assert running.get("/_simulator/truth")["items"] == []
        assert caller.refused("GET", f"/items/{first['id']}") == (404, "ITEM_NOT_FOUND")
        again = running.post("/_simulator/items", body)
        assert running.get(f"/_simulator/truth/{again['id']}") == truth
        delivered(running)
        assert receiver.events.count("item/created") == 2


def test_another_seed_gives_another_world() -> None:
    assert play(42) != play(43)


def test_the_truth_is_what_the_endpoints_return() -> None:
    with SimulatorProcess(rate_limit=0) as running:
        caller = Caller(running)
        item = running.post("/_simulator/items", {"transactions": 1300, "accounts": 4})
        truth = running.get(f"/_simulator/truth/{item['id']}")
        by_item = f"?itemId={item['id']}"
        assert truth["items"] == [caller.get(f"/items/{item['id']}")]
        assert truth["accounts"] == caller.get(f"/accounts{by_item}")["results"]
        accounts = [account["id"] for account in truth["accounts"]]
        walked = [row for a in accounts for row in caller.walk(f"?accountId={a}")]
        assert truth["transactions"] == walked
        bills = [b for a in accounts for b in caller.get(f"/bills?accountId={a}")["results"]]
        assert sorted(truth["bills"], key=str) == sorted(bills, key=str)
        for name in ("investments", "loans", "consents"):
            assert truth[name] == caller.get(f"/{name}{by_item}")["results"]
        movements = [
            row
            for investment in truth["investments"]
            for row in caller.get(f"/investments/{investment['id']}/transactions")["results"]
        ]
        assert truth["investment_transactions"] == movements
        assert truth["owners"]["investment_transactions"].keys() == {m["id"] for m in movements}
        assert truth["identities"] == [caller.get(f"/identity{by_item}")]


def test_products_that_were_not_asked_for_are_not_there() -> None:
    with SimulatorProcess(rate_limit=0) as running:
        body = {"products": ["ACCOUNTS", "TRANSACTIONS"], "transactions": 10}
        item = running.post("/_simulator/items", body)
        assert item["products"] == ["ACCOUNTS", "TRANSACTIONS"]
        truth = running.get(f"/_simulator/truth/{item['id']}")
        assert [account["type"] for account in truth["accounts"]] == ["BANK"]
        assert len(truth["transactions"]) == 10
        assert truth["investments"] == truth["loans"] == truth["identities"] == []
        ours = running.post("/_simulator/items", {"products": ["accounts", "loans"]})
        assert ours["products"] == ["ACCOUNTS", "CREDIT_CARDS", "LOANS"]


def test_requests_are_counted_by_endpoint_and_logged() -> None:
    with SimulatorProcess(rate_limit=0) as running:
        caller = Caller(running)
        item = running.post("/_simulator/items", {"transactions": 2})
        running.delete("/_simulator/requests")
        for _ in range(3):
            caller.get(f"/items/{item['id']}")
        caller.get(f"/accounts?itemId={item['id']}")
        shown = running.get("/_simulator/requests?last=2")
        assert shown["total"] == 4
        assert shown["endpoints"] == {"GET /accounts": 1, "GET /items/{id}": 3}
        assert len(shown["log"]) == 2
        last = shown["log"][-1]
        assert (last["method"], last["path"], last["status"]) == ("GET", "/accounts", 200)
        assert (last["query"], last["item"]) == (f"itemId={item['id']}", item["id"])
        assert running.delete("/_simulator/requests") == {"total": 0}


def test_a_busy_receiver_changes_nothing_in_the_truth() -> None:
    """Delivery has dice of its own: what a receiver answers must not leak into the data."""
    with (
        Receiver(lambda body: 500) as receiver,
        SimulatorProcess(receiver.url, seed=42, **FROZEN) as running,
    ):
        report = running.post("/_simulator/items", {"transactions": 700, "accounts": 3})
        truth = running.get(f"/_simulator/truth/{report['id']}")
        # Four events, each refused three times in each of three rounds.
        for attempts in (12, 24, 36):
            attempted(running, attempts)
            running.post("/_simulator/clock", {"advance": 3 * 3600})
        delivered(running)
        assert running.get(f"/_simulator/truth/{report['id']}") == truth
    with SimulatorProcess(seed=42, **FROZEN) as running:
        alone = running.post("/_simulator/items", {"transactions": 700, "accounts": 3})
        assert running.get(f"/_simulator/truth/{alone['id']}") == truth


def test_a_signal_ends_it_even_while_answers_are_delayed() -> None:
    with SimulatorProcess(rate_limit=0) as running:
        running.post("/_simulator/faults", {"match": "GET /connectors", "kind": "timeout"})
        address = urlsplit(running.url)
        with socket.create_connection((address.hostname or "", address.port or 0)) as waiting:
            waiting.sendall(b"GET /connectors HTTP/1.1\r\nHost: simulator\r\n\r\n")
            until(lambda: running.get("/_simulator/requests")["total"])
            assert running.get("/_simulator/requests")["log"][0]["status"] == 0
            assert running.stop() == 0
