"""The simulator: the life of an item, from POST /items to DELETE, on a stepped clock."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import Caller, Receiver, delivered

START = "2026-06-10T12:00:00.000Z"
HOUR = 3600
DAY = 24 * HOUR
OK = {"user": "user-ok", "password": "password-ok"}


@pytest.fixture(scope="module")
def hooked(moment: str) -> Iterator[tuple[SimulatorProcess, Receiver]]:
    with (
        Receiver() as receiver,
        SimulatorProcess(receiver.url, rate_limit=0, clock_scale=0, clock_start=moment) as running,
    ):
        yield running, receiver


@pytest.fixture
def simulator(hooked: tuple[SimulatorProcess, Receiver]) -> SimulatorProcess:
    """As just started, but that its clock stands where the test before left it."""
    running, receiver = hooked
    running.post("/_simulator/reset")
    receiver.deliveries.clear()
    return running


@pytest.fixture
def receiver(hooked: tuple[SimulatorProcess, Receiver], simulator: SimulatorProcess) -> Receiver:
    return hooked[1]


@pytest.fixture
def caller(simulator: SimulatorProcess) -> Caller:
    return Caller(simulator)


def create(caller: Caller, user: str = "user-ok", **more: Any) -> dict[str, Any]:
    parameters = {"user": user, "password": "password-ok"}
    body = {"connectorId": 2, "parameters": parameters} | more
    status, _, item = caller.call("POST", "/items", body)
    assert status == 200, item
    return dict(item)


def step(simulator: SimulatorProcess, caller: Caller, seconds: float) -> None:
    simulator.post("/_simulator/clock", {"advance": seconds})
    caller.log_in()


def read(caller: Caller, item: dict[str, Any]) -> dict[str, Any]:
    return dict(caller.get(f"/items/{item['id']}"))


def test_a_new_item_walks_through_its_steps_until_it_is_updated(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = create(caller, clientUserId="user-7")
    assert (item["status"], item["executionStatus"]) == ("UPDATING", "CREATED")
    assert item["lastUpdatedAt"] is None
    seen = [read(caller, item)["executionStatus"]]
    while read(caller, item)["status"] == "UPDATING":
        step(simulator, caller, 1)
        seen.append(read(caller, item)["executionStatus"])
    assert seen == [
        "CREATED",
        "ACCOUNTS_IN_PROGRESS",
        "CREDITCARDS_IN_PROGRESS",
        "TRANSACTIONS_IN_PROGRESS",
        "PAYMENT_DATA_IN_PROGRESS",
        "INVESTMENTS_IN_PROGRESS",
        "INVESTMENTS_TRANSACTIONS_IN_PROGRESS",
        "IDENTITY_IN_PROGRESS",
        "LOANS_IN_PROGRESS",
        "MERGING",
        "SUCCESS",
    ]
    done = read(caller, item)
    assert done["status"] == "UPDATED"
    assert done["clientUserId"] == "user-7"
    assert done["nextAutoSyncAt"] > done["lastUpdatedAt"]
    delivered(simulator)
    assert sorted(receiver.events) == [
        "item/created",
        "item/login_succeeded",
        "transactions/created",
        "transactions/created",
    ]
    assert receiver.named("item/created")[0]["triggeredBy"] == "CLIENT"
    types = {a["type"] for a in caller.get(f"/accounts?itemId={item['id']}")["results"]}
    assert types == {"BANK", "CREDIT"}


@pytest.mark.parametrize(
    ("user", "status", "execution_status"),
    [
        ("user-logged", "OUTDATED", "ALREADY_LOGGED_IN"),
        ("user-locked", "LOGIN_ERROR", "ACCOUNT_LOCKED"),
        ("user-error", "OUTDATED", "UNEXPECTED_ERROR"),
        ("user-unavailable", "OUTDATED", "SITE_NOT_AVAILABLE"),
        ("user-account-need-actions", "OUTDATED", "ACCOUNT_NEEDS_ACTION"),
        ("user-connection-error", "OUTDATED", "CONNECTION_ERROR"),
        ("user-account-credentials-reset", "LOGIN_ERROR", "ACCOUNT_CREDENTIALS_RESET"),
        ("user-not-supported", "LOGIN_ERROR", "USER_NOT_SUPPORTED"),
        ("somebody-else", "LOGIN_ERROR", "INVALID_CREDENTIALS"),
    ],
)
def test_sandbox_users_fail_as_documented(
    simulator: SimulatorProcess,
    caller: Caller,
    receiver: Receiver,
    user: str,
    status: str,
    execution_status: str,
) -> None:
    item = create(caller, user)
    step(simulator, caller, 60)
    failed = read(caller, item)
    assert (failed["status"], failed["executionStatus"]) == (status, execution_status)
    assert failed["error"]["code"] == execution_status
    assert failed["nextAutoSyncAt"] is None
    delivered(simulator)
    assert receiver.events == ["item/error"]
    assert receiver.deliveries[0].body["error"]["code"] == execution_status


def test_a_message_of_the_provider_is_shown(simulator: SimulatorProcess, caller: Caller) -> None:
    item = create(caller, "user-account-need-actions-provider-message")
    step(simulator, caller, 60)
    assert read(caller, item)["error"]["providerMessage"]


def test_a_partial_success_names_what_was_not_read_and_later_success_brings_it(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = create(caller, "user-ok-account-error")
    step(simulator, caller, 60)
    partial = read(caller, item)
    assert (partial["status"], partial["executionStatus"]) == ("UPDATED", "PARTIAL_SUCCESS")
    detail = partial["statusDetail"]
    assert detail["loans"]["isUpdated"] is False
    assert detail["loans"]["lastUpdatedAt"] is None
    assert detail["loans"]["warnings"]
    assert detail["transactions"]["isUpdated"] is True
    for path in ("loans", "investments"):
        assert caller.get(f"/{path}?itemId={item['id']}")["results"] == []
    simulator.post(f"/_simulator/items/{item['id']}/collect", {})
    assert read(caller, item)["statusDetail"] is None
    for path in ("loans", "investments"):
        assert caller.get(f"/{path}?itemId={item['id']}")["results"]
    investment = caller.get(f"/investments?itemId={item['id']}")["results"][0]
    assert caller.get(f"/investments/{investment['id']}/transactions")["results"]


def test_a_warning_leaves_the_product_updated(simulator: SimulatorProcess, caller: Caller) -> None:
    item = create(caller, "user-ok-account-warning")
    step(simulator, caller, 60)
    warned = read(caller, item)
    assert warned["executionStatus"] == "SUCCESS"
    assert warned["statusDetail"]["accounts"]["isUpdated"] is True
    assert warned["statusDetail"]["accounts"]["warnings"]
    assert warned["statusDetail"]["loans"]["warnings"] == []


def test_a_perf_user_multiplies_the_transactions(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = create(caller, "user-ok-perf-20")
    step(simulator, caller, 60)
    truth = simulator.get(f"/_simulator/truth/{item['id']}")
    assert len(truth["transactions"]) == 20 * 60


def test_mfa_is_asked_for_and_its_answer_lets_the_run_go_on(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = create(caller, connectorId=1)
    path = f"/items/{item['id']}/mfa"
    assert caller.refused("POST", path, {"token": "123456"}) == (400, "ITEM_MFA_NOT_FOUND")
    step(simulator, caller, 2)
    waiting = read(caller, item)
    assert waiting["status"] == waiting["executionStatus"] == "WAITING_USER_INPUT"
    assert waiting["parameter"]["name"] == "token"
    assert caller.refused("POST", path, {"pin": "1"}) == (
        400,
        "ITEM_MFA_PARAMETER_EXPECTED_MISMATCH",
    )
    assert caller.call("POST", path, {"token": "123456"})[0] == 200
    assert caller.refused("POST", path, {"token": "123456"}) == (
        400,
        "ITEM_MFA_ALREADY_PROVIDED",
    )
    step(simulator, caller, 60)
    assert read(caller, item)["executionStatus"] == "SUCCESS"
    delivered(simulator)
    assert "item/waiting_user_input" in receiver.events


def test_a_wrong_mfa_and_none_at_all_end_the_run(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    wrong, late = create(caller, connectorId=1), create(caller, connectorId=1)
    step(simulator, caller, 2)
    caller.call("POST", f"/items/{wrong['id']}/mfa", {"token": "000000"})
    step(simulator, caller, 10 * 60)
    assert read(caller, wrong)["executionStatus"] == "INVALID_CREDENTIALS_MFA"
    assert read(caller, late)["executionStatus"] == "USER_INPUT_TIMEOUT"
    assert read(caller, late)["error"]["parameter"] == "token"
    refused = caller.refused("POST", f"/items/{late['id']}/mfa", {"token": "123456"})
    assert refused == (400, "ITEM_MFA_EXPIRED")


def test_open_finance_waits_for_the_approval_in_the_banks_app(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = create(caller, connectorId=600)
    step(simulator, caller, 2)
    waiting = read(caller, item)
    assert waiting["status"] == "WAITING_USER_ACTION"
    assert waiting["userAction"]["type"] == "authorize-access"
    step(simulator, caller, 60)
    assert read(caller, item)["executionStatus"] == "SUCCESS"
    delivered(simulator)
    assert "item/waiting_user_action" in receiver.events


def test_missing_credentials_are_listed(caller: Caller) -> None:
    body = {"connectorId": 2, "parameters": {"user": "user-ok"}}
    status, _, refused = caller.call("POST", "/items", body)
    assert (status, refused["codeDescription"]) == (400, "CONNECTOR_VALIDATION_ERROR")
    assert [detail["parameter"] for detail in refused["details"]] == ["password"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"connectorId": 9999, "parameters": OK},
        {"connectorId": 2},
        {"connectorId": 2, "parameters": OK, "clientUserId": "x" * 256},
        {"connectorId": 2, "parameters": OK, "products": ["MAGIC"]},
        {"connectorId": 2, "parameters": OK, "webhookUrl": "ftp://example.com"},
    ],
)
def test_bad_items_are_refused(caller: Caller, body: dict[str, Any]) -> None:
    assert caller.refused("POST", "/items", body)[0] == 400


def test_encrypted_parameters_are_taken_as_those_of_user_ok(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = create(caller, parameters="bm90IHJlYWxseSBlbmNyeXB0ZWQ=")
    step(simulator, caller, 60)
    assert read(caller, item)["executionStatus"] == "SUCCESS"


def test_duplicates_are_refused_only_if_asked_to(caller: Caller) -> None:
    first = create(caller)
    create(caller)
    body = {"connectorId": 2, "parameters": OK, "avoidDuplicates": True}
    status, _, refused = caller.call("POST", "/items", body)
    assert (status, refused["codeDescription"]) == (400, "ITEM_USER_ALREADY_EXISTS")
    assert first["id"] in refused["items"]
    other = {"user": "user-ok-perf-1", "password": "password-ok"}
    create(caller, parameters=other, avoidDuplicates=True)


def test_limits_of_a_subscription_are_conflicts() -> None:
    with SimulatorProcess(
        rate_limit=0, items_limit=1, min_update_hours=24, clock_scale=0, clock_start=START
    ) as running:
        caller = Caller(running)
        item = create(caller)
        body = {"connectorId": 2, "parameters": OK}
        assert caller.refused("POST", "/items", body) == (409, "ITEM_CREATION_LIMIT_EXCEEDED")
        running.post("/_simulator/clock", {"advance": 60})
        status, _, refused = caller.call("PATCH", f"/items/{item['id']}", {})
        assert status == 409
        assert refused["codeDescription"] == "CLIENT_IS_UPDATING_BEFORE_ALLOWED_FREQUENCY"
        assert refused["data"]["minUpdateFrequencyAllowedInHours"] == 24


def test_a_patch_collects_again_and_only_one_at_a_time(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = create(caller)
    step(simulator, caller, 60)
    before = read(caller, item)
    status, _, updating = caller.call("PATCH", f"/items/{item['id']}", {"clientUserId": "new"})
    assert (status, updating["status"], updating["clientUserId"]) == (200, "UPDATING", "new")
    refused = caller.refused("PATCH", f"/items/{item['id']}", {})
    assert refused == (400, "ITEM_IS_ALREADY_UPDATING")
    step(simulator, caller, 60)
    after = read(caller, item)
    assert after["status"] == "UPDATED"
    assert after["lastUpdatedAt"] > before["lastUpdatedAt"]
    delivered(simulator)
    assert receiver.named("item/updated")[0]["triggeredBy"] == "CLIENT"


def test_patches_that_cannot_succeed_are_refused(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    locked, mine = (
        create(caller, "user-locked"),
        simulator.post("/_simulator/items", {"connectorId": 200}),
    )
    fine = simulator.post("/_simulator/items", {"connectorId": 201})
    step(simulator, caller, 60)
    refused = caller.refused("PATCH", f"/items/{locked['id']}", {})
    assert refused == (400, "LAST_EXECUTION_HAD_LOGIN_ERROR")
    assert caller.call("PATCH", f"/items/{locked['id']}", {"parameters": OK})[0] == 200
    assert caller.refused("PATCH", f"/items/{mine['id']}", {}) == (400, None)
    simulator.post("/_simulator/connectors/201", {"status": "OFFLINE"})
    assert read(caller, fine)["connector"]["health"]["status"] == "OFFLINE"
    assert caller.refused("PATCH", f"/items/{fine['id']}", {}) == (400, "CONNECTOR_OFFLINE")
    assert caller.refused("PATCH", f"/items/{uuid4()}", {}) == (404, "ITEM_NOT_FOUND")


def test_an_item_syncs_by_itself_every_day(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 40})
    step(simulator, caller, DAY + 60)
    again = read(caller, item)
    assert again["lastUpdatedAt"] > item["nextAutoSyncAt"]
    assert again["nextAutoSyncAt"] > again["lastUpdatedAt"]
    delivered(simulator)
    assert receiver.named("item/updated")[0]["triggeredBy"] == "SYNC"
    rows = simulator.get(f"/_simulator/truth/{item['id']}")["transactions"]
    assert len(rows) > 40


def test_auto_sync_can_be_stopped_until_the_next_forced_update(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 4})
    caller.call("PATCH", f"/items/{item['id']}/disable-auto-sync")
    step(simulator, caller, 3 * DAY)
    stopped = read(caller, item)
    assert stopped["nextAutoSyncAt"] is None
    assert stopped["lastUpdatedAt"] == item["lastUpdatedAt"]
    caller.call("PATCH", f"/items/{item['id']}", {})
    step(simulator, caller, 60)
    assert read(caller, item)["nextAutoSyncAt"] is not None


def test_a_failing_item_is_retried_hourly_five_times_and_then_dropped(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 4, "connectorId": 203})
    simulator.post("/_simulator/connectors/203", {"status": "OFFLINE"})
    step(simulator, caller, 2 * DAY)
    dropped = read(caller, item)
    assert (dropped["status"], dropped["nextAutoSyncAt"]) == ("OUTDATED", None)
    delivered(simulator)
    assert receiver.events.count("item/error") == 6
    simulator.post("/_simulator/connectors/203", {"status": "ONLINE"})
    refused = caller.refused("PATCH", f"/items/{item['id']}", {})
    assert refused == (400, "TOO_MANY_CONSECUTIVE_ERRORS")


def test_a_login_error_stops_the_auto_sync(simulator: SimulatorProcess, caller: Caller) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 4})
    simulator.post(f"/_simulator/items/{item['id']}/collect", {"status": "LOGIN_ERROR"})
    failed = read(caller, item)
    assert (failed["executionStatus"], failed["nextAutoSyncAt"]) == ("INVALID_CREDENTIALS", None)
    assert failed["consecutiveFailedLoginAttempts"] == 1
    step(simulator, caller, 3 * DAY)
    assert read(caller, item)["updatedAt"] == failed["updatedAt"]


def test_a_deleted_item_and_all_it_owned_are_gone(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 20})
    truth = simulator.get(f"/_simulator/truth/{item['id']}")
    paths = {
        f"/items/{item['id']}": "ITEM_NOT_FOUND",
        f"/accounts?itemId={item['id']}": "ITEM_NOT_FOUND",
        f"/accounts/{truth['accounts'][0]['id']}": "ACCOUNT_NOT_FOUND",
        f"/v2/transactions?accountId={truth['accounts'][0]['id']}": "ACCOUNT_NOT_FOUND",
        f"/transactions/{truth['transactions'][0]['id']}": "TRANSACTION_NOT_FOUND",
        f"/investments/{truth['investments'][0]['id']}": "INVESTMENT_NOT_FOUND",
        f"/loans/{truth['loans'][0]['id']}": "LOAN_NOT_FOUND",
        f"/identity/{truth['identities'][0]['id']}": "IDENTITY_NOT_FOUND",
        f"/bills/{truth['bills'][0]['id']}": "CREDIT_CARD_BILL_NOT_FOUND",
        f"/consents/{truth['consents'][0]['id']}": "CONSENT_NOT_FOUND",
    }
    for path in paths:
        caller.get(path)
    assert caller.call("DELETE", f"/items/{item['id']}")[2] == {"count": 1}
    for path, code in paths.items():
        assert caller.refused("GET", path) == (404, code)
    assert caller.refused("DELETE", f"/items/{item['id']}") == (404, "ITEM_NOT_FOUND")
    empty = simulator.get(f"/_simulator/truth/{item['id']}")
    assert set(empty) >= {"items", "accounts", "transactions", "consents"}
    assert not any(empty.values())
    delivered(simulator)
    assert "triggeredBy" not in receiver.named("item/deleted")[0]


def test_sandbox_items_that_nothing_updates_are_cleared_away_after_thirty_days(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    made = [
        simulator.post("/_simulator/items", {"transactions": 2, **body})["id"]
        for body in ({"autoSync": False}, {"autoSync": False, "connectorId": 201}, {})
    ]
    step(simulator, caller, 30 * DAY - 60)
    assert [caller.call("GET", f"/items/{item_id}")[0] for item_id in made] == [200, 200, 200]
    step(simulator, caller, 120)
    assert [caller.call("GET", f"/items/{item_id}")[0] for item_id in made] == [404, 200, 200]
    delivered(simulator)
    assert [body["itemId"] for body in receiver.named("item/deleted")] == made[:1]


def test_pluggy_can_delete_an_item_by_itself(
    simulator: SimulatorProcess, receiver: Receiver
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 2})
    simulator.delete(f"/_simulator/items/{item['id']}")
    delivered(simulator)
    assert receiver.named("item/deleted")[0]["itemId"] == item["id"]


def test_meupluggy_shows_the_connection_of_another_item(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    connector = caller.get("/connectors/200")
    shown = [connector[name] for name in ("isOpenFinance", "oauth", "credentials", "type")]
    assert shown == [False, True, [], "PERSONAL_BANK"]
    body = {"transactions": 2, "connectorId": 200}
    promised = simulator.post("/_simulator/items", body)
    silent = simulator.post("/_simulator/items", body | {"hidesNextSync": True})
    assert promised["nextAutoSyncAt"] is not None
    assert (silent["nextAutoSyncAt"], silent["autoSyncDisabledAt"]) == (None, None)
    inner = set()
    for item in (promised, silent):
        [consent] = caller.get(f"/consents?itemId={item['id']}")["results"]
        assert caller.get(f"/consents/{consent['id']}") == consent
        inner.add(consent["itemId"])
    assert len(inner - {promised["id"], silent["id"]}) == 2
    step(simulator, caller, 25 * HOUR)
    # It is collected daily all the same.
    assert read(caller, silent)["lastUpdatedAt"] > silent["lastUpdatedAt"]
    assert read(caller, silent)["nextAutoSyncAt"] is None


def test_two_items_of_meupluggy_may_show_one_connection(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    inner = "0f8fad5b-d9cb-469f-a165-70867728950e"
    body = {"transactions": 0, "innerItemId": inner}
    for _ in range(2):
        item = simulator.post("/_simulator/items", body | {"connectorId": 200})
        [consent] = caller.get(f"/consents?itemId={item['id']}")["results"]
        assert consent["itemId"] == inner
    assert simulator.call("POST", "/_simulator/items", body)[0] == 400


def test_items_are_listed_newest_first_if_that_is_switched_on(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    made = []
    for number in range(3):
        body = {"transactions": 0, "clientUserId": f"u{number % 2}"}
        made.append(simulator.post("/_simulator/items", body)["id"])
        simulator.post("/_simulator/clock", {"advance": 1})
    simulator.post("/_simulator/items", {"transactions": 0, "connectorId": 200})
    listed = caller.get("/v2/items")
    assert [item["id"] for item in listed["results"]] == made[::-1]
    assert listed["next"] is None
    mine = caller.get("/v2/items?clientUserId=u0&connectorId=0")["results"]
    assert [item["id"] for item in mine] == [made[2], made[0]]
    assert caller.refused("GET", "/v2/items?page=1")[0] == 400


def test_listing_items_is_forbidden_where_it_is_not_switched_on() -> None:
    with SimulatorProcess(list_items=False) as running:
        refused = Caller(running).refused("GET", "/v2/items")
    assert refused == (403, "LIST_ITEMS_FEATURE_NOT_ENABLED")


def test_a_consent_that_runs_out_withholds_the_data_without_a_word(
    simulator: SimulatorProcess, caller: Caller, receiver: Receiver
) -> None:
    now = datetime.fromisoformat(simulator.get("/_simulator/clock")["now"])
    expires = (now + timedelta(hours=2)).isoformat()
    body = {"transactions": 4, "consentExpiresAt": expires, "autoSync": False}
    item = simulator.post("/_simulator/items", body)
    delivered(simulator)
    report = len(receiver.deliveries)
    accounts = f"/accounts?itemId={item['id']}"
    assert len(caller.get(accounts)["results"]) == 2
    step(simulator, caller, 2 * HOUR)
    assert caller.get(accounts)["results"] == []
    assert len(receiver.deliveries) == report
    caller.call("PATCH", f"/items/{item['id']}", {})
    step(simulator, caller, 60)
    renewed = read(caller, item)
    assert datetime.fromisoformat(renewed["consentExpiresAt"]) > now + timedelta(days=365)
    assert len(caller.get(accounts)["results"]) == 2


def test_an_item_may_have_been_imported_some_time_ago(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    now = datetime.fromisoformat(simulator.get("/_simulator/clock")["now"])
    body = {"transactions": 4, "accounts": 1, "importedMinutesAgo": 90}
    item = simulator.post("/_simulator/items", body)
    [account] = caller.get(f"/accounts?itemId={item['id']}")["results"]
    rows = caller.walk(f"?accountId={account['id']}")
    created = {datetime.fromisoformat(row["createdAt"]) for row in rows}
    assert created == {now - timedelta(minutes=90)}
