"""The simulator: subscriptions, and deliveries with their attempts, rounds and faults."""

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.simulator_tools import SECRET, Caller, Receiver, attempted, delivered, until

FROZEN: dict[str, Any] = {
    "rate_limit": 0,
    "clock_scale": 0,
    "clock_start": "2026-03-05T09:30:00.000Z",
}
QUARTER, TWO_HOURS = 15 * 60, 2 * 3600


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(rate_limit=0) as running:
        yield running


@pytest.fixture
def caller(simulator: SimulatorProcess) -> Iterator[Caller]:
    yield (caller := Caller(simulator))
    for hook in caller.get("/webhooks")["results"]:
        caller.call("DELETE", f"/webhooks/{hook['id']}")
    simulator.post("/_simulator/webhooks", {})


def subscribe(caller: Caller, event: str, url: str, **more: Any) -> dict[str, Any]:
    status, _, hook = caller.call("POST", "/webhooks", {"event": event, "url": url, **more})
    assert status == 200, hook
    return dict(hook)


def test_a_subscription_is_created_read_changed_and_deleted(caller: Caller) -> None:
    hook = subscribe(caller, "item/created", "https://example.com/a", headers={"X-A": "1"})
    path = f"/webhooks/{hook['id']}"
    assert (hook["headers"], hook["disabledAt"]) == ({"X-A": "1"}, None)
    assert caller.get(path) == hook
    assert caller.get("/webhooks") == {"page": 1, "total": 1, "totalPages": 1, "results": [hook]}
    _, _, changed = caller.call("PATCH", path, {"event": "item/all", "enabled": False})
    assert changed["event"] == "item/all"
    assert changed["disabledAt"] is not None
    _, _, cleared = caller.call("PATCH", path, {"headers": None, "enabled": True})
    assert (cleared["headers"], cleared["disabledAt"]) == ({}, None)
    assert caller.call("DELETE", path)[2] == {"count": 1}
    for method in ("GET", "PATCH", "DELETE"):
        assert caller.refused(method, path, {}) == (404, "WEBHOOK_NOT_FOUND")


@pytest.mark.parametrize(
    ("event", "url", "message"),
    [
        ("item/exploded", "https://example.com", "Invalid event type"),
        ("all", "not a url", "valid URL"),
        ("all", "http://example.com", "https"),
        ("all", "https://8.8.8.8/x", "IP address"),
        ("all", "https://db.internal/x", "reserved/internal"),
    ],
)
def test_bad_subscriptions_are_refused_with_pluggys_words(
    caller: Caller, event: str, url: str, message: str
) -> None:
    status, _, body = caller.call("POST", "/webhooks", {"event": event, "url": url})
    assert status == 400
    assert message in body["message"]
    assert "codeDescription" not in body


def test_the_same_subscription_twice_and_a_sixth_of_one_event_are_refused(caller: Caller) -> None:
    for number in range(5):
        subscribe(caller, "all", f"https://example.com/{number}")
    twice = caller.call("POST", "/webhooks", {"event": "all", "url": "https://example.com/1"})
    assert "already exists" in twice[2]["message"]
    sixth = caller.call("POST", "/webhooks", {"event": "all", "url": "https://example.com/9"})
    assert "maximum of 5" in sixth[2]["message"]
    subscribe(caller, "item/error", "https://example.com/1")


def test_loopback_urls_can_be_refused_and_creation_can_answer_201() -> None:
    with SimulatorProcess(created_webhook_status=201) as running:
        body = {"event": "all", "url": "http://127.0.0.1:9/x"}
        assert Caller(running).call("POST", "/webhooks", body)[0] == 201
    with Receiver() as receiver, SimulatorProcess(public_webhook_urls_only=True) as running:
        body = {"event": "all", "url": receiver.url}
        assert Caller(running).refused("POST", "/webhooks", body)[0] == 400


def test_headers_are_echoed_on_every_delivery_and_bodies_are_json(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    with Receiver() as receiver:
        subscribe(caller, "all", receiver.url, headers={"X-Webhook-Secret": SECRET, "X-B": "2"})
        simulator.post("/_simulator/items", {"transactions": 6})
        delivered(simulator)
        assert len(receiver.deliveries) == 3
        for delivery in receiver.deliveries:
            assert delivery.headers["X-Webhook-Secret"] == SECRET
            assert delivery.headers["X-B"] == "2"
            assert delivery.headers["Content-Type"] == "application/json"


def test_the_hook_of_the_command_line_is_a_subscription_to_everything() -> None:
    with Receiver() as receiver, SimulatorProcess(receiver.url, SECRET) as running:
        hook = Caller(running).get("/webhooks")["results"][0]
        assert (hook["event"], hook["url"]) == ("all", receiver.url)
        assert hook["headers"] == {"X-Webhook-Secret": SECRET}


def test_a_subscription_gets_its_event_only(simulator: SimulatorProcess, caller: Caller) -> None:
    with Receiver() as items, Receiver() as deletions:
        subscribe(caller, "item/all", items.url)
        subscribe(caller, "transactions/deleted", deletions.url)
        item = simulator.post("/_simulator/items", {"transactions": 30})
        simulator.post(f"/_simulator/items/{item['id']}/collect", {"deleted": 1, "created": 1})
        delivered(simulator)
        assert sorted(items.events) == ["item/created", "item/updated"]
        assert deletions.events == ["transactions/deleted"]


def test_a_disabled_subscription_gets_nothing(simulator: SimulatorProcess, caller: Caller) -> None:
    with Receiver() as receiver:
        hook = subscribe(caller, "all", receiver.url)
        caller.call("PATCH", f"/webhooks/{hook['id']}", {"enabled": False})
        simulator.post("/_simulator/items", {"transactions": 2})
        delivered(simulator)
        assert receiver.deliveries == []


def test_an_items_own_url_gets_the_same_event_id_and_no_headers(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    with Receiver() as ours, Receiver() as own:
        subscribe(caller, "all", ours.url, headers={"X-Webhook-Secret": SECRET})
        simulator.post("/_simulator/items", {"transactions": 6, "webhookUrl": own.url})
        delivered(simulator)
        ids = [sorted(d.body["eventId"] for d in r.deliveries) for r in (ours, own)]
        assert ids[0] == ids[1]
        assert len(set(ids[0])) == 3
        assert all("X-Webhook-Secret" not in delivery.headers for delivery in own.deliveries)


def test_bodies_carry_the_fields_that_real_traffic_has(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    with Receiver() as receiver:
        subscribe(caller, "all", receiver.url)
        item = simulator.post("/_simulator/items", {"transactions": 40, "clientUserId": "user-1"})
        simulator.post(f"/_simulator/items/{item['id']}/collect", {"updated": 2, "deleted": 2})
        simulator.post("/_simulator/connectors/0", {"status": "UNSTABLE"})
        delivered(simulator)
        created = receiver.named("transactions/created")[0]
        assert created.keys() == {
            "id",
            "event",
            "eventId",
            "itemId",
            "accountId",
            "clientUserId",
            "transactionsCount",
            "transactionsMinDate",
            "transactionsCreatedAtFrom",
            "createdTransactionsLink",
            "createdTransactionsLinkV2",
        }
        assert created["createdTransactionsLink"].startswith(f"{simulator.url}/v2/transactions?")
        emitted = receiver.named("item/created")[0]
        assert emitted == {
            "event": "item/created",
            "eventId": emitted["eventId"],
            "itemId": item["id"],
            "clientUserId": "user-1",
            "triggeredBy": "USER",
        }
        for name in ("transactions/updated", "transactions/deleted"):
            assert "triggeredBy" not in receiver.named(name)[0]
            assert "id" not in receiver.named(name)[0]
        status = receiver.named("connector/status_updated")[0]
        assert (status["id"], status["connectorId"]) == ("0", 0)
        assert status["data"] == {"status": "UNSTABLE"}
        simulator.post("/_simulator/connectors/0", {"status": "ONLINE"})
        delivered(simulator)


def test_the_legacy_flavour_of_links_points_at_the_page_listing() -> None:
    with (
        Receiver() as receiver,
        SimulatorProcess(receiver.url, legacy_transactions=True) as running,
    ):
        running.post("/_simulator/items", {"transactions": 2, "accounts": 1})
        delivered(running)
        created = receiver.named("transactions/created")[0]
        assert created["createdTransactionsLink"].startswith(f"{running.url}/transactions?")
        assert "/v2/transactions?" in created["createdTransactionsLinkV2"]


def test_updates_are_announced_in_blocks_of_at_most_400_ids(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    with Receiver() as receiver:
        body = {"transactions": 2000, "accounts": 1}
        item = simulator.post("/_simulator/items", body)
        subscribe(caller, "transactions/updated", receiver.url)
        simulator.post(f"/_simulator/items/{item['id']}/collect", {"updated": 900})
        delivered(simulator)
        sizes = sorted(len(delivery.body["transactionIds"]) for delivery in receiver.deliveries)
        assert sum(sizes) >= 890
        assert sizes[1:] == [400, 400]
        assert sizes[0] < 400


def test_an_event_is_tried_three_times_then_after_15_minutes_and_after_two_hours() -> None:
    with (
        Receiver(lambda body: 500) as receiver,
        SimulatorProcess(receiver.url, **FROZEN) as running,
    ):
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        attempted(running, 3)
        running.post("/_simulator/clock", {"advance": QUARTER - 1})
        assert len(receiver.deliveries) == 3
        running.post("/_simulator/clock", {"advance": 1})
        attempted(running, 6)
        running.post("/_simulator/clock", {"advance": TWO_HOURS - 1})
        assert len(receiver.deliveries) == 6
        running.post("/_simulator/clock", {"advance": 1})
        delivered(running)
        assert len(receiver.deliveries) == 9
        assert len({delivery.body["eventId"] for delivery in receiver.deliveries}) == 1
        running.post("/_simulator/clock", {"advance": 24 * 3600})
        assert len(receiver.named("item/created")) == 9


def test_the_spacing_of_rounds_is_a_knob() -> None:
    with (
        Receiver(lambda body: 500) as receiver,
        SimulatorProcess(receiver.url, retry_rounds="10", **FROZEN) as running,
    ):
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        attempted(running, 3)
        running.post("/_simulator/clock", {"advance": 10})
        delivered(running)
        assert len(receiver.deliveries) == 6


def test_the_gap_between_attempts_is_a_knob() -> None:
    with (
        Receiver(lambda body: 500) as receiver,
        SimulatorProcess(receiver.url, retry_rounds="", attempt_gap=60, clock_scale=600) as running,
    ):
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        delivered(running)
        log = running.get("/_simulator/webhooks")["log"]
        times = [datetime.fromisoformat(attempt["at"]) for attempt in log]
        assert len(times) == 3
        assert times[1] - times[0] >= timedelta(minutes=1)
        assert times[2] - times[1] >= timedelta(minutes=1)


def test_login_succeeded_is_tried_three_times_and_never_again() -> None:
    with (
        Receiver(lambda body: 503) as receiver,
        SimulatorProcess(receiver.url, **FROZEN) as running,
    ):
        item = running.post("/_simulator/items", {"products": ["IDENTITY"]})
        running.post(f"/_simulator/items/{item['id']}/collect", {"status": "UPDATING"})
        attempted(running, 6)
        running.post("/_simulator/clock", {"advance": QUARTER})
        until(lambda: len(receiver.named("item/created")) == 6)
        assert len(receiver.named("item/login_succeeded")) == 3


def test_a_success_ends_the_attempts() -> None:
    statuses = itertools.chain([500, 302], itertools.repeat(200))
    with (
        Receiver(lambda body: next(statuses)) as receiver,
        SimulatorProcess(receiver.url) as running,
    ):
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        delivered(running)
        assert [delivery.status for delivery in receiver.deliveries] == [500, 302, 200]
        shown = running.get("/_simulator/webhooks")
        assert [attempt["status"] for attempt in shown["log"]] == [500, 302, 200]


def test_a_receiver_that_is_away_counts_as_a_failure_with_its_reason() -> None:
    with SimulatorProcess("http://127.0.0.1:9/hooks", retry_rounds="") as running:
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        delivered(running)
        log = running.get("/_simulator/webhooks")["log"]
        assert [attempt["status"] for attempt in log] == [None, None, None]
        assert all(attempt["error"] for attempt in log)


def test_events_given_up_in_a_row_disable_a_subscription_until_it_is_enabled() -> None:
    with (
        Receiver(lambda body: 500) as receiver,
        SimulatorProcess(receiver.url, retry_rounds="", disable_after=2) as running,
    ):
        caller = Caller(running)
        for _ in range(2):
            running.post("/_simulator/items", {"products": ["IDENTITY"]})
            delivered(running)
        hook = caller.get("/webhooks")["results"][0]
        assert hook["disabledAt"] is not None
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        delivered(running)
        assert len(receiver.deliveries) == 6
        caller.call("PATCH", f"/webhooks/{hook['id']}", {"enabled": True})
        running.post("/_simulator/items", {"products": ["IDENTITY"]})
        delivered(running)
        assert len(receiver.deliveries) == 9


def test_delivery_faults_duplicate_drop_shuffle_and_keep_quiet(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    def emitted(delivery_faults: dict[str, Any], **wishes: int) -> list[dict[str, Any]]:
        with Receiver() as receiver:
            hook = subscribe(caller, "all", receiver.url)
            simulator.post("/_simulator/webhooks", delivery_faults)
            sent = []
            for _ in range(6):
                collected = simulator.post(f"/_simulator/items/{item['id']}/collect", wishes)
                sent += collected["events"]
            delivered(simulator)
            caller.call("DELETE", f"/webhooks/{hook['id']}")
            order.append([event["eventId"] for event in sent])
            return [delivery.body for delivery in receiver.deliveries]

    item = simulator.post("/_simulator/items", {"transactions": 60})
    order: list[list[str]] = []
    assert len(emitted({"duplicate": 1})) == 12
    assert emitted({"drop": True}) == []
    assert emitted({"quiet": True}) == []
    several = {"created": 1, "updated": 1, "deleted": 1}  # of one moment, in each collection
    shuffled = [body["eventId"] for body in emitted({"shuffle": 0.5}, **several)]
    assert sorted(shuffled) == sorted(order[-1])
    assert shuffled != order[-1]
    assert len(emitted({})) == 6


def test_events_are_delivered_under_other_names(
    simulator: SimulatorProcess, caller: Caller
) -> None:
    item = simulator.post("/_simulator/items", {"transactions": 2})
    names = {"transactions/created": "transaction/created", "item/updated": "consent/updated"}
    with Receiver() as receiver:
        hook = subscribe(caller, "all", receiver.url)
        simulator.post("/_simulator/webhooks", {"names": names})
        sent = simulator.post(f"/_simulator/items/{item['id']}/collect", {"created": 1})["events"]
        delivered(simulator)
        caller.call("DELETE", f"/webhooks/{hook['id']}")
        simulator.post("/_simulator/webhooks", {})
        renamed = [event | {"event": names[event["event"]]} for event in sent]
        key = str
        assert sorted((d.body for d in receiver.deliveries), key=key) == sorted(renamed, key=key)


def test_an_unknown_delivery_fault_is_refused(simulator: SimulatorProcess) -> None:
    assert simulator.call("POST", "/_simulator/webhooks", {"duplicates": 1})[0] == 400


def test_an_unknown_subscription_is_not_found(caller: Caller) -> None:
    assert caller.refused("GET", f"/webhooks/{uuid4()}") == (404, "WEBHOOK_NOT_FOUND")
