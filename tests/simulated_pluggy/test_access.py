"""The simulator: process, keys, connect tokens, rate limits, connectors, categories."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import KEYS, SECRET, Caller, until

START = "2026-06-10T12:00:00.000Z"


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(rate_limit=0, seed=11) as running:
        yield running


@pytest.fixture(scope="module")
def caller(simulator: SimulatorProcess) -> Caller:
    return Caller(simulator)


def claims(token: str) -> dict[str, int]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def test_it_listens_on_loopback_only_and_stops_cleanly_on_a_signal() -> None:
    running = SimulatorProcess().start()
    assert urlsplit(running.url).hostname == "127.0.0.1"
    assert running.stop() == 0


def test_help_names_every_option() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "simulator", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--port", "--webhook-url", "--webhook-secret", "--seed", "--rate-limit"):
        assert option in run.stdout


def test_it_imports_nothing_of_the_service() -> None:
    """Not even by way of another module: all that the process has loaded is looked at."""
    code = (
        "import sys, simulator.__main__; "
        "print({m.split('.')[0] for m in sys.modules} & "
        "{'worker', 'ops', 'webhook_receiver', 'embedded', 'pydantic', 'asyncpg', 'arq'})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_key_is_a_jwt_that_lives_two_hours(caller: Caller) -> None:
    found = claims(caller.key)
    assert found["exp"] - found["iat"] == 7200


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"clientId": "not-a-uuid", "clientSecret": "x"},
        {"clientId": KEYS["clientId"], "clientSecret": ""},
    ],
)
def test_bad_client_keys_are_unauthorized(
    simulator: SimulatorProcess, keys: dict[str, str]
) -> None:
    status, _, body = simulator.call("POST", "/auth", keys)
    assert (status, body["codeDescription"]) == (401, "CLIENT_KEYS_UNAUTHORIZED")


def test_given_client_keys_are_the_only_ones() -> None:
    with SimulatorProcess(client_id=KEYS["clientId"], client_secret=SECRET) as running:
        assert running.call("POST", "/auth", KEYS)[0] == 401
        assert running.call("POST", "/auth", KEYS | {"clientSecret": SECRET})[0] == 200


@pytest.mark.parametrize("headers", [{}, {"X-API-KEY": "nonsense"}])
def test_a_missing_or_foreign_key_is_forbidden(
    simulator: SimulatorProcess, headers: dict[str, str]
) -> None:
    status, _, body = simulator.call("GET", "/connectors", headers=headers)
    assert (status, body["codeDescription"]) == (403, "API_KEY_MISSING_OR_INVALID")


@pytest.mark.parametrize("described", [True, False])
def test_an_expired_key_is_forbidden_with_or_without_a_code(*, described: bool) -> None:
    with SimulatorProcess(key_ttl=60, describe_expired=described) as running:
        caller = Caller(running)
        caller.get("/connectors")
        running.post("/_simulator/clock", {"advance": 61})
        status, code = caller.refused("GET", "/connectors")
        assert (status, code) == (403, "API_KEY_MISSING_OR_INVALID" if described else None)
        caller.log_in()
        caller.get("/connectors")


def test_revoked_keys_are_refused_at_once() -> None:
    with SimulatorProcess() as running:
        caller = Caller(running)
        assert running.delete("/_simulator/keys") == {"revoked": 1}
        assert caller.refused("GET", "/connectors")[0] == 403


def test_a_connect_token_reads_its_item_and_accounts_and_nothing_else(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 4})
    _, _, answer = caller.call("POST", "/connect_token", {"options": {"clientUserId": "u"}})
    found = claims(answer["accessToken"])
    assert found["exp"] - found["iat"] == 1800
    headers = {"X-API-KEY": answer["accessToken"]}
    assert simulator.call("GET", f"/items/{item['id']}", headers=headers)[0] == 200
    assert simulator.call("GET", f"/accounts?itemId={item['id']}", headers=headers)[0] == 200
    assert simulator.call("GET", f"/loans?itemId={item['id']}", headers=headers)[0] == 403


def test_a_connect_token_for_an_unknown_item_is_not_found(caller: Caller) -> None:
    body = {"itemId": KEYS["clientId"]}
    assert caller.refused("POST", "/connect_token", body) == (404, "ITEM_NOT_FOUND")


def test_the_third_request_of_two_in_a_minute_is_refused_until_the_next_minute() -> None:
    with SimulatorProcess(rate_limit=2, clock_scale=0, clock_start=START) as running:
        caller = Caller(running)
        caller.get("/connectors")
        caller.get("/connectors")
        status, headers, body = caller.call("GET", "/connectors")
        assert (status, body["code"]) == (429, 429)
        assert headers["RateLimit-Limit"] == "2"
        assert headers["RateLimit-Reset"] == "60"
        assert headers["Retry-After"] == "60"
        # Another group has its own window.
        caller.get("/categories")
        running.post("/_simulator/clock", {"advance": 60})
        caller.get("/connectors")


def test_patching_items_has_the_small_limit_of_twenty() -> None:
    unknown = f"/items/{KEYS['clientId']}"
    with SimulatorProcess(clock_scale=0, clock_start=START) as running:
        caller = Caller(running)
        answers = [caller.call("PATCH", unknown, {})[0] for _ in range(21)]
        assert answers == [404] * 20 + [429]
        assert caller.call("GET", unknown)[0] == 404


def test_the_date_header_follows_the_simulators_clock() -> None:
    with SimulatorProcess(clock_scale=0, clock_start=START) as running:
        running.post("/_simulator/clock", {"advance": 90})
        _, headers, _ = running.call("GET", "/connectors")
        assert parsedate_to_datetime(headers["Date"]).isoformat() == "2026-06-10T12:01:30+00:00"


def test_a_scaled_clock_runs_faster_than_the_wall() -> None:
    with SimulatorProcess(clock_scale=100_000, clock_start=START) as running:
        before = running.get("/_simulator/clock")["now"]
        # One day passes in less than a second.
        until(lambda: running.get("/_simulator/clock")["now"][:10] > before[:10])


def test_sandbox_connectors_are_listed_only_if_asked_for(caller: Caller) -> None:
    usual = {connector["id"] for connector in caller.get("/connectors")["results"]}
    both = {connector["id"] for connector in caller.get("/connectors?sandbox=true")["results"]}
    assert {0, 2, 600} <= both - usual
    assert 200 in usual


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("isOpenFinance=true", {601, 603, 612}),
        ("name=nubank", {612}),
        ("sandbox=true&types=BUSINESS_BANK,INVESTMENT", {5}),
        ("countries=AR", set()),
    ],
)
def test_connectors_are_filtered(caller: Caller, query: str, wanted: set[int]) -> None:
    found = caller.get(f"/connectors?{query}")
    assert {connector["id"] for connector in found["results"]} == wanted
    assert found["totalPages"] == (1 if wanted else 0)


def test_one_connector_has_health_details_only_if_asked_for(caller: Caller) -> None:
    assert "details" not in caller.get("/connectors/600")["health"]
    assert "details" in caller.get("/connectors/600?healthDetails=true")["health"]
    assert caller.refused("GET", "/connectors/9999") == (404, "CONNECTOR_NOT_FOUND")


def test_categories_form_a_tree_with_names_in_both_languages(caller: Caller) -> None:
    rows = {row["id"]: row for row in caller.get("/categories")["results"]}
    assert 110 <= len(rows) <= 140
    assert rows["07010001"]["parentId"] == "07010000"
    assert rows["07010000"]["parentDescription"] == "Services"
    assert rows["01010000"]["descriptionTranslated"] == "Salário"
    children = caller.get("/categories?parentId=01000000")["results"]
    assert {row["parentId"] for row in children} == {"01000000"}
    assert caller.get("/categories/04000000") == rows["04000000"]
    assert caller.refused("GET", "/categories/12345678") == (404, "CATEGORY_NOT_FOUND")


def test_a_path_that_does_not_exist_is_not_found_and_counted(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    simulator.delete("/_simulator/requests")
    assert caller.call("GET", "/payments/requests")[0] == 404
    assert caller.call("PUT", "/connectors")[0] == 405
    counted = simulator.get("/_simulator/requests")
    assert counted["total"] == 2


def test_urls_of_thirty_two_kilobytes_are_read(caller: Caller) -> None:
    padding = "x" * (32_000 - len("/connectors?name="))
    assert caller.get(f"/connectors?name={padding}")["results"] == []


def test_insurance_has_longer_ids_and_loans_an_odd_parent(caller: Caller) -> None:
    insurance = caller.get("/categories?parentId=20000000")["results"]
    assert [row["id"] for row in insurance] == [f"200{n}00000" for n in (1, 2, 3, 4)]
    vehicle = caller.get("/categories/02030002")
    assert (vehicle["parentId"], vehicle["parentDescription"]) == ("02000000", "Financing")


def test_limits_are_sent_with_a_refusal_only(caller: Caller) -> None:
    _, headers, _ = caller.call("GET", "/categories")
    assert not [name for name in headers if name.startswith("RateLimit")]


def test_the_deletion_of_an_item_may_be_answered_without_a_body() -> None:
    with SimulatorProcess(deleted_item_status=204) as running:
        item = running.post("/_simulator/items", {"transactions": 0})["id"]
        status, _, body = Caller(running).call("DELETE", f"/items/{item}")
        assert (status, body) == (204, None)


def test_every_answer_has_a_request_id_that_the_log_shows() -> None:
    with SimulatorProcess(rate_limit=1) as running:
        item = running.post("/_simulator/items", {"transactions": 0})["id"]
        caller = Caller(running)
        running.delete("/_simulator/requests")
        running.post("/_simulator/faults", {"match": "GET /loans", "kind": "status"})
        running.post("/_simulator/faults", {"match": "GET /bills", "kind": "slow", "seconds": 0})
        paths = [*[f"/accounts?itemId={item}"] * 2, "/nowhere", f"/loans?itemId={item}", "/bills"]
        answers = [caller.call("GET", path) for path in paths]
        ids = [headers["x-request-id"] for _, headers, _ in answers]
        assert [status for status, _, _ in answers] == [200, 429, 404, 500, 400]
        assert {UUID(each).version for each in ids} <= {4}
        log = running.get("/_simulator/requests")["log"]
        assert {entry["requestId"] for entry in log} == set(ids)
        assert len(set(ids)) == len(ids)
