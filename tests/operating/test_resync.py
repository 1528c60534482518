"""`pluggy-sync resync`: which items it takes, its progress, and that it repairs differences."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops.cli.main import main
from tests.support.stack import Stack, now
from worker.inbox.events import WebhookEvent, own_event
from worker.infra.lanes import Lane


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


async def invoke(environment: dict[str, str], *arguments: str, given: str | None = None) -> Result:
    """Each command has an event loop of its own."""
    return await asyncio.to_thread(
        CliRunner().invoke, main, ["resync", *arguments], input=given, env=environment
    )


async def resync(environment: dict[str, str], *arguments: str, given: str | None = None) -> Any:
    result = await invoke(environment, *arguments, "--json", given=given)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def ordered(stack: Stack) -> set[str]:
    """Items that wait for a resync."""
    found = await stack.db.fetch(
        "SELECT item_id::text, lane FROM pluggy_sync.webhook_events"
        " WHERE event_id LIKE 'resync:%' AND state = 'pending'"
    )
    assert all(record["lane"] == Lane.AUDIT for record in found)
    return {record["item_id"] for record in found}


async def three_items(stack: Stack) -> list[dict[str, Any]]:
    """Of two banks and two people."""
    wanted = [(600, "ana"), (600, "bia"), (2, "ana")]
    return [
        await stack.synced_item(transactions=5, connectorId=connector, clientUserId=person)
        for connector, person in wanted
    ]


async def test_it_repairs_what_differs_and_says_what_that_was(
    stack: Stack, environment: dict[str, str]
) -> None:
    item = await stack.synced_item(transactions=700)
    await stack.db.execute(
        "DELETE FROM pluggy.transactions WHERE id IN (SELECT id FROM pluggy.transactions LIMIT 3)"
    )
    summary = await resync(environment, item["id"], "--name", "mend")
    assert (summary["items"], summary["ordered"], summary["done"]) == (1, 1, 0)
    await stack.quiet()
    await stack.assert_equal(item["id"])
    assert await stack.db.fetchval("SELECT sum(inserted) FROM pluggy_ops.drift") == 3
    again = await resync(environment, item["id"], "--name", "mend")
    assert (again["ordered"], again["done"], again["requests"]) == (0, 1, 0)
    assert (await resync(environment, item["id"], "--name", "again"))["ordered"] == 1


async def test_items_are_chosen_by_id_file_bank_person_or_all(
    stack: Stack, environment: dict[str, str], tmp_path: Path
) -> None:
    first, second, third = [item["id"] for item in await three_items(stack)]
    listed = tmp_path / "items.csv"
    listed.write_text(f"name;itemId\nx;{second}\ny;{third}\ny;{third}\n")
    for arguments, wanted in (
        ([first, third], {first, third}),
        (["--file", str(listed)], {second, third}),
        (["--connector", "600"], {first, second}),
        (["--client-user", "ana"], {first, third}),
        (["--client-user", "ana", "--connector", "600"], {first}),
        (["--all"], {first, second, third}),
    ):
        said = await resync(environment, *arguments)
        assert said["items"] == said["ordered"] == len(wanted)
        assert await ordered(stack) == wanted
        await stack.db.execute("DELETE FROM pluggy_sync.webhook_events WHERE state = 'pending'")


async def test_a_time_chooses_the_items_that_webhooks_named_then(
    stack: Stack, environment: dict[str, str]
) -> None:
    first, second, third = [item["id"] for item in await three_items(stack)]
    never_mirrored = str(uuid.uuid4())
    await stack.shift(timedelta(days=2))
    await stack.tell("item/updated", second)
    await stack.tell("item/updated", never_mirrored)
    await stack.accept(our_own(third))
    await stack.db.execute("UPDATE pluggy_sync.webhook_events SET state = 'applied'")
    day, three = [f"{now() - timedelta(days=n):%Y-%m-%dT%H:%M:%S}" for n in (1, 3)]
    await resync(environment, "--since", day)
    assert await ordered(stack) == {second, never_mirrored}
    await stack.db.execute("UPDATE pluggy_sync.webhook_events SET state = 'applied'")
    await resync(environment, "--since", three, "--until", day, "--connector", "600")
    assert await ordered(stack) == {first, second}


def our_own(item_id: str) -> WebhookEvent:
    return own_event("sync/verify", uuid.UUID(item_id), lane=Lane.AUDIT, now=now())


async def test_a_deleted_item_is_not_chosen(stack: Stack, environment: dict[str, str]) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"])
    assert (await resync(environment, "--all"))["items"] == 0
    assert (await resync(environment, "--since", "2000-01-01"))["items"] == 0


async def test_a_dry_run_orders_nothing_and_estimates_how_long_it_would_take(
    stack: Stack, environment: dict[str, str]
) -> None:
    await stack.synced_item(transactions=1200, connectorId=600)
    first = await resync(environment, "--all", "--dry-run", "--name", "x")
    assert (first["ordered"], first["dry_run"]) == (0, True)
    assert await ordered(stack) == set()
    await stack.reset_requests()
    assert (await resync(environment, "--all", "--name", "x"))["requests"] == first["requests"]
    waiting = await resync(environment, "--all", "--dry-run", "--name", "x")
    assert (waiting["waiting"], waiting["done"]) == (1, 0)
    await stack.quiet()
    # As many as it took, but for the questions of a walk about single rows.
    assert 0 <= sum((await stack.requests()).values()) - first["requests"] <= 3
    done = await resync(environment, "--all", "--dry-run", "--name", "x")
    assert (done["waiting"], done["done"], done["requests"]) == (0, 1, 0)


async def test_the_time_it_takes_is_that_of_the_rate_limit(
    stack: Stack, environment: dict[str, str]
) -> None:
    ids = [str(uuid.uuid4()) for _ in range(400)]
    limited = environment | {"PLUGGY_REQUESTS_PER_MINUTE": "120"}
    said = await resync(limited, "--file", "-", "--dry-run", given="\n".join(ids))
    # 400 items of which nothing is stored: one request each and group, 110 a minute.
    assert (said["items"], said["minutes_at_least"]) == (400, 4)
    fewer = limited | {"PRODUCTS": "items"}
    few = await resync(fewer, "--file", "-", "--dry-run", given="\n".join(ids))
    assert few["requests"] == 800


async def test_one_that_was_interrupted_goes_on_by_its_name(
    stack: Stack, environment: dict[str, str]
) -> None:
    ids = [item["id"] for item in await three_items(stack)]
    await resync(environment, ids[0], "--name", "night")
    await stack.quiet()
    await resync(environment, ids[1], "--name", "night")
    said = await resync(environment, "--all", "--name", "night")
    assert (said["done"], said["waiting"], said["ordered"]) == (1, 1, 1)
    assert await ordered(stack) == set(ids[1:])


async def test_what_died_or_was_superseded_is_ordered_again(
    stack: Stack, environment: dict[str, str]
) -> None:
    ids = [item["id"] for item in await three_items(stack)]
    await resync(environment, *ids, "--name", "night")
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = 'dead', settled_at = now()"
        " WHERE event_id LIKE 'resync:%' AND item_id = $1",
        ids[0],
    )
    assert (await resync(environment, *ids, "--name", "night"))["ordered"] == 1
    assert await ordered(stack) == set(ids)


async def test_live_work_goes_before_it(stack: Stack, environment: dict[str, str]) -> None:
    ids = [item["id"] for item in await three_items(stack)]
    await resync(environment, "--all")
    last = max(ids)
    await stack.tell("item/updated", last)
    assert str((await stack.claim()).item_id) == last


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--all", "--connector", "1"],
        ["--all", "11111111-2222-4333-8444-555555555555"],
        ["--until", "2026-01-01"],
        ["--all", "--name", "a b"],
        ["--connector", "one"],
        ["no-uuid"],
    ],
)
async def test_what_is_not_clear_is_refused(
    environment: dict[str, str], arguments: list[str]
) -> None:
    assert (await invoke(environment, *arguments)).exit_code == 2


async def test_a_list_with_a_bad_line_orders_nothing(
    stack: Stack, environment: dict[str, str]
) -> None:
    result = await invoke(environment, "--file", "-", given=f"{uuid.uuid4()}\nnonsense\n")
    assert result.exit_code == 1
    assert "line 2" in result.stderr
    assert await ordered(stack) == set()


@pytest.mark.parametrize("command", ["import", "resync"])
async def test_one_that_is_killed_half_way_repeats_at_most_a_page_an_item(
    stack: Stack, environment: dict[str, str], command: str
) -> None:
    made = [await stack.item(transactions=1100, accounts=1, connectorId=2) for _ in range(3)]
    ids = [item["id"] for item in made]
    arguments = ["resync", "--name", "night", "--file", "-", "--json"]
    if command == "import":
        arguments = ["items", "import", "-", "--json"]
    else:
        for item_id in ids:
            await stack.tell("item/created", item_id)
        await stack.quiet()
    await stack.reset_requests()
    await asyncio.to_thread(
        CliRunner().invoke, main, arguments, input="\n".join(ids[:2]), env=environment
    )
    # A worker that dies in the middle of an item: nobody hands its lease back.
    await stack.worker.engine.sync(await stack.claim())
    await stack.claim()
    await stack.shift(timedelta(minutes=1))
    again = await asyncio.to_thread(
        CliRunner().invoke, main, arguments, input="\n".join(ids), env=environment
    )
    assert again.exit_code == 0, again.output
    await stack.quiet()
    for item_id in ids:
        await stack.assert_equal(item_id)
    pages = (await stack.requests())["GET /v2/transactions"]
    # 1,100 rows are three pages; only of the item under way a page may be asked for again.
    assert 3 * len(ids) <= pages <= 3 * len(ids) + 1
