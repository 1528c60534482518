"""500 items are imported, and read again, by processes that are killed half-way."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from ops.cli.items import GROUP
from tests.support.service import Service
from tests.support.waiting import until

ITEMS: Final = 500
LONG_EVERY: Final = 25
"""One item in so many has more transactions than a page."""
LONG, SHORT = 1100, 3
PAGES: Final = ITEMS + ITEMS // LONG_EVERY * 2
STORED: Final = ITEMS // 2 // GROUP * GROUP
PRODUCTS: Final = "items,accounts,transactions"
PATIENCE_S: Final = 300.0
"""Only against hanging."""
LISTS: Final = ("/accounts", "/v2/transactions")


async def command(service: Service, *arguments: str) -> Process:
    """A command of its own process, whose standard input stays open."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "ops", *arguments),
        env={"DATABASE_URL": service.database_url, "REDIS_URL": service.redis_url},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def answer(service: Service, *arguments: str) -> Any:
    """The document of a command that succeeds."""
    process = await command(service, *arguments, "--json")
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def connect_items(service: Service) -> list[str]:
    sizes = [SHORT if place % LONG_EVERY else LONG for place in range(ITEMS)]
    made = [await service.stack.item(transactions=n, accounts=1, connectorId=2) for n in sizes]
    return [item["id"] for item in made]


async def import_until_killed(service: Service, ids: Sequence[str]) -> None:
    """`items import` reads half of the list, stores what is a group, and is killed."""
    killed = await command(service, "items", "import", "-")
    assert killed.stdin is not None
    killed.stdin.write("".join(f"{item_id}\n" for item_id in ids[: ITEMS // 2]).encode())
    await killed.stdin.drain()

    async def stored() -> bool:
        assert killed.returncode is None
        return await registered(service) == STORED

    await until(stored, "half of the items are registered")
    killed.kill()
    assert await killed.wait() < 0


async def registered(service: Service) -> int:
    count: int = await service.db.fetchval(
        "SELECT count(*) FROM pluggy_sync.webhook_events WHERE event = 'sync/register'"
    )
    return count


async def read_with_a_killed_worker(service: Service) -> None:
    """The worker is killed when Pluggy no longer answers, after half of the pages."""
    await service.stack.fault(
        "GET /v2/transactions", kind="timeout", seconds=PATIENCE_S, rate=1.0, skip=PAGES // 2
    )
    async with service.worker(PRODUCTS=PRODUCTS) as worker:
        await service.asked("GET /v2/transactions", PAGES // 2 + 1, timeout_s=PATIENCE_S)
        await worker.kill()
    await service.stack.clear_faults()
    await service.let_lapse()
    async with service.worker(PRODUCTS=PRODUCTS):
        await service.quiet(timeout_s=PATIENCE_S)


async def assert_read_once(service: Service, items: Sequence[str], event_ids: str) -> None:
    """Each event is stored once and applied; of no item more than one page was asked for again."""
    events = await service.db.fetch(
        "SELECT item_id::text, state FROM pluggy_sync.webhook_events WHERE event_id LIKE $1",
        event_ids,
    )
    assert sorted(event["item_id"] for event in events) == sorted(items)
    assert {event["state"] for event in events} == {"applied"}
    log = (await service.stack.simulator.aget("/_simulator/requests?last=20000"))["log"]
    pages = Counter(
        (each["item"], each["path"], each["query"]) for each in log if each["path"] in LISTS
    )
    assert pages.total() >= PAGES + ITEMS
    again: Counter[str] = Counter()
    for (item_id, _, _), times in pages.items():
        again[item_id] += times - 1
    assert max(again.values()) == 1, again.most_common(5)
    print({"pages": pages.total(), "asked again": again.total()})


@pytest.mark.timeout(900)
async def test_an_import_and_a_resync_of_500_items_that_are_killed_half_way_repeat_a_page_an_item(
    service: Service, tmp_path: Path
) -> None:
    items = await connect_items(service)
    listed = tmp_path / "items.txt"
    listed.write_text("\n".join(items))
    await import_until_killed(service, items)
    summary = await answer(service, "items", "import", str(listed))
    counts = (summary["accepted"], summary["duplicate"], summary["refused"])
    assert counts == (ITEMS - STORED, STORED, 0)
    await service.stack.reset_requests()
    await read_with_a_killed_worker(service)
    await assert_read_once(service, items, "register:%")

    await service.stack.reset_requests()
    await answer(service, "resync", "--all", "--name", "night")
    await read_with_a_killed_worker(service)
    again = await answer(service, "resync", "--all", "--name", "night")
    assert (again["ordered"], again["done"]) == (0, ITEMS)
    await assert_read_once(service, items, "resync:night:%")
