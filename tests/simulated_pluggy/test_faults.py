"""The simulator: every kind of fault, its target, and when it is used up."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import KEYS, Caller, Receiver, delivered


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def simulator(receiver: Receiver) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(receiver.url, rate_limit=0, seed=9) as running:
        yield running


@pytest.fixture
def caller(simulator: SimulatorProcess) -> Iterator[Caller]:
    yield Caller(simulator)
    simulator.delete("/_simulator/faults")


@pytest.fixture(scope="module")
def item(simulator: SimulatorProcess) -> dict[str, Any]:
    return dict(simulator.post("/_simulator/items", {"transactions": 1200, "accounts": 1}))


@pytest.fixture(scope="module")
def account(simulator: SimulatorProcess, item: dict[str, Any]) -> str:
    return str(simulator.get(f"/_simulator/truth/{item['id']}")["accounts"][0]["id"])


def fault(simulator: SimulatorProcess, match: str, kind: str, **more: Any) -> Any:
    return simulator.post("/_simulator/faults", {"match": match, "kind": kind, **more})


def raw(simulator: SimulatorProcess, path: str, key: str, timeout: float = 30) -> bytes:
    """The body as it comes, errors of the connection and all."""
    address = urlsplit(simulator.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=timeout)
    try:
        connection.request("GET", path, headers={"X-API-KEY": key})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_a_status_hits_as_often_as_set_and_no_more(
    simulator: SimulatorProcess, caller: Caller, item: dict[str, Any]
) -> None:
    path = f"/items/{item['id']}"
    fault(simulator, "GET /items", "status", status=503, times=2, retryAfter=7)
    for _ in range(2):
        status, headers, body = caller.call("GET", path)
        assert (status, headers["Retry-After"], body["code"]) == (503, "7", 503)
    assert caller.get(path)["id"] == item["id"]
    assert simulator.get("/_simulator/faults") == []


def test_a_status_can_carry_a_code_and_hit_the_login_too(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    fault(simulator, "POST /auth", "status", status=401, codeDescription="CLIENT_DISABLED")
    status, _, body = simulator.call("POST", "/auth", KEYS)
    assert (status, body["codeDescription"], body["errorId"]) == (
        401,
        "CLIENT_DISABLED",
        "simulated",
    )
    caller.log_in()


def test_a_rate_hits_a_seeded_share_until_it_is_removed(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    fault(simulator, "GET /categories", "status", rate=0.5)
    answers = [caller.call("GET", "/categories/01000000")[0] for _ in range(60)]
    assert 10 < answers.count(500) < 50
    assert set(answers) == {200, 500}
    assert simulator.delete("/_simulator/faults") == {"removed": 1}
    assert caller.call("GET", "/categories/01000000")[0] == 200


def test_the_faults_of_one_item_are_removed_with_what_they_have_hit(
    simulator: SimulatorProcess, caller: Caller, item: dict[str, Any]
) -> None:
    fault(simulator, "GET /items", "status", times=2, item=item["id"])
    fault(simulator, "GET /categories", "status", times=1)
    assert caller.call("GET", f"/items/{item['id']}")[0] == 500
    [taken] = simulator.delete(f"/_simulator/faults?item={item['id']}")
    assert (taken["match"], taken["times"], taken["hits"]) == ("GET /items", 2, 1)
    assert caller.call("GET", f"/items/{item['id']}")[0] == 200
    assert [left["match"] for left in simulator.get("/_simulator/faults")] == ["GET /categories"]


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ("GET /accounts", True),
        ("/accounts", True),
        ("POST /accounts", False),
        ("GET /acc*", True),
        ("*", True),
        ("GET /account", False),
        ("GET /items", False),
    ],
)
def test_faults_are_aimed_by_method_and_path(
    simulator: SimulatorProcess, caller: Caller, item: dict[str, Any], match: str, *, hit: bool
) -> None:
    fault(simulator, match, "status")
    status = caller.call("GET", f"/accounts?itemId={item['id']}")[0]
    assert status == (500 if hit else 200)


def test_faults_are_aimed_at_an_item_and_at_later_pages(
    simulator: SimulatorProcess, caller: Caller, item: dict[str, Any], account: str
) -> None:
    other = simulator.post("/_simulator/items", {"transactions": 0})
    fault(simulator, "/", "status", item=other["id"], rate=1)
    caller.get(f"/accounts?itemId={item['id']}")
    caller.get(f"/v2/transactions?accountId={account}")
    assert caller.call("GET", f"/accounts?itemId={other['id']}")[0] == 500
    simulator.delete("/_simulator/faults")
    fault(simulator, "GET /v2/transactions", "status", query="after=", skip=1)
    first = caller.get(f"/v2/transactions?accountId={account}")
    second = caller.get(f"/v2/transactions{first['next']}")
    assert caller.call("GET", f"/v2/transactions{second['next']}")[0] == 500
    assert caller.call("GET", f"/v2/transactions{second['next']}")[0] == 200


def test_a_timeout_answers_nothing_while_the_client_waits(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    fault(simulator, "GET /connectors", "timeout", seconds=60)
    with pytest.raises(TimeoutError):
        raw(simulator, "/connectors", caller.key, timeout=0.3)


def test_a_reset_breaks_the_connection_in_the_middle_of_the_body(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    fault(simulator, "GET /categories", "reset")
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        raw(simulator, "/categories", caller.key)


def test_a_slow_answer_drips_but_arrives_whole(simulator: SimulatorProcess, caller: Caller) -> None:
    whole = raw(simulator, "/categories", caller.key)
    fault(simulator, "GET /categories", "slow", seconds=0.6)
    started = time.monotonic()
    assert raw(simulator, "/categories", caller.key) == whole
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize("kind", ["truncate", "garbage"])
def test_broken_bodies_are_no_json(simulator: SimulatorProcess, caller: Caller, kind: str) -> None:
    fault(simulator, "GET /categories", kind)
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw(simulator, "/categories", caller.key))


def test_an_empty_list_keeps_its_envelope_and_spares_what_is_no_list(
    simulator: SimulatorProcess, caller: Caller, item: dict[str, Any], account: str
) -> None:
    fault(simulator, "/", "empty", times=2)
    assert caller.get(f"/items/{item['id']}")["id"] == item["id"]
    assert caller.get(f"/accounts?itemId={item['id']}") == {
        "page": 1,
        "total": 0,
        "totalPages": 0,
        "results": [],
    }
    assert caller.get(f"/v2/transactions?accountId={account}") == {"results": [], "next": None}
    assert caller.get(f"/accounts?itemId={item['id']}")["total"] == 1


def test_a_repeated_cursor_leads_back_to_the_same_page(
    simulator: SimulatorProcess, caller: Caller, account: str
) -> None:
    fault(simulator, "GET /v2/transactions", "repeat_cursor", times=2)
    first = caller.get(f"/v2/transactions?accountId={account}")
    again = caller.get(f"/v2/transactions{first['next']}")
    assert again["results"] == first["results"]
    assert again["next"] == first["next"]
    healed = caller.get(f"/v2/transactions{again['next']}")
    assert healed["results"] == first["results"]
    assert healed["next"] != first["next"]


def test_a_redated_row_escapes_the_walk_and_is_announced(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    made = simulator.post("/_simulator/items", {"transactions": 1100, "accounts": 1})
    account = simulator.get(f"/_simulator/truth/{made['id']}")["accounts"][0]["id"]
    before = {row["id"]: row for row in caller.walk(f"?accountId={account}")}
    fault(simulator, "GET /v2/transactions", "redate")
    walked = {row["id"] for row in caller.walk(f"?accountId={account}")}
    missed = before.keys() - walked
    assert len(missed) == 1
    delivered(simulator)
    report = receiver.named("transactions/updated")[-1]
    assert report["transactionIds"] == list(missed)
    row = caller.get(f"/transactions/{missed.pop()}")
    assert row["date"] > before[row["id"]]["date"]


def test_a_redated_row_can_go_unannounced(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver, account: str
) -> None:
    delivered(simulator)
    report = len(receiver.deliveries)
    fault(simulator, "GET /v2/transactions", "redate", announce=False)
    caller.get(f"/v2/transactions?accountId={account}")
    assert simulator.get("/_simulator/faults") == []
    delivered(simulator)
    assert len(receiver.deliveries) == report


def test_odd_rows_come_from_faults_once_and_are_not_kept(
    simulator: SimulatorProcess, caller: Caller, account: str
) -> None:
    path = f"/v2/transactions?accountId={account}"
    usual = caller.get(path)
    seen = {}
    for kind in ("novelty", "wrong_type", "nul", "date_shape"):
        fault(simulator, "GET /v2/transactions", kind)
        seen[kind] = caller.get(path)["results"]
        assert seen[kind] != usual["results"]
        assert caller.get(path) == usual
    assert all(row["status"].startswith("NEW_") for row in seen["novelty"])
    assert all(isinstance(row["order"], str) for row in seen["wrong_type"])
    assert all("\u0000" in row["description"] for row in seen["nul"])
    assert {len(row["date"]) for row in seen["date_shape"]} == {10, 19, 24}


def test_a_merchant_category_code_turns_into_a_string(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    made = simulator.post("/_simulator/items", {"transactions": 60})
    accounts = simulator.get(f"/_simulator/truth/{made['id']}")["accounts"]
    card = next(a["id"] for a in accounts if a["type"] == "CREDIT")
    fault(simulator, "GET /v2/transactions", "wrong_type")
    rows = caller.get(f"/v2/transactions?accountId={card}")["results"]
    codes = [row["creditCardMetadata"]["payeeMCC"] for row in rows]
    assert {type(code) for code in codes if code is not None} == {str}


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "status"},
        {"match": "/", "kind": "explode"},
        {"match": "/", "kind": "status", "time": 1},
        {"match": "/", "kind": "lag"},
    ],
)
def test_a_fault_that_would_never_strike_is_refused(
    simulator: SimulatorProcess, body: dict[str, Any]
) -> None:
    assert simulator.call("POST", "/_simulator/faults", body)[0] == 400


def test_a_status_can_be_an_answer_of_another_shape_with_headers_of_its_own(
    simulator: SimulatorProcess, caller: Caller, account: str
) -> None:
    query = f"?accountId={account}"
    following = caller.get(f"/v2/transactions{query}")["next"]
    fault(
        simulator, "GET /v2/transactions", "status", query="after=", status=200, body={"data": []}
    )
    assert caller.get(f"/v2/transactions{query}")["results"]
    assert caller.get(f"/v2/transactions{following}") == {"data": []}
    headers = {"RateLimit-Reset": "1900000000", "Retry-After": "2"}
    fault(simulator, "GET /v2/transactions", "status", status=429, headers=headers)
    status, report, _ = caller.call("GET", f"/v2/transactions{query}")
    assert (status, report["RateLimit-Reset"], report["Retry-After"]) == (429, "1900000000", "2")


def test_headers_and_fields_of_an_ordinary_answer_can_be_odd(
    simulator: SimulatorProcess, caller: Caller, item: dict[str, Any]
) -> None:
    path = f"/items/{item['id']}"
    date = "Thu, 01 Jan 2099 00:00:00 GMT"
    fault(simulator, "GET /items", "headers", headers={"Date": date})
    assert caller.call("GET", path)[1]["Date"] == date
    assert caller.call("GET", path)[1]["Date"] != date
    odd = {"lastUpdatedAt": "2031-01-01T00:00:00.000Z", "connector.name": "Another"}
    fault(simulator, "GET /items", "fields", fields=odd)
    shown = caller.get(path)
    assert (shown["lastUpdatedAt"], shown["connector"]["name"]) == tuple(odd.values())
    fault(simulator, "GET /accounts", "fields", fields={"creditData.brand": "X", "owner": None})
    rows = caller.get(f"/accounts?itemId={item['id']}")["results"]
    assert {row["owner"] for row in rows} == {None}
    assert caller.get(path) == item | {"updatedAt": caller.get(path)["updatedAt"]}


def test_a_partial_view_agrees_in_lists_and_by_id(
    simulator: SimulatorProcess, caller: Caller, account: str
) -> None:
    query = f"/v2/transactions?accountId={account}"
    rows = caller.get(query)["results"]
    ids = ",".join(row["id"] for row in rows[:5])
    fault(simulator, "*/transactions*", "partial", rows=3, rate=1, account=account)
    assert caller.get(query) == {"results": rows[:3], "next": None}
    assert caller.get(f"{query}&ids={ids}")["results"] == rows[:3]
    assert caller.get(f"/transactions/{rows[2]['id']}") == rows[2]
    assert caller.refused("GET", f"/transactions/{rows[3]['id']}")[0] == 404
    simulator.delete("/_simulator/faults")
    assert caller.get(f"{query}&ids={ids}")["results"] == rows[:5]


def test_partial_lists_of_other_products_have_their_first_rows(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    made = simulator.post("/_simulator/items", {"transactions": 40, "accounts": 3})
    stored = simulator.get(f"/_simulator/truth/{made['id']}")
    for name in ("accounts", "investments", "loans"):
        fault(simulator, f"GET /{name}", "partial", rows=1, rate=1, item=made["id"])
        listed = caller.get(f"/{name}?itemId={made['id']}")
        assert (listed["results"], listed["total"]) == (stored[name][:1], 1)
        for row in stored[name][1:]:
            assert caller.refused("GET", f"/{name}/{row['id']}")[0] == 404
    assert simulator.get(f"/_simulator/truth/{made['id']}") == stored


def test_answers_lag_behind_a_first_import(simulator: SimulatorProcess, caller: Caller) -> None:
    lag = {"GET /accounts": 2, "GET /items": 1}
    made = simulator.post("/_simulator/items", {"transactions": 40, "lag": lag})
    shown = caller.get(f"/items/{made['id']}")
    assert (shown["status"], shown["lastUpdatedAt"]) == ("UPDATING", None)
    accounts = f"/accounts?itemId={made['id']}"
    assert [len(caller.get(accounts)["results"]) for _ in range(3)] == [0, 0, 2]
    assert caller.get(f"/items/{made['id']}") == made
    assert simulator.get("/_simulator/faults") == []


def test_answers_lag_behind_a_collection(simulator: SimulatorProcess, caller: Caller) -> None:
    made = simulator.post("/_simulator/items", {"transactions": 40, "accounts": 1})
    before = simulator.get(f"/_simulator/truth/{made['id']}")
    order = {
        "created": 3,
        "updated": 2,
        "deleted": 2,
        "products": {"accounts": {"created": 1}, "loans": {"updated": 1}},
        "lag": {"GET /*": 6},
    }
    report = simulator.post(f"/_simulator/items/{made['id']}/collect", order)
    account = before["accounts"][0]["id"]
    [added] = report["changes"]["products"]["accounts"]["created"]
    [gone, _] = report["changes"]["accounts"][account]["deleted"]
    assert caller.get(f"/items/{made['id']}") == made
    assert caller.get(f"/accounts?itemId={made['id']}")["results"] == before["accounts"]
    assert caller.get(f"/v2/transactions?accountId={account}")["results"] == before["transactions"]
    assert caller.get(f"/loans?itemId={made['id']}")["results"] == before["loans"]
    assert caller.refused("GET", f"/v2/transactions?accountId={added}")[0] == 404
    assert caller.get(f"/transactions/{gone}")["id"] == gone
    after = simulator.get(f"/_simulator/truth/{made['id']}")
    rows = [row for row in after["transactions"] if row["accountId"] == added]
    assert len(rows) >= 8
    assert caller.get(f"/v2/transactions?accountId={added}")["results"] == rows
    assert caller.get(f"/accounts?itemId={made['id']}")["results"] == after["accounts"]
    assert caller.refused("GET", f"/transactions/{gone}")[0] == 404
