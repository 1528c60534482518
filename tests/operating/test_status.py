"""`pluggy-sync status` and `worklist`: all findings in order, and an exit status by the light."""

from __future__ import annotations

import json
import re
import time
import uuid

import pytest

from ops.__main__ import INTERRUPTED
from ops.cli.status import KINDS
from tests.operating.test_cli import NOWHERE, CommandLine
from tests.operating.test_findings import expiring, flagged, halted, kept, workers
from tests.support.stack import Stack
from worker.infra.sql_files import SQL_DIR

AWAY = "redis://127.0.0.1:1"


@pytest.fixture
def cli(database_url: str, redis_url: str) -> CommandLine:
    return CommandLine({"DATABASE_URL": database_url, "REDIS_URL": redis_url})


async def test_the_exit_status_follows_the_light(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    await workers(stack)
    await expiring(stack, item["id"])
    assert [(await cli("status", *o)).exit_code for o in ([], ["--strict"])] == [0, 0]
    await flagged(stack, item["id"])
    assert [(await cli("status", *o)).exit_code for o in ([], ["--strict"])] == [0, 1]
    await halted(stack, item["id"])
    assert [(await cli("status", *o)).exit_code for o in ([], ["--strict"])] == [2, 2]
    for change in ({"DATABASE_URL": NOWHERE}, {"DATABASE_URL": ""}, {"REDIS_URL": "nonsense"}):
        assert (await cli("status", **change)).exit_code == 3, change


async def test_all_findings_are_shown_with_their_commands(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    for make_wrong in (expiring, flagged):
        await make_wrong(stack, item["id"])
    kinds = ["no_worker", "flagged_deletions", "consent_expiring"]
    said = await cli.json("status", status=2)
    assert [row["kind"] for row in said["findings"]] == kinds
    shown = (await cli("status")).stdout
    assert [shown.index(kind) for kind in kinds] == sorted(shown.index(kind) for kind in kinds)
    assert "pluggy-sync deletions list" in shown
    assert "pluggy-sync worklist --kind consent_expiring" in shown


async def test_a_redis_that_only_the_command_cannot_reach_is_yellow(
    cli: CommandLine, stack: Stack
) -> None:
    await workers(stack)
    result = await cli("status", "--json", "--strict", REDIS_URL=AWAY)
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["overview"]["light"] == "yellow"
    assert said["overview"]["sentence"].startswith("Redis does not answer")
    assert [row["kind"] for row in said["findings"]] == ["redis_outage"]
    await stack.db.execute(
        "UPDATE pluggy_sync.workers SET redis_outage = 'redis_away', redis_outage_since = now()"
    )
    said = json.loads((await cli("status", "--json", REDIS_URL=AWAY)).stdout)
    assert [row["kind"] for row in said["findings"]] == ["redis_outage"]
    assert said["overview"]["since"] is not None


async def test_the_worklist_is_narrowed_down(cli: CommandLine, stack: Stack) -> None:
    items = [await stack.synced_item(transactions=10, accounts=1) for _ in range(2)]
    for item in items:
        await flagged(stack, item["id"])
    await kept(stack, "")
    everything = (await cli.json("worklist"))["worklist"]
    assert [row["kind"] for row in everything] == ["flagged_deletions"] * 2 + ["events_kept"] * 2
    of_kind = (await cli.json("worklist", "--kind", "events_kept"))["worklist"]
    assert {row["kind"] for row in of_kind} == {"events_kept"}
    of_item = (await cli.json("worklist", "--item", items[0]["id"]))["worklist"]
    assert {row["item_id"] for row in of_item} == {items[0]["id"]}
    assert len((await cli.json("worklist", "--limit", "1"))["worklist"]) == 1
    nothing = await cli("worklist", "--item", str(uuid.uuid4()))
    assert (nothing.stdout, nothing.stderr) == ("", "worklist: none\n")
    assert "pluggy-sync deletions list --item" in (await cli("worklist")).stdout


async def test_a_kind_that_no_finding_has_is_refused_with_those_that_there_are(
    cli: CommandLine,
) -> None:
    refused = await cli("worklist", "--kind", "dead_letter")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "'dead_letter' is not one of" in refused.stderr
    assert "'dead_letters'" in refused.stderr


def test_the_kinds_that_can_be_chosen_are_those_of_the_view() -> None:
    view = (SQL_DIR / "views" / "78_sync_work.sql").read_text("utf-8")
    weighed = re.findall(r"^    \((\d+), '(\w+)', '(?!count)\w+', '\w+'\)", view, re.MULTILINE)
    by_weight = sorted(weighed, key=lambda found: -int(found[0]))
    assert list(KINDS) == [kind for _, kind in by_weight]


async def test_the_document_says_so_where_postgres_cannot_be_asked(cli: CommandLine) -> None:
    result = await cli("status", "--json", DATABASE_URL=NOWHERE)
    assert result.exit_code == 3
    said = json.loads(result.stdout)
    assert said["overview"]["light"] is None
    assert [row["kind"] for row in said["findings"]] == ["cannot_tell"]
    assert said["overview"]["sentence"].startswith("Postgres does not answer")
    assert said["spool"]["entries"] == 0


async def test_a_watch_shows_the_state_again_until_it_is_interrupted(
    cli: CommandLine, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workers(stack)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise SystemExit(INTERRUPTED)

    monkeypatch.setattr(time, "sleep", pause)
    result = await cli("status", "--watch", "--json")
    assert result.exit_code == INTERRUPTED, result.output
    lights = [json.loads(line)["overview"]["light"] for line in result.stdout.splitlines()]
    assert lights == ["green", "green"]
    pauses.clear()
    away = await cli("status", "--watch", DATABASE_URL=NOWHERE)
    assert away.stderr.count("Postgres does not answer") == 2
