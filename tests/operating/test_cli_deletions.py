"""`pluggy-sync deletions`: what it lists, what it decides, and how it fails."""

from __future__ import annotations

import uuid

import pytest

from tests.operating.test_cli import UNKNOWN, CommandLine, complaint
from tests.operating.test_deletion_review import MANY, with_flags
from tests.support.stack import Stack
from tests.syncing.test_deletions import flagged, tombstones


@pytest.fixture
def cli(database_url: str, redis_url: str) -> CommandLine:
    return CommandLine({"DATABASE_URL": database_url, "REDIS_URL": redis_url})


async def test_pending_deletions_are_listed_with_their_reason(
    cli: CommandLine, stack: Stack
) -> None:
    item_id, ids = await with_flags(stack)
    listed = (await cli.json("deletions", "list"))["deletions"]
    assert {row["transaction_id"] for row in listed} == set(map(str, ids))
    assert {row["reason"] for row in listed} == {"too_many_at_once"}
    assert len((await cli.json("deletions", "list", "--limit", "3"))["deletions"]) == 3
    assert (await cli.json("deletions", "list", "--item", UNKNOWN))["deletions"] == []
    assert len((await cli.json("deletions", "list", "--item", item_id))["deletions"]) == MANY
    assert str(ids[0]) in (await cli("deletions", "list")).stdout


async def test_accept_tombstones_the_pending_deletions_of_an_item(
    cli: CommandLine, stack: Stack
) -> None:
    item_id, ids = await with_flags(stack)
    answer = await cli.json("deletions", "accept", "--item", item_id)
    assert {row["transaction_id"] for row in answer["tombstoned"]} == set(map(str, ids))
    assert await tombstones(stack, item_id) == MANY
    assert "tombstoned: none" in (await cli("deletions", "accept", "--item", item_id)).stderr


async def test_refuse_keeps_the_rows_named(cli: CommandLine, stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    answer = await cli.json("deletions", "refuse", str(ids[0]), str(ids[1]))
    assert {row["transaction_id"] for row in answer["kept"]} == {str(ids[0]), str(ids[1])}
    assert len(await flagged(stack, item_id)) == MANY - 2
    assert await tombstones(stack, item_id) == 0


async def test_an_id_that_waits_for_nothing_is_named(cli: CommandLine, stack: Stack) -> None:
    item_id, ids = await with_flags(stack)
    other = str(uuid.uuid4())
    said = complaint(await cli("deletions", "accept", str(ids[0]), other))
    assert said == f"no pending deletion: {other}"
    assert await tombstones(stack, item_id) == 1


async def test_a_decision_about_nothing_named_is_a_wrong_use(cli: CommandLine) -> None:
    for word in ("accept", "refuse"):
        assert (await cli("deletions", word)).exit_code == 2
