"""`pluggy-sync items`, `connect-token` and `connectors`: lists, progress, changes at Pluggy."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.operating.test_cli import UNKNOWN, CommandLine, complaint, with_pluggy
from tests.support.stack import Stack

SECRET = "a-secret-of-the-webhooks"  # noqa: S105 - nobody listens for it


@pytest.fixture
def cli(stack: Stack, database_url: str, redis_url: str) -> CommandLine:
    return with_pluggy(
        stack,
        database_url,
        redis_url,
        WEBHOOK_URL="https://hooks.example.com/webhooks/pluggy",
        WEBHOOK_SECRET=SECRET,
    )


async def listed(cli: CommandLine, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await cli.json("items", "list", *options))["items"]
    return found


async def test_items_are_listed_by_user_bank_state_and_party(
    cli: CommandLine, stack: Stack
) -> None:
    ana = await stack.synced_item(transactions=5, connectorId=600, clientUserId="ana")
    bia = await stack.synced_item(transactions=5, connectorId=2, clientUserId="bia")
    await stack.update(bia["id"], status="LOGIN_ERROR")
    ids = {item["item_id"]: item for item in await listed(cli)}
    assert set(ids) == {ana["id"], bia["id"]}
    assert (ids[ana["id"]]["state"], ids[ana["id"]]["blocked_on"]) == ("fresh", [])
    wrong = ids[bia["id"]]
    assert (wrong["state"], wrong["reason"], wrong["blocked_on"]) == (
        "stale",
        "login_error",
        ["user"],
    )
    for options, item in (
        (["--user", "ana"], ana),
        (["--connector", "2"], bia),
        (["--state", "fresh"], ana),
        (["--stale"], bia),
        (["--blocked-on", "user"], bia),
    ):
        assert [found["item_id"] for found in await listed(cli, *options)] == [item["id"]], options
    assert await listed(cli, "--blocked-on", "bank") == []
    assert len(await listed(cli, "--limit", "1")) == 1
    assert "ana" not in (await cli("items", "list")).output
    # One product of many decides.
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET stale_reason = 'empty_answer'"
        " WHERE item_id = $1 AND product = 'loans'",
        ana["id"],
    )
    [one] = await listed(cli, "--user", "ana")
    assert (one["state"], one["reason"]) == ("stale", "empty_answer")


async def test_what_is_exported_can_be_imported(
    cli: CommandLine, stack: Stack, tmp_path: Path
) -> None:
    made = {(await stack.synced_item(transactions=5))["id"] for _ in range(2)}
    header, *lines = (await cli("items", "export")).stdout.splitlines()
    assert (header, set(lines)) == ("itemId", made)
    document = tmp_path / "items.json"
    document.write_text((await cli("items", "export", "--json")).stdout, encoding="utf-8")
    first = await cli.json("items", "import", str(document))
    assert {line["item_id"] for line in first["lines"]} == made
    again = await cli.json("items", "import", str(document))
    assert (again["accepted"], again["duplicate"]) == (0, 2)


@pytest.mark.parametrize(
    ("document", "statuses"),
    [
        (
            json.dumps([UNKNOWN, {"itemId": UNKNOWN}, {"id": 1}]),
            ["accepted", "duplicate", "refused"],
        ),
        ('["unfinished"', ["refused"]),
        ('\n{"items": []}', []),
    ],
)
async def test_a_json_list_is_imported(
    cli: CommandLine, document: str, statuses: list[str]
) -> None:
    bad = int("refused" in statuses)
    result = await cli("items", "import", "-", "--json", given=document)
    assert result.exit_code == bad
    assert [line["status"] for line in json.loads(result.stdout)["lines"]] == statuses


async def test_show_waits_until_all_is_read_and_says_how_far_it_is(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.item(transactions=50)
    await stack.tell("item/created", item["id"])
    shown = asyncio.create_task(cli("items", "show", item["id"], "--wait", "--json"))
    await stack.quiet()
    result = await shown
    assert result.exit_code == 0, result.output
    # The worker of the test logs to the same output.
    [document] = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert {row["state"] for row in json.loads(document)["freshness"]} == {"fresh"}
    await stack.tell("item/updated", item["id"])
    late = await cli("items", "show", item["id"], "--wait", "--timeout", "0")
    progress, failure = late.stderr.splitlines()
    assert progress.endswith("waits for a worker")
    assert failure == f"pluggy-sync: still under way after 0 s: {progress}"


async def test_show_ends_with_what_is_not_fresh(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.update(item["id"], status="LOGIN_ERROR")
    result = await cli("items", "show", item["id"], "--wait")
    assert result.exit_code == 1
    assert "not fresh: accounts login_error" in result.stderr


async def test_show_prints_the_rows_of_a_product(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=60)
    show = ("items", "show", item["id"], "--product", "transactions")
    rows = (await cli.json(*show))["transactions"]
    assert {row["id"] for row in rows} == set(await stack.live(item["id"]))
    lines = (await cli(*show)).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]
    bills = (await cli.json("items", "show", item["id"], "--product", "bills"))["bills"]
    assert {row["id"] for row in bills} == set(await stack.live(item["id"], "bills"))
    refused = await cli("items", "show", UNKNOWN, "--product", "loans")
    assert refused.exit_code == 1
    assert "nothing is known of item" in complaint(refused)


async def test_a_webhook_of_an_item_is_set_and_shown_without_its_secret(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=5)
    changed = await cli("items", "set-webhook", item["id"])
    assert changed.exit_code == 0, changed.output
    await stack.process("item/updated", item["id"])
    [at_pluggy] = (await stack.truth(item["id"], "items")).values()
    assert at_pluggy["webhookUrl"] == f"https://hooks.example.com/webhooks/pluggy/{SECRET}"
    shown = await cli("items", "show", item["id"], "--json")
    url = json.loads(shown.stdout)["item"]["webhook_url"]
    assert url == "https://hooks.example.com/webhooks/pluggy/***"
    assert SECRET not in changed.output + shown.output


async def test_an_update_is_asked_for_and_its_refusal_explained(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=5)
    assert (await cli.json("items", "update", item["id"]))["item"]["status"] == "UPDATING"
    assert "a collection is under way" in complaint(await cli("items", "update", item["id"]))
    own = await stack.item(connectorId=200)
    assert "meu.pluggy.ai" in complaint(await cli("items", "update", own["id"]))
    unknown = complaint(await cli("items", "update", UNKNOWN))
    assert unknown == "Pluggy does not know it (404:ITEM_NOT_FOUND)"


REFUSED_UPDATES = {
    "CLIENT_IS_UPDATING_BEFORE_ALLOWED_FREQUENCY": (
        409,
        {"minUpdateFrequencyAllowedInHours": 24, "lastUpdatedAt": "2026-01-01T10:30:00.000Z"},
        "every 24 hours at most; it was collected at 2026-01-01 10:30Z: ask again from"
        " 2026-01-02 10:30Z on; when Pluggy collects it by itself stands in:"
        " pluggy-sync items show {item}",
    ),
    "TOO_MANY_CONSECUTIVE_LOGIN_FAILURES": (
        400,
        {"canRetryAfterDate": "2026-01-01T00:15:00.000Z"},
        "too many logins have failed; from 2026-01-01 00:15Z on the person has to connect again:"
        " pluggy-sync connect-token --item {item}",
    ),
    "LAST_EXECUTION_HAD_LOGIN_ERROR": (
        400,
        None,
        "its last login failed; the person has to connect again:"
        " pluggy-sync connect-token --item {item}",
    ),
}
"""Documented answers to PATCH /items/{id}, without what the message repeats."""


@pytest.mark.parametrize("code", REFUSED_UPDATES)
async def test_a_refused_update_says_what_to_do_and_from_when_on(
    cli: CommandLine, stack: Stack, code: str
) -> None:
    item = await stack.item(transactions=5)
    status, data, advice = REFUSED_UPDATES[code]
    body = {"code": status, "codeDescription": code, "message": "no", "data": data}
    await stack.refuse("PATCH /items", status, body=body)
    said = complaint(await cli("items", "update", item["id"]))
    assert said.endswith(f"{advice.format(item=item['id'])} ({status}:{code})"), said


@pytest.mark.parametrize("data", [None, [], {"minUpdateFrequencyAllowedInHours": "soon"}])
async def test_a_pause_without_its_hours_is_explained_all_the_same(
    cli: CommandLine, stack: Stack, data: object
) -> None:
    item = await stack.item(transactions=5)
    code = "CLIENT_IS_UPDATING_BEFORE_ALLOWED_FREQUENCY"
    await stack.refuse("PATCH /items", 409, body={"codeDescription": code, "data": data})
    said = complaint(await cli("items", "update", item["id"]))
    assert said.startswith("the pause that Pluggy asks for between two updates has not passed"), (
        said
    )


async def test_a_refusal_without_a_code_is_not_always_of_meupluggy(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.item(transactions=5)
    await stack.refuse("PATCH /items", 400, body={"code": 400, "message": "webhookUrl is no URL"})
    said = complaint(await cli("items", "set-webhook", item["id"], "--url", "https://x.example"))
    assert said.startswith("Pluggy has answered 400:no_code, request "), said


async def test_a_list_without_ids_says_what_a_list_is(cli: CommandLine) -> None:
    empty = await cli("items", "import", "-", given="itemId\n")
    assert (empty.exit_code, empty.stderr) == (
        0,
        "pluggy-sync: warning: the list names no item\n",
    )
    other = await cli("items", "import", "-", given="id,name\n1,x\n")
    assert complaint(other).startswith("2 of 2 lines were refused: one id a line, a CSV with a col")
    assert complaint(await cli("items", "register", "")) == "1 of 1 line was refused"


async def test_an_argument_that_is_not_utf_8_is_said_so(cli: CommandLine) -> None:
    for command in (("items", "list", "--user"), ("connectors", "list", "--name")):
        assert complaint(await cli(*command, "\udcff")) == "an argument is not UTF-8 text"


async def test_the_auto_sync_is_stopped_only_if_confirmed(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    assert (await cli("items", "disable-auto-sync", item["id"], given="n\n")).exit_code == 1
    [before] = (await stack.truth(item["id"], "items")).values()
    assert before["nextAutoSyncAt"] is not None
    done = await cli.json("items", "disable-auto-sync", item["id"], "--yes")
    assert done["item"]["nextAutoSyncAt"] is None


async def test_an_id_that_pluggy_does_not_know_is_refused(cli: CommandLine, stack: Stack) -> None:
    result = await cli("items", "register", UNKNOWN)
    assert complaint(result) == "1 of 1 line was refused"
    assert f"line 1: {UNKNOWN} refused (Pluggy does not know it)" in result.stdout
    said = complaint(await cli("resync", UNKNOWN))
    assert said == f"Pluggy does not know it: {UNKNOWN}; nothing is ordered"
    assert await stack.events(UNKNOWN) == []


async def test_an_item_is_registered_also_while_pluggy_does_not_answer(
    cli: CommandLine, stack: Stack
) -> None:
    await stack.refuse("GET /items", 500)
    result = await cli("items", "register", UNKNOWN)
    assert result.exit_code == 0, result.output
    assert "warning: Pluggy cannot be asked" in result.stderr
    assert await stack.states(UNKNOWN) == ["pending"]


async def test_delete_ends_what_a_typo_has_left(cli: CommandLine, stack: Stack) -> None:
    typo = str(uuid.uuid4())
    await stack.process("item/updated", typo)
    work = "SELECT count(*) FROM pluggy_ops.worklist"
    assert await stack.db.fetchval(work) == 1
    done = await cli.json("items", "delete", typo, "--yes")
    assert (done["deleted_at_pluggy"], done["stored"]) == (False, False)
    await stack.quiet()
    assert await stack.db.fetchval(work) == 0


async def test_a_connect_token_carries_its_options(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    made = await cli.json(
        *("connect-token", "--user", "ana", "--avoid-duplicates", "--item", item["id"]),
        *("--webhook-url", "https://a.example.com/x", "--oauth-redirect-uri", "https://b.example"),
    )
    claims = made["accessToken"].split(".")[1]
    read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert read["itemId"] == item["id"]
    assert read["options"] == {
        "clientUserId": "ana",
        "webhookUrl": "https://a.example.com/x",
        "avoidDuplicates": True,
        "oauthRedirectUri": "https://b.example",
    }
    assert (await cli("connect-token")).stdout.count(".") == 2
    assert "Pluggy does not know it" in complaint(await cli("connect-token", "--item", UNKNOWN))


async def test_connectors_are_listed_with_their_health(cli: CommandLine) -> None:
    usual = (await cli.json("connectors", "list"))["connectors"]
    everything = (await cli.json("connectors", "list", "--sandbox"))["connectors"]
    assert not any(row["sandbox"] for row in usual)
    assert len(everything) > len(usual) > 0
    assert {row["health"] for row in usual} == {"ONLINE"}
    assert {row["connection_rate"] for row in usual} == {0.98}
    some = (await cli.json("connectors", "list", "--open-finance", "--name", "a"))["connectors"]
    assert all(row["open_finance"] and "a" in row["name"].lower() for row in some)
    assert (await cli.json("connectors", "list", "--payments"))["connectors"] == []
    assert "none" in (await cli("connectors", "list", "--country", "XX")).stderr


async def test_verify_reads_an_item_fully_and_shows_what_differed(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=60)
    await stack.db.execute(
        "DELETE FROM pluggy.transactions WHERE id IN (SELECT id FROM pluggy.transactions LIMIT 3)"
    )
    asked = asyncio.create_task(cli("verify", item["id"], "--json"))
    while not asked.done():
        await stack.quiet()
        await asyncio.sleep(0)
    result = await asked
    assert result.exit_code == 0, result.output
    [document] = [line for line in result.stdout.splitlines() if line.startswith("{")]
    said = json.loads(document)
    assert said["items"] == [{"item_id": item["id"], "state": "applied"}]
    assert sum(row["inserted"] for row in said["drift"]) == 3
    late = await cli("verify", item["id"], "--timeout", "0")
    assert late.exit_code == 1
    assert f"not verified: {item['id']}; see: items show" in late.stderr
    unknown = complaint(await cli("verify", UNKNOWN))
    assert unknown == f"Pluggy does not know it: {UNKNOWN}; nothing is ordered"
