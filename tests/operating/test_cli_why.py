"""`pluggy-sync why`: one transaction from its delivery to the row, and how it fails."""

from __future__ import annotations

import pytest

from tests.maintaining.test_restatements import link, restate
from tests.operating.test_cli import UNKNOWN, CommandLine, complaint
from tests.operating.test_deletion_review import with_flags
from tests.support.stack import Stack


@pytest.fixture
def cli(database_url: str, redis_url: str) -> CommandLine:
    return CommandLine({"DATABASE_URL": database_url, "REDIS_URL": redis_url})


async def test_a_restated_row_shows_its_webhook_its_run_and_what_counts_instead(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=30)
    old, new = await restate(stack, item["id"])
    await link(stack)
    shown = await cli.json("why", old)
    [row] = shown["rows"]
    assert (row["item_id"], row["id"]) == (item["id"], old)
    assert (row["state"], row["superseded_by"]) == ("deleted", new)
    [run] = shown["runs"]
    assert (run["id"], run["outcome"], run["kind"]) == (row["run_id"], "done", "sync")
    assert run["api_requests"] > 0
    assert {"transactions/deleted"} <= {event["event"] for event in shown["events"]}
    assert {event["state"] for event in shown["events"]} == {"applied"}
    [row] = (await cli.json("why", new))["rows"]
    assert (row["state"], row["supersedes"]) == ("live", old)


async def test_the_request_id_that_pluggy_s_support_asks_for_is_shown(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=10)
    before = set(await stack.live(item["id"]))
    await stack.fault("GET /v2/transactions", kind="novelty", times=1)
    await stack.update(item["id"], created=1)
    [new] = set(await stack.live(item["id"])) - before
    [run] = (await cli.json("why", new))["runs"]
    assert run["error_id"] is not None
    said = (await cli("why", new)).stdout
    assert run["error_id"] in said
    assert "amount" not in said


async def test_a_row_that_could_not_be_read_is_shown_with_its_reason(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=10)
    one = min(await stack.live(item["id"]))
    await stack.db.execute(
        "INSERT INTO pluggy_sync.rejected_rows (item_id, product, row_id, reason, body, run_id)"
        " SELECT item_id, 'transactions', id::text, 'wrong_type', '', run_id"
        " FROM pluggy.transactions WHERE id = $1",
        one,
    )
    await stack.db.execute("DELETE FROM pluggy.transactions WHERE id = $1", one)
    shown = await cli.json("why", one)
    assert shown["rows"] == []
    [rejected] = shown["rejected"]
    assert (rejected["item_id"], rejected["reason"]) == (item["id"], "wrong_type")
    assert [run["id"] for run in shown["runs"]] == [rejected["run_id"]]


async def test_a_webhook_that_names_an_unknown_row_is_found(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    old, _ = await restate(stack, item["id"])
    await stack.db.execute("DELETE FROM pluggy.transactions WHERE id = $1", old)
    shown = await cli.json("why", old)
    assert (shown["rows"], shown["rejected"], shown["runs"]) == ([], [], [])
    assert {event["event"] for event in shown["events"]} == {"transactions/deleted"}


async def test_a_pending_deletion_names_the_command_that_decides(
    cli: CommandLine, stack: Stack
) -> None:
    _, [one, *_] = await with_flags(stack)
    said = (await cli("why", str(one))).stdout
    assert f"decide: pluggy-sync deletions accept {one}" in said


async def test_an_id_that_nothing_names_is_said_to_be_unknown(
    cli: CommandLine, stack: Stack
) -> None:
    assert complaint(await cli("why", UNKNOWN)).startswith(
        f"no row, rejected row or webhook names transaction {UNKNOWN}"
    )
    assert (await cli("why", "no-uuid")).exit_code == 2
