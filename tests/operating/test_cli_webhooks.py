"""`pluggy-sync webhooks`: what it shows, corrects and creates at Pluggy, and how it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.maintaining.test_subscriptions import (
    EXPECTED,
    OTHER_SECRET,
    RIGHT,
    SECRET,
    URL,
    Hooks,
    hooks,
)
from tests.operating.test_cli import CommandLine, complaint, with_pluggy
from tests.support.stack import CLIENT_ID, Stack

__all__ = ["hooks"]
OLD = {"X-Webhook-Secret": "the-secret-of-last-year", "X-More": "1"}


@pytest.fixture
def cli(stack: Stack, database_url: str, redis_url: str) -> CommandLine:
    return with_pluggy(
        stack,
        database_url,
        redis_url,
        WEBHOOK_URL=EXPECTED.url,
        WEBHOOK_SECRET=f"{SECRET},{OTHER_SECRET}",
    )


def states(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(found["event"], found["state"]) for found in answer["webhooks"]]


async def test_one_webhook_for_everything_is_made(
    cli: CommandLine, stack: Stack, hooks: Hooks
) -> None:
    assert states(await cli.json("webhooks", "list")) == [("all", "missing")]
    answer = await cli.json("webhooks", "register", "--no-test")
    assert answer["done"] == [{"event": "all", "action": "created"}]
    assert states(answer) == [("all", "ok")]
    [made] = hooks.call("GET", "/webhooks")["results"]
    assert (made["event"], made["url"], made["headers"]) == ("all", URL, RIGHT)
    shown = await stack.db.fetchval("SELECT subscriptions_wrong FROM pluggy_ops.overview")
    assert shown == 0


async def test_registering_again_changes_nothing(cli: CommandLine, hooks: Hooks) -> None:
    await cli("webhooks", "register", "--no-test")
    before = hooks.call("GET", "/webhooks")["results"]
    assert "nothing to do" in (await cli("webhooks", "register", "--no-test")).stdout
    assert hooks.call("GET", "/webhooks")["results"] == before


async def test_ours_are_repaired_where_they_carry_the_secret(
    cli: CommandLine, hooks: Hooks
) -> None:
    in_header = hooks.add("item/all", URL, OLD)
    in_path = hooks.add("transactions/created", f"{URL}/the-secret-of-last-year")
    elsewhere = hooks.add("all", "https://other.example.com/hook", OLD)
    hooks.call("PATCH", f"/webhooks/{in_header}", {"enabled": False})
    answer = await cli.json("webhooks", "register", "--no-test")
    done = {(fix["event"], fix["action"]) for fix in answer["done"]}
    assert {("item/all", "repaired"), ("transactions/created", "repaired")} < done
    assert ("transactions/updated", "created") in done
    by_id = {hook["id"]: hook for hook in hooks.call("GET", "/webhooks")["results"]}
    assert by_id[in_header]["headers"] == OLD | RIGHT
    assert by_id[in_header]["disabledAt"] is None
    assert by_id[in_path]["url"] == f"{URL}/{SECRET}"
    assert by_id[elsewhere]["headers"] == OLD
    assert {state for _, state in states(answer)} == {"ok", "elsewhere"}


async def test_a_dry_run_of_register_changes_nothing(cli: CommandLine, hooks: Hooks) -> None:
    hooks.add("item/all", URL, OLD)
    before = hooks.call("GET", "/webhooks")["results"]
    shown = await cli("webhooks", "register", "--dry-run")
    assert "item/all: would be repaired" in shown.stdout
    assert hooks.call("GET", "/webhooks")["results"] == before


async def test_no_secret_is_shown(cli: CommandLine, hooks: Hooks) -> None:
    hooks.add("item/all", f"{URL}/{OLD['X-Webhook-Secret']}", OLD)
    for command in ("list", "register"):
        for form in ((), ("--json",)):
            output = (await cli("webhooks", command, *form)).output
            assert not [s for s in (SECRET, OTHER_SECRET, OLD["X-Webhook-Secret"]) if s in output]


async def test_nothing_is_registered_where_the_receiver_does_not_answer(
    cli: CommandLine, hooks: Hooks
) -> None:
    wrong = "https://hooks.example.com/pluggy"
    refused = complaint(await cli("webhooks", "register", "--no-test", WEBHOOK_URL=wrong))
    assert "has to end in /webhooks/pluggy" in refused
    assert wrong in refused
    assert hooks.call("GET", "/webhooks")["results"] == []
    hooks.add("all", wrong, RIGHT)
    listed = await cli("webhooks", "list", "--json", WEBHOOK_URL=wrong)
    assert states(json.loads(listed.stdout)) == [("all", "wrong_path")]


async def test_the_address_of_each_webhook_is_shown(cli: CommandLine, hooks: Hooks) -> None:
    hooks.add("all", f"{URL}/{SECRET}")
    hooks.add("all", "https://hooks.example.com/pluggy", RIGHT)
    shown = {found["url"] for found in (await cli.json("webhooks", "list"))["webhooks"]}
    assert shown == {f"{URL}/***", "https://hooks.example.com/pluggy"}


async def test_what_is_missing_or_refused_is_said(cli: CommandLine, hooks: Hooks) -> None:
    assert "WEBHOOK_URL" in complaint(await cli("webhooks", "list", WEBHOOK_URL=""))
    assert "WEBHOOK_SECRET" in complaint(
        await cli("webhooks", "register", "--no-test", WEBHOOK_SECRET="")
    )
    literal = "https://10.0.0.1/webhooks/pluggy"
    refused = complaint(await cli("webhooks", "register", "--no-test", WEBHOOK_URL=literal))
    assert "400" in refused
    assert "https" in refused
    foreign = complaint(await cli("webhooks", "list", PLUGGY_CLIENT_ID=CLIENT_ID[::-1]))
    assert "another Pluggy application" in foreign
