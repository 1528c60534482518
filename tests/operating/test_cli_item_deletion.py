"""`pluggy-sync items delete` and `pluggy-sync links`: what they ask, say, and how they fail."""

from __future__ import annotations

import uuid

import pytest

from tests.operating.test_cli import UNKNOWN, CommandLine, complaint, with_pluggy
from tests.support.stack import Stack

NO_PLUGGY = {"PLUGGY_BASE_URL": "http://127.0.0.1:1"}


@pytest.fixture
def cli(stack: Stack, database_url: str, redis_url: str) -> CommandLine:
    return with_pluggy(stack, database_url, redis_url)


async def erasures(stack: Stack, item_id: str) -> int:
    count: int = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.erasures WHERE item_id = $1", item_id
    )
    return count


async def test_an_item_is_deleted_only_after_a_yes(cli: CommandLine, stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    asked = await cli("items", "delete", item["id"], given="n\n")
    assert asked.exit_code == 1
    assert item["id"] in asked.stdout
    assert await stack.truth(item["id"], "items")
    assert await erasures(stack, item["id"]) == 0


async def test_an_item_is_deleted_at_pluggy_and_its_purge_ordered(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=5)
    said = await cli("items", "delete", item["id"], "--wait", "0", given="y\n")
    assert said.exit_code == 0, said.output
    assert "deleted at Pluggy; a worker purges it" in said.stdout
    assert await erasures(stack, item["id"]) == 1
    again = await cli.json("items", "delete", item["id"], "--yes", "--wait", "0")
    assert (again["deleted_at_pluggy"], again["stored"], again["receipt"]) == (False, True, None)


async def test_an_item_that_nobody_knows_is_no_error(cli: CommandLine) -> None:
    said = await cli("items", "delete", UNKNOWN, "--yes")
    assert said.exit_code == 0
    assert "Pluggy did not have it; nothing is stored of it" in said.stdout


async def test_nothing_is_deleted_here_while_pluggy_does_not_answer(
    cli: CommandLine, stack: Stack
) -> None:
    item = await stack.synced_item(transactions=5)
    failed = await cli("items", "delete", item["id"], "--yes", **NO_PLUGGY)
    assert complaint(failed).startswith("nothing was deleted here: the request to Pluggy failed")
    assert await erasures(stack, item["id"]) == 0


async def test_a_pair_of_accounts_that_is_not_linked_is_named(cli: CommandLine) -> None:
    assert await cli.json("links", "list") == {"links": []}
    pair = (str(uuid.uuid4()), str(uuid.uuid4()))
    for word in ("accept", "refuse"):
        assert complaint(await cli("links", word, *pair)).startswith(f"no such pair: {pair[0]}")
        assert (await cli("links", word, "not-an-id", pair[1])).exit_code == 2
