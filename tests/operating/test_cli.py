"""The command line: what it stores, its output, and how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from click.testing import CliRunner, Result

from ops.cli.main import main
from tests.support.stack import CLIENT_ID, CLIENT_SECRET, TABLES, Stack
from tests.support.wakes import woken
from worker.infra.postgres import Pool
from worker.maintenance.installation import check_installation

NOWHERE = "postgresql://someone:hunter2@127.0.0.1:1/nowhere"
UNKNOWN = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs commands in this process, in a thread: each has an event loop of its own."""

    environment: dict[str, str]

    async def __call__(self, *arguments: str, given: str | None = None, **changes: str) -> Result:
        # The caller's environment does not count.
        ours = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "PLUGGY_CLIENT_ID", "LOG_LEVEL"))
        environment: dict[str, str | None] = {**ours, **self.environment, **changes}
        return await asyncio.to_thread(
            CliRunner().invoke, main, list(arguments), input=given, env=environment
        )

    async def json(self, *arguments: str, status: int = 0, given: str | None = None) -> Any:
        """What a command prints with --json."""
        result = await self(*arguments, "--json", given=given)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)


@pytest.fixture
def cli(database_url: str, redis_url: str) -> CommandLine:
    return CommandLine({"DATABASE_URL": database_url, "REDIS_URL": redis_url})


def with_pluggy(stack: Stack, database_url: str, redis_url: str, **more: str) -> CommandLine:
    """Commands that talk to the simulated Pluggy too."""
    return CommandLine(
        {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "PLUGGY_CLIENT_ID": CLIENT_ID,
            "PLUGGY_CLIENT_SECRET": CLIENT_SECRET,
            "PLUGGY_BASE_URL": stack.simulator.url,
            **more,
        }
    )


def complaint(result: Result, *, status: int = 1) -> str:
    """The one line that a failed command says."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    [line] = result.stderr.splitlines()
    assert line.startswith("pluggy-sync: ")
    return line.removeprefix("pluggy-sync: ")


async def test_migrate_brings_a_database_up_to_date_once(
    empty_database_url: str, redis_url: str
) -> None:
    cli = CommandLine({"DATABASE_URL": empty_database_url, "REDIS_URL": redis_url})
    said = complaint(await cli("status"), status=3)
    assert said == ("the database is not migrated: run pluggy-sync migrate (postgres_not_migrated)")
    first = await cli.json("migrate")
    assert first["applied"][-1] == "views"
    assert await cli.json("migrate") == {"applied": [], "adopted": False}
    assert (await cli("migrate")).stdout == "the database is up to date\n"


async def test_migrate_goes_around_the_pooler(empty_database_url: str) -> None:
    cli = CommandLine({"DATABASE_URL": NOWHERE, "DATABASE_DIRECT_URL": empty_database_url})
    assert (await cli.json("migrate"))["applied"]
    cli = CommandLine({"DATABASE_URL": empty_database_url, "DATABASE_DIRECT_URL": NOWHERE})
    assert "does not answer at DATABASE_DIRECT_URL" in complaint(await cli("migrate"))


async def test_migrate_adopt_takes_the_database_over(cli: CommandLine, db: Pool) -> None:
    await check_installation(db, CLIENT_ID, "https://api.pluggy.ai")
    another = str(uuid.uuid4())
    result = await cli(
        "migrate", "--adopt", PLUGGY_CLIENT_ID=another, PLUGGY_BASE_URL="https://api.example"
    )
    assert result.exit_code == 0, result.output
    await check_installation(db, another, "https://api.example")


async def test_migrate_adopt_changes_nothing_without_a_client_id(
    empty_database_url: str, db: Pool
) -> None:
    cli = CommandLine({"DATABASE_URL": empty_database_url})
    assert complaint(await cli("migrate", "--adopt")) == "PLUGGY_CLIENT_ID is not set"
    said = complaint(await cli("status"), status=3)
    assert said.startswith("the database is not migrated")


async def test_a_registered_item_is_due_at_once_and_wakes_a_worker(
    cli: CommandLine, db: Pool, redis: ArqRedis
) -> None:
    item_id = str(uuid.uuid4())
    answer = await cli.json("items", "register", item_id)
    assert answer == {
        "accepted": 1,
        "duplicate": 0,
        "refused": 0,
        "lines": [{"line": 1, "item_id": item_id, "status": "accepted", "reason": None}],
    }
    due = await db.fetchrow(
        "SELECT lane, run_at <= now() AS due FROM pluggy_sync.item_sync WHERE item_id = $1", item_id
    )
    assert due is not None
    assert (due["lane"], due["due"]) == (0, True)
    assert len(await woken(redis)) == 1


async def test_registering_again_is_a_duplicate_and_no_work(
    cli: CommandLine, db: Pool, redis: ArqRedis
) -> None:
    item_id = str(uuid.uuid4())
    await cli.json("items", "register", item_id)
    assert (await cli.json("items", "register", item_id, item_id))["duplicate"] == 2
    assert await db.fetchval("SELECT sum(generation) FROM pluggy_sync.item_sync") == 1
    assert len(await woken(redis)) == 1


async def test_an_id_that_is_no_uuid_is_refused_and_the_others_are_registered(
    cli: CommandLine, db: Pool, redis: ArqRedis
) -> None:
    item_id = str(uuid.uuid4())
    result = await cli("items", "register", "nonsense", item_id)
    assert complaint(result) == "1 of 2 lines were refused"
    assert result.stdout.splitlines() == [
        "line 1: nonsense refused (no UUID)",
        f"line 2: {item_id} accepted",
        "1 accepted, 0 duplicate, 1 refused",
    ]
    assert await db.fetchval("SELECT count(*) FROM pluggy_sync.item_sync") == 1


async def test_without_redis_an_item_is_registered_with_a_warning(
    cli: CommandLine, db: Pool
) -> None:
    result = await cli("items", "register", str(uuid.uuid4()), REDIS_URL="redis://127.0.0.1:1")
    assert result.exit_code == 0, result.output
    assert "warning" in result.stderr
    assert (
        await db.fetchval("SELECT count(*) FROM pluggy_sync.item_sync WHERE run_at <= now()") == 1
    )


ONE, TWO, THREE = (f"0000000{n}-0000-4000-8000-000000000000" for n in (1, 2, 3))


@pytest.mark.parametrize(
    "listed",
    [
        f"{ONE}\n\nbad\n{TWO}\n{ONE}\n",
        f"\ufeff{ONE}\r\n\r\nbad\r\n{TWO.upper()}\r\n{ONE}\r\n",
        f"itemId\n{ONE}\nbad\n{TWO}\n{ONE}\n",
        f'name,itemId\nA,{ONE}\nB,bad\n"C, D",{TWO}\nE,{ONE}\n',
        f"itemId;nome\n{ONE};Açaí\nbad;x\n{TWO};y\n{ONE};z",
    ],
    ids=["lines", "windows", "one column", "csv", "semicolons"],
)
async def test_import_reads_a_list_whichever_form_it_has(
    cli: CommandLine, db: Pool, tmp_path: Path, listed: str
) -> None:
    path = tmp_path / "items"
    path.write_text(listed, encoding="utf-8", newline="")
    answer = await cli.json("items", "import", str(path), status=1)
    statuses = [(line["item_id"], line["status"]) for line in answer["lines"]]
    assert [status for _, status in statuses] == ["accepted", "refused", "accepted", "duplicate"]
    assert [item_id for item_id, _ in statuses if item_id in (ONE, TWO)] == [ONE, TWO, ONE]
    lanes = await db.fetch("SELECT lane FROM pluggy_sync.item_sync")
    assert [record["lane"] for record in lanes] == [2, 2]


async def test_import_names_the_numbers_of_bad_lines(cli: CommandLine) -> None:
    listed = f"{ONE}\n\nbad\n{TWO},{THREE}\n"
    result = await cli("items", "import", "-", given=listed)
    assert "2 of 3 lines were refused" in complaint(result)
    assert "line 3: bad refused (no UUID)" in result.stdout
    assert f"line 4: {TWO},{THREE} refused (no UUID)" in result.stdout


async def test_import_stores_more_than_one_group(cli: CommandLine, db: Pool) -> None:
    listed = "\n".join(str(uuid.uuid4()) for _ in range(1203))
    assert (await cli.json("items", "import", "-", given=listed))["accepted"] == 1203
    assert await db.fetchval("SELECT count(*) FROM pluggy_sync.item_sync") == 1203


async def test_import_of_nothing_is_no_error(cli: CommandLine) -> None:
    empty = {"accepted": 0, "duplicate": 0, "refused": 0, "lines": []}
    assert await cli.json("items", "import", "-", given="\n \n") == empty


async def test_show_prints_what_is_stored_and_how_fresh_it_is(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=60, connectorId=600)
    shown = await cli.json("items", "show", item["id"])
    assert shown["item"]["status"] == "UPDATED"
    assert shown["item"]["run_at"] is None
    stored = {row["entity"]: (row["live"], row["deleted"]) for row in shown["rows"]}
    assert stored == {table: (len(await stack.truth(item["id"], table)), 0) for table in TABLES}
    fresh = {(row["product"], row["scope_id"] is None): row["state"] for row in shown["freshness"]}
    assert fresh["accounts", True] == "fresh"
    assert fresh["transactions", False] == "fresh"
    assert shown["walks"] == []
    assert shown["open_events"] == []


async def test_show_prints_nothing_personal(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, clientUserId="anna@example.com")
    result = await cli("items", "show", item["id"])
    assert result.exit_code == 0, result.output
    assert item["id"] in result.stdout
    said = result.stdout + json.dumps(await cli.json("items", "show", item["id"]))
    assert "anna@example.com" not in said
    for account in (await stack.truth(item["id"], "accounts")).values():
        for name in ("owner", "taxNumber", "number", "name"):
            assert not account[name] or account[name] not in said


async def test_show_prints_what_is_still_to_be_done(cli: CommandLine, stack: Stack) -> None:
    item = await stack.item(transactions=60)
    await stack.tell("item/created", item["id"])
    shown = await cli.json("items", "show", item["id"])
    assert [event["event"] for event in shown["open_events"]] == ["item/created"]
    assert shown["item"]["lane"] == "live"
    assert shown["item"]["generation"] > shown["item"]["done_generation"]


async def test_show_of_an_unknown_item_fails(cli: CommandLine) -> None:
    said = complaint(await cli("items", "show", UNKNOWN))
    assert said == f"nothing is known of item {UNKNOWN}; register it first"


async def test_status_shows_the_light_the_backlog_and_the_lag(
    cli: CommandLine, stack: Stack
) -> None:
    await stack.synced_item(transactions=20)
    await cli.json("items", "register", UNKNOWN)
    said = await cli.json("status", status=2)
    assert said["overview"]["light"] == "red"
    assert "No worker is alive" in said["overview"]["sentence"]
    assert said["findings"][0]["kind"] == "no_worker"
    assert {row["lane"]: row["due"] for row in said["backlog"]}["live"] == 1
    [lag] = [row for row in said["lag"] if row["event"] == "item/created"]
    assert 0 < lag["p50_ms"] <= lag["p99_ms"]
    shown = (await cli("status")).stdout
    assert "No worker is alive" in shown
    assert "backfill" in shown
    assert "item/created" in shown


async def dead_item(stack: Stack) -> str:
    """An item whose only event has died: Pluggy knows nothing of it."""
    item_id = str(uuid.uuid4())
    await stack.process("item/updated", item_id)
    assert await stack.states(item_id) == ["dead"]
    return item_id


async def test_status_says_that_redis_is_away(cli: CommandLine) -> None:
    result = await cli("status", REDIS_URL="redis://127.0.0.1:1")
    assert result.exit_code == 2  # for there is no worker
    assert "redis_outage" in result.stdout
    assert "warning: Redis does not answer at REDIS_URL" in result.stderr
    assert "Redis" not in (await cli("status")).stderr


async def test_dead_letters_are_listed_with_their_reason(cli: CommandLine, stack: Stack) -> None:
    first, second = await dead_item(stack), await dead_item(stack)
    listed = (await cli.json("dead-letters", "list"))["dead_letters"]
    assert [row["item_id"] for row in listed] == [first, second]
    [reason] = {row["reason"] for row in listed}
    assert reason == "404:ITEM_NOT_FOUND"
    of_second = (await cli.json("dead-letters", "list", "--item", second))["dead_letters"]
    assert [row["item_id"] for row in of_second] == [second]
    assert len((await cli.json("dead-letters", "list", "--reason", reason))["dead_letters"]) == 2
    assert (await cli.json("dead-letters", "list", "--reason", "other"))["dead_letters"] == []
    assert len((await cli.json("dead-letters", "list", "--limit", "1"))["dead_letters"]) == 1
    assert reason in (await cli("dead-letters", "list")).stdout


async def test_a_requeued_event_is_applied_once_its_cause_is_fixed(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.simulator.apost(
        "/_simulator/faults",
        {"match": "GET /accounts", "kind": "status", "status": 422, "codeDescription": "X"}
        | {"item": item["id"], "rate": 1.0},
    )
    await stack.collect(item["id"], created=2)
    await stack.shift(timedelta(hours=1))
    await stack.process("item/updated", item["id"])
    assert await stack.states(item["id"]) == ["applied", "dead"]
    await stack.clear_faults()
    [row] = (await cli.json("dead-letters", "list"))["dead_letters"]
    answer = await cli.json("dead-letters", "requeue", str(row["id"]))
    assert [requeued["id"] for requeued in answer["requeued"]] == [row["id"]]
    await stack.quiet()
    assert await stack.states(item["id"]) == ["applied", "applied"]
    await stack.assert_equal(item["id"])


async def test_a_dead_letter_shows_what_was_tried_how_often_and_when(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.simulator.apost(
        "/_simulator/faults",
        {"match": "GET /accounts", "kind": "status", "status": 500, "item": item["id"]}
        | {"rate": 1.0},
    )
    await stack.collect(item["id"], created=1)
    await stack.tell("item/updated", item["id"])
    for _ in range(6):
        await stack.quiet()
        await stack.shift(timedelta(hours=20))
    [row] = (await cli.json("dead-letters", "list"))["dead_letters"]
    assert row["failure_class"] == "retry"
    assert row["reason"].startswith("500")
    assert row["advice"] == "Tried for three days: requeue it when the cause is fixed."
    assert row["attempts"] >= 4
    assert row["error_id"]
    first, last = [datetime.fromisoformat(row[f"{n}_failed_at"]) for n in ("first", "last")]
    assert last - first >= timedelta(days=3)
    await dead_item(stack)
    refused = await cli.json("dead-letters", "list", "--reason", "404:ITEM_NOT_FOUND")
    [row] = refused["dead_letters"]
    assert (row["failure_class"], row["attempts"]) == ("reject", 1)
    assert row["advice"].startswith("Pluggy does not know the item")


async def test_requeue_makes_the_item_due_and_wakes_a_worker(
    cli: CommandLine, stack: Stack, redis: ArqRedis
) -> None:
    item_id = await dead_item(stack)
    before = await stack.db.fetchrow("SELECT * FROM pluggy_sync.item_sync")
    assert before is not None
    await cli.json("dead-letters", "requeue", "--item", item_id)
    after = await stack.db.fetchrow("SELECT *, run_at <= now() AS due FROM pluggy_sync.item_sync")
    assert after is not None
    assert after["generation"] == before["generation"] + 1
    assert (after["due"], after["lane"]) == (True, 0)
    [event] = await stack.events(item_id)
    assert (event["state"], event["reason"], event["settled_at"]) == ("pending", None, None)
    assert event["pending_since"] > event["accepted_at"]
    assert len(await woken(redis)) == 1


async def test_a_dry_run_of_requeue_changes_nothing(cli: CommandLine, stack: Stack) -> None:
    item_id = await dead_item(stack)
    answer = await cli.json("dead-letters", "requeue", "--all", "--dry-run")
    assert [row["item_id"] for row in answer["requeued"]] == [item_id]
    assert answer["dry_run"] is True
    assert await stack.states(item_id) == ["dead"]


async def test_requeue_takes_only_what_is_chosen(cli: CommandLine, stack: Stack) -> None:
    first, second, third = [await dead_item(stack) for _ in range(3)]
    await cli.json("dead-letters", "requeue", "--reason", "404:ITEM_NOT_FOUND", "--item", second)
    assert [await stack.states(i) for i in (first, second, third)] == [
        ["dead"], ["pending"], ["dead"],
    ]  # fmt: skip
    await cli.json("dead-letters", "requeue", "--reason", "404:ITEM_NOT_FOUND")
    assert await stack.states(third) == ["pending"]


async def test_dead_letters_are_chosen_by_their_connector(cli: CommandLine, stack: Stack) -> None:
    of_connector, unknown = await stack.synced_item(transactions=5), await dead_item(stack)
    connector = await stack.db.fetchval(
        "SELECT connector_id FROM pluggy.items WHERE id = $1", of_connector["id"]
    )
    await stack.db.execute("UPDATE pluggy_sync.webhook_events SET state = 'dead', reason = 'X'")
    of_it = ["--connector", str(connector)]
    [listed] = (await cli.json("dead-letters", "list", *of_it))["dead_letters"]
    assert listed["item_id"] == of_connector["id"]
    answer = await cli.json("dead-letters", "requeue", *of_it, "--reason", "Y")
    assert answer["requeued"] == []
    await cli.json("dead-letters", "requeue", *of_it)
    assert await stack.states(of_connector["id"]) == ["pending"]
    assert await stack.states(unknown) == ["dead"]


async def test_requeue_of_what_is_not_dead_says_so_and_does_the_rest(
    cli: CommandLine, stack: Stack
) -> None:
    item_id = await dead_item(stack)
    [event] = await stack.events(item_id)
    answer = await cli.json("dead-letters", "requeue", str(event["id"]), "4711", status=1)
    assert answer["not_dead"] == [4711]
    assert await stack.states(item_id) == ["pending"]
    assert "4711" in complaint(await cli("dead-letters", "requeue", "4711"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["dead-letters", "requeue"],
        ["dead-letters", "requeue", "1", "--all"],
        ["dead-letters", "requeue", "--all", "--item", UNKNOWN],
        ["dead-letters", "requeue", "one"],
        ["dead-letters", "requeue", str(2**63)],
        ["dead-letters", "requeue", "--all", "--connector", "201"],
        ["dead-letters", "list", "--connector", str(2**31)],
        ["dead-letters", "list", "--limit", str(2**63)],
        ["resync", "--connector", str(2**31)],
        ["resync", "--since", "2026-02-01", "--until", "2026-01-01"],
        ["resync", "--since", "0001-01-01T00:00:00+10:00"],
        ["items", "register"],
        ["items", "show", "nonsense"],
        ["items", "import", "/nowhere/at/all"],
        ["items", "import"],
        ["items", "import", "-", "--from-pluggy"],
        ["demo", "--items", "0"],
        ["unheard-of"],
    ],
    ids=" ".join,
)
async def test_wrong_usage_exits_with_2(cli: CommandLine, arguments: list[str]) -> None:
    result = await cli(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "DATABASE_URL is not set"),
        (NOWHERE, "Postgres does not answer at DATABASE_URL"),
        ("http://someone:hunter2@nowhere/db", "DATABASE_URL: cannot be read"),
        ("postgresql://someone:hunter2/x@nowhere:5432/db", "DATABASE_URL: cannot be read"),
    ],
)
@pytest.mark.parametrize("command", ["status", "migrate", "items", "dead-letters"])
async def test_a_database_that_cannot_be_used_is_one_line_without_secrets(
    cli: CommandLine, command: str, address: str, said: str
) -> None:
    more = {"items": ["register", UNKNOWN], "dead-letters": ["list"]}.get(command, [])
    result = await cli(command, *more, DATABASE_URL=address)
    assert said in complaint(result, status=3 if command == "status" else 1)
    assert "hunter2" not in result.output


async def test_a_database_that_does_not_exist_is_said_so(cli: CommandLine) -> None:
    address = cli.environment["DATABASE_URL"].replace("pluggy_sync_test_", "no_")
    said = complaint(await cli("status", DATABASE_URL=address), status=3)
    assert said == "the database of DATABASE_URL does not exist (postgres_access_denied)"


def test_the_program_fails_without_a_traceback() -> None:
    environment = {"PATH": os.defpath, "DATABASE_URL": NOWHERE, "PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(
        [sys.executable, "-m", "ops", "status"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("pluggy-sync: Postgres does not answer")
    assert len(ended.stderr.splitlines()) == 1
