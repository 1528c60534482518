"""The subscription check: every way in which Pluggy's list of webhooks can be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.support.stack import CLIENT_ID, CLIENT_SECRET, Stack
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from webhook_receiver.app import DELIVERY_PATH
from worker.maintenance.subscriptions import (
    RECEIVER_PATH,
    WANTED,
    Expected,
    Subscription,
    judge,
    read_subscription,
    watch_subscriptions,
)

URL = "https://hooks.example.com/webhooks/pluggy"
SECRET, OTHER_SECRET = "the-secret-of-today", "the-secret-of-yesterday"
RIGHT = {"X-Webhook-Secret": SECRET}
EXPECTED = Expected(URL, "X-Webhook-Secret", (SECRET, OTHER_SECRET))


def hook(event: str = "all", url: str = URL, **fields: Any) -> Subscription:
    listed = {"id": "1", "event": event, "url": url, "headers": RIGHT, "disabledAt": None}
    return read_subscription(listed | fields)


def found(*hooks: Subscription, expected: Expected = EXPECTED) -> list[tuple[str, str]]:
    return [(finding.event, finding.state) for finding in judge(hooks, expected)]


@pytest.mark.parametrize(
    "right",
    [
        hook(),
        hook(headers={"x-webhook-secret": SECRET}),
        hook(headers={"X-Webhook-Secret": OTHER_SECRET, "X-More": "1"}),
        hook(url=f"{URL}/{SECRET}", headers={}),
        hook(url=f"{URL}/{OTHER_SECRET}/", headers={}),
        hook(url="HTTPS://Hooks.Example.com/webhooks/pluggy/"),
    ],
)
def test_one_webhook_for_everything_with_a_valid_secret_is_all_that_is_needed(
    right: Subscription,
) -> None:
    assert found(right) == [("all", "ok")]


def test_a_webhook_for_each_event_is_as_good() -> None:
    hooks = [hook(event) for event in sorted(WANTED)]
    assert {state for _, state in found(*hooks)} == {"ok"}
    assert len(found(*hooks)) == len(WANTED)


def test_events_of_items_can_be_subscribed_together() -> None:
    others = [hook(event) for event in sorted(WANTED) if not event.startswith("item/")]
    assert {state for _, state in found(hook("item/all"), *others)} == {"ok"}


def test_without_any_webhook_everything_is_missing() -> None:
    assert found() == [("all", "missing")]


def test_events_without_a_webhook_are_missing_by_name() -> None:
    most = [hook(event) for event in sorted(WANTED - {"item/deleted", "transactions/updated"})]
    missing = [event for event, state in found(*most) if state == "missing"]
    assert missing == ["item/deleted", "transactions/updated"]


def test_a_disabled_webhook_is_logged_once() -> None:
    assert found(hook(disabledAt="2026-03-01T00:00:00.000Z")) == [("all", "disabled")]


@pytest.mark.parametrize(
    "wrong",
    [
        hook(headers={}),
        hook(headers=None),
        hook(headers={"X-Webhook-Secret": "another"}),
        hook(headers={"X-Webhook-Secret": SECRET + " "}),
        hook(headers={"X-Other": SECRET}),
        hook(url=f"{URL}/another", headers={}),
    ],
)
def test_a_webhook_whose_deliveries_would_be_refused_has_a_wrong_secret(
    wrong: Subscription,
) -> None:
    assert found(wrong) == [("all", "wrong_secret")]


def test_without_a_secret_to_compare_with_none_is_wrong() -> None:
    assert found(hook(headers={}), expected=replace(EXPECTED, secrets=())) == [("all", "ok")]


def test_of_webhooks_for_the_same_events_all_but_the_broadest_are_doubles() -> None:
    hooks = [hook("item/updated"), hook("item/all"), hook("all"), hook(url=f"{URL}/{SECRET}")]
    assert found(*hooks) == [
        ("item/updated", "double"),
        ("item/all", "double"),
        ("all", "ok"),
        ("all", "double"),
    ]


def test_a_disabled_twin_is_no_double() -> None:
    disabled = hook(id="1", disabledAt="2026-03-01T00:00:00.000Z")
    assert found(disabled, hook(id="2")) == [("all", "disabled"), ("all", "ok")]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/pluggy",
        f"{URL}/{SECRET}/more",
        "http" + URL.removeprefix("https"),
    ],
)
def test_another_address_on_our_host_is_a_wrong_url(url: str) -> None:
    assert found(hook(), hook(url=url)) == [("all", "ok"), ("all", "wrong_url")]
    assert found(hook(url=url)) == [("all", "wrong_url"), ("all", "missing")]


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/pluggy",
        "https://hooks.example.com/webhooks/pluggy/v2",
        f"{URL}?tenant=1",
    ],
)
def test_a_webhook_to_a_path_that_the_receiver_does_not_serve_is_not_right(address: str) -> None:
    expected = replace(EXPECTED, url=address)
    assert found(hook(url=address), expected=expected) == [("all", "wrong_path")]


def test_a_proxy_may_put_a_prefix_before_the_receiver_s_path() -> None:
    address = "https://example.com/finance/webhooks/pluggy"
    assert found(hook(url=address), expected=replace(EXPECTED, url=address)) == [("all", "ok")]


def test_the_receiver_serves_the_path_that_is_expected() -> None:
    assert DELIVERY_PATH == RECEIVER_PATH


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, URL),
        (f"{URL}/{SECRET}", f"{URL}/***"),
        (f"{URL}/short", f"{URL}/***"),
        (
            "https://me:word@hooks.example.com:8443/x?token=1",
            "https://hooks.example.com:8443/x?***",
        ),
        (f"https://hooks.example.com/hook/{SECRET}", "https://hooks.example.com/hook/***"),
        (f"https://other.example.com/in/{SECRET}", "https://other.example.com/…"),
        ("https://other.example.com/", "https://other.example.com"),
        ("no address", None),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_secret(url: str, shown: str | None) -> None:
    (first, *_) = judge([hook(url=url)], EXPECTED)
    assert first.url == shown


def test_webhooks_of_other_systems_are_none_of_our_business() -> None:
    other = hook(url="https://staging.example.com/webhooks/pluggy", headers={})
    assert found(hook(), other) == [("all", "ok"), ("all", "elsewhere")]


@pytest.mark.parametrize(
    "fields",
    [{}, {"url": 7}, {"url": "https://["}, {"url": None, "headers": [], "event": {}, "id": 3}],
)
def test_a_webhook_that_cannot_be_read_goes_elsewhere(fields: dict[str, Any]) -> None:
    assert [state for _, state in found(read_subscription(fields), hook())] == ["elsewhere", "ok"]


def test_neither_url_nor_headers_show_in_a_repr() -> None:
    shown = repr((hook(url=f"{URL}/{SECRET}"), EXPECTED))
    assert SECRET not in shown
    assert OTHER_SECRET not in shown


# Over a real Pluggy (simulated), into the database.


@dataclass
class Hooks:
    """The webhooks of the application at the simulator."""

    stack: Stack
    key: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-API-KEY": self.key}
        status, _, answer = self.stack.simulator.call(method, path, body, headers)
        assert status == 200, answer
        return answer

    def add(self, event: str, url: str, headers: dict[str, str] | None = None) -> str:
        body = {"event": event, "url": url, "headers": headers}
        made: str = self.call("POST", "/webhooks", body)["id"]
        return made

    def clear(self) -> None:
        for listed in self.call("GET", "/webhooks")["results"]:
            self.call("DELETE", f"/webhooks/{listed['id']}")


@pytest.fixture
async def hooks(stack: Stack) -> AsyncIterator[Hooks]:
    keys = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
    _, _, answer = stack.simulator.call("POST", "/auth", keys)
    made = Hooks(stack, answer["apiKey"])
    made.clear()
    yield made
    made.clear()


async def look(stack: Stack, expected: Expected = EXPECTED) -> list[asyncpg.Record]:
    """Ten minutes later: check, and return the view."""
    await stack.db.execute(
        "UPDATE pluggy_sync.periodic_task_leases SET due_at = due_at - interval '10 minutes'"
    )
    assert await watch_subscriptions(stack.db, stack.client, expected)
    return await stack.db.fetch("SELECT * FROM pluggy_ops.subscriptions ORDER BY event, state")


async def test_what_is_wrong_is_shown_with_what_to_do(stack: Stack, hooks: Hooks) -> None:
    [missing] = await look(stack)
    assert (missing["event"], missing["state"]) == ("all", "missing")
    assert "pluggy-sync webhooks register" in missing["advice"]
    overview = await stack.db.fetchrow("SELECT * FROM pluggy_ops.overview")
    assert overview is not None
    assert overview["subscriptions_wrong"] == 1
    first = hooks.add("all", URL, RIGHT)
    [right] = await look(stack)
    assert (right["hook_id"], right["state"], right["advice"]) == (first, "ok", None)
    hooks.call("PATCH", f"/webhooks/{first}", {"headers": {"X-Webhook-Secret": "old"}})
    [wrong] = await look(stack)
    assert (wrong["state"], "WEBHOOK_SECRET" in wrong["advice"]) == ("wrong_secret", True)
    hooks.call("PATCH", f"/webhooks/{first}", {"headers": RIGHT, "enabled": False})
    [disabled] = await look(stack)
    assert disabled["state"] == "disabled"
    assert disabled["disabled_at"] is not None
    hooks.call("PATCH", f"/webhooks/{first}", {"enabled": True})
    hooks.add("item/updated", URL, RIGHT)
    hooks.add("all", "https://hooks.example.com/elsewhere")
    shown = await look(stack)
    assert [r["state"] for r in shown] == ["ok", "wrong_url", "double"]
    assert all(r["advice"] for r in shown if r["state"] != "ok")


async def test_what_is_wrong_stands_on_the_worklist_since_it_was_found(
    stack: Stack, hooks: Hooks
) -> None:
    [first] = await look(stack)
    [again] = await look(stack)
    assert again["since"] == first["since"]
    assert again["checked_at"] > first["checked_at"]
    [work] = await stack.db.fetch("SELECT * FROM pluggy_ops.worklist")
    assert (work["kind"], work["since"]) == ("subscription", first["since"])
    hooks.add("all", URL, RIGHT)
    await look(stack)
    assert await stack.db.fetch("SELECT * FROM pluggy_ops.worklist") == []


async def test_no_secret_is_stored_or_logged(stack: Stack, hooks: Hooks) -> None:
    hooks.add("all", f"{URL}/{SECRET}")
    hooks.add("item/updated", f"{URL}/{OTHER_SECRET}")
    hooks.add("item/error", URL, {"X-Webhook-Secret": "a-secret-that-we-do-not-know"})
    with capture_logs() as logs:
        shown = await look(stack)
    assert [r["state"] for r in shown] == ["ok", "wrong_secret", "double"]
    stored = await stack.db.fetch("SELECT * FROM pluggy_sync.subscriptions")
    text = f"{shown} {stored} {logs}"
    assert logs
    for secret in (SECRET, OTHER_SECRET, "a-secret-that-we-do-not-know", "webhooks/pluggy/"):
        assert secret not in text


async def test_one_worker_checks_every_ten_minutes(stack: Stack, hooks: Hooks) -> None:
    await stack.reset_requests()
    turns = [watch_subscriptions(stack.db, stack.client, EXPECTED) for _ in range(4)]
    assert sorted(await asyncio.gather(*turns)) == [False, False, False, True]
    assert not await watch_subscriptions(stack.db, stack.client, EXPECTED)
    assert (await stack.requests())["GET /webhooks"] == 1
    await look(stack)
    assert (await stack.requests())["GET /webhooks"] == 2


async def test_refused_deliveries_have_the_list_read_a_minute_after_the_last_time(
    stack: Stack, hooks: Hooks
) -> None:
    hooks.add("all", URL, RIGHT)
    await look(stack)
    await stack.db.execute(
        "INSERT INTO pluggy_sync.delivery_counts"
        " VALUES (date_trunc('minute', now()), 'item/updated', 'unauthorized', 1)"
    )
    assert not await watch_subscriptions(stack.db, stack.client, EXPECTED)
    await stack.db.execute(
        "UPDATE pluggy_sync.periodic_task_leases SET done_at = done_at - interval '61 seconds'"
        " WHERE name = 'subscriptions'"
    )
    assert await watch_subscriptions(stack.db, stack.client, EXPECTED)
    assert not await watch_subscriptions(stack.db, stack.client, EXPECTED)


async def test_a_list_that_cannot_be_read_leaves_what_was_found(stack: Stack, hooks: Hooks) -> None:
    hooks.add("all", URL, RIGHT)
    await look(stack)
    await stack.fault("GET /webhooks", kind="status", status=500)
    shown = {r["state"]: r for r in await look(stack)}
    assert set(shown) == {"ok", "unchecked"}
    assert "500" in shown["unchecked"]["advice"]
    assert {r["state"] for r in await look(stack)} == {"ok"}


async def test_a_worker_watches_where_the_webhook_url_is_set(
    stack: Stack, hooks: Hooks, database_url: str, redis_url: str
) -> None:
    hooks.add("all", URL, RIGHT)
    settings = {"WEBHOOK_URL": URL, "WEBHOOK_SECRET": f"{OTHER_SECRET}, {SECRET}"}

    async def watched() -> bool:
        found = await stack.db.fetch("SELECT state FROM pluggy_ops.subscriptions")
        return [record["state"] for record in found] == ["ok"]

    async with WorkerProcess(database_url, redis_url, stack.simulator.url, **settings) as worker:
        await until(watched, "the worker looks")
        worker.stop()
        assert await worker.ended() == 0
    assert SECRET not in "".join(worker.lines)


async def test_a_worker_without_webhook_url_asks_for_no_list(
    stack: Stack, hooks: Hooks, database_url: str, redis_url: str
) -> None:
    await stack.reset_requests()

    async def reconciled() -> bool:
        done = (
            "SELECT done_at IS NOT NULL FROM pluggy_sync.periodic_task_leases"
            " WHERE name = 'reconciliation'"
        )
        return bool(await stack.db.fetchval(done))

    async with WorkerProcess(database_url, redis_url, stack.simulator.url) as worker:
        await until(reconciled, "the worker runs its reconciliations")
        worker.stop()
        assert await worker.ended() == 0
    assert "GET /webhooks" not in await stack.requests()
    assert await stack.db.fetch("SELECT * FROM pluggy_ops.subscriptions") == []


async def test_all_pages_of_a_list_by_cursor_are_judged(stack: Stack, hooks: Hooks) -> None:
    paging = {"model": "cursor", "pageSize": 1}
    await stack.simulator.apost("/_simulator/lists", paging)
    try:
        for event in sorted(WANTED):
            hooks.add(event, URL, RIGHT)
        assert [record["state"] for record in await look(stack)] == ["ok"] * len(WANTED)
    finally:
        await stack.simulator.apost("/_simulator/lists", {"model": "page"})


async def test_a_list_that_may_go_on_shows_no_webhook_as_missing(
    stack: Stack, hooks: Hooks
) -> None:
    await stack.fault("GET /webhooks", kind="no_paging")
    [unchecked] = await look(stack)
    assert unchecked["state"] == "unchecked"
    assert "list_length_unknown" in unchecked["advice"]
    assert {record["state"] for record in await look(stack)} == {"missing"}
