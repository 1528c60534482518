"""The cost of each event in requests to Pluggy: the table of docs/requests.md, row by row."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.stack import Stack, now
from tests.syncing.test_transactions import changed
from worker.inbox.events import parse_webhook
from worker.infra.lanes import Lane
from worker.maintenance.reconciliation import order_due
from worker.pluggy_api.endpoints import PluggyReader

PAGE: Final = Path(__file__).parents[2] / "docs" / "requests.md"
COLUMNS: Final = {
    "GET /items/{id}": "item",
    "GET /accounts": "accounts",
    "GET /v2/transactions": "transactions",
    "GET /bills": "bills",
    "GET /investments": "investments",
    "GET /investments/{id}/transactions": "movements",
    "GET /loans": "loans",
    "GET /identity": "identity",
    "GET /consents": "consents",
}
INVESTMENTS: Final = 3
Happening = Callable[[Stack, str], Awaitable[object]]


async def first_sync(stack: Stack, _: str) -> None:
    await stack.tell("item/created", (await household(stack))["id"])


async def quiet_update(stack: Stack, item_id: str) -> None:
    await stack.collect(item_id)
    await stack.tell("item/updated", item_id)


async def update_of_the_day(stack: Stack, item_id: str) -> None:
    await stack.shift(timedelta(hours=21))
    await quiet_update(stack, item_id)


async def investment_changed(stack: Stack, item_id: str) -> None:
    await stack.collect(item_id, products={"investments": {"updated": 1}})
    await stack.tell("item/updated", item_id)


async def same_collection(stack: Stack, item_id: str) -> None:
    await stack.tell("item/updated", item_id)


async def delivered_twice(stack: Stack, item_id: str) -> None:
    announced = {"event": "item/updated", "eventId": str(uuid.uuid4()), "itemId": item_id}
    event = parse_webhook(json.dumps(announced).encode(), now())
    await stack.accept(event)
    await stack.quiet()
    await stack.reset_requests()
    await stack.accept(event)


async def nothing_collected(stack: Stack, item_id: str) -> None:
    await stack.collect(item_id, status="OUTDATED")
    await stack.tell("item/error", item_id)


async def login_succeeded(stack: Stack, item_id: str) -> None:
    await stack.tell("item/login_succeeded", item_id)


def rows(kind: str) -> Happening:
    """Rows of one account, announced by one event."""

    async def tell(stack: Stack, item_id: str) -> None:
        answer = await stack.collect(item_id, **{kind: 3})
        [account_id, *_] = changed(answer, kind)
        answer["events"] = [
            event
            for event in answer["events"]
            if event["event"] == f"transactions/{kind}" and event["accountId"] == account_id
        ]
        await stack.tell_all(answer)

    return tell


async def item_deleted(stack: Stack, item_id: str) -> None:
    await stack.client_deletes(item_id)
    await stack.tell("item/deleted", item_id)


async def deletion_denied(stack: Stack, item_id: str) -> None:
    await stack.tell("item/deleted", item_id)


async def webhook_check(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "UPDATE pluggy_sync.item_reconciliations SET webhook_check_at = now() WHERE item_id = $1",
        item_id,
    )
    assert await order_due(stack.db) == 1


async def accounts_alone(stack: Stack, item_id: str) -> None:
    await stack.shift(timedelta(hours=1))
    await stack.order("sync/accounts", item_id, Lane.LIVE)


async def weekly_verify(stack: Stack, item_id: str) -> None:
    await stack.order("sync/verify", item_id)


async def not_for_us(stack: Stack, item_id: str) -> None:
    await stack.tell("payment_intent/completed", item_id)
    await stack.tell("item/of_tomorrow", item_id, itemId="unreadable")


async def name_of_tomorrow(stack: Stack, item_id: str) -> None:
    await stack.tell("item/of_tomorrow", item_id)


async def unreadable_ids(stack: Stack, item_id: str) -> None:
    for account_id in list(await stack.live(item_id, "accounts"))[:1] * 3:
        fields = {"accountId": account_id, "transactionIds": ["?"]}
        await stack.tell("transactions/updated", item_id, **fields)


async def unreadable_after_the_walk(stack: Stack, item_id: str) -> None:
    await unreadable_ids(stack, item_id)
    await stack.quiet()
    await stack.reset_requests()
    await unreadable_ids(stack, item_id)


async def all_rechecks(stack: Stack) -> None:
    """Move the time past all rechecks of a contradicting answer."""
    await stack.quiet()
    for seconds in (6, 25, 90, 180, 180):
        await stack.after(timedelta(seconds=seconds))


async def never_moves(stack: Stack, item_id: str) -> None:
    await stack.shift(timedelta(hours=2))
    await stack.tell("item/updated", item_id)
    await all_rechecks(stack)


async def never_shown(stack: Stack, item_id: str) -> None:
    [account_id, *_] = await stack.live(item_id, "accounts")
    announced = {"transactionsCount": 3, "transactionsCreatedAtFrom": "2999-01-01T00:00:00Z"}
    await stack.tell("transactions/created", item_id, accountId=account_id, **announced)
    await all_rechecks(stack)


async def never_listed(stack: Stack, item_id: str) -> None:
    await stack.tell("transactions/created", item_id, accountId=str(uuid.uuid4()))
    await all_rechecks(stack)


HAPPENINGS: Final[dict[str, Happening]] = {
    "item/created: the first sync": first_sync,
    "item/updated without changes": quiet_update,
    "item/updated, once a day: the last 14 days too": update_of_the_day,
    "item/updated, one investment changed": investment_changed,
    "another item/updated of the same collection": same_collection,
    "item/updated delivered twice": delivered_twice,
    "item/error, nothing collected": nothing_collected,
    "item/login_succeeded": login_succeeded,
    "transactions/created of one account": rows("created"),
    "transactions/updated of one account": rows("updated"),
    "transactions/deleted of one account": rows("deleted"),
    "item/deleted, and the item is gone": item_deleted,
    "item/deleted, but the item still answers": deletion_denied,
    "a missed-webhook check that finds no collection": webhook_check,
    "the accounts alone are asked for (`refresh`, `resync --product accounts`)": accounts_alone,
    "the weekly verify": weekly_verify,
    "an event of an unknown name, with its item": name_of_tomorrow,
    "three transactions/updated of one account, ids unreadable: a walk": unreadable_ids,
    "more of them within the day": unreadable_after_the_walk,
    "item/updated, but the item never moves: all repeats": never_moves,
    "transactions/created of rows that never show up: all repeats": never_shown,
    "transactions/created of an account that is never listed: all repeats": never_listed,
    "a payment event, or one that names nothing": not_for_us,
}


async def household(stack: Stack) -> dict[str, Any]:
    """An Open Finance item with a bank account, a card and three investments."""
    for _ in range(200):
        item = await stack.item(transactions=300, accounts=2, connectorId=600)
        if len(await stack.truth(item["id"], "investments")) == INVESTMENTS:
            return item
    raise AssertionError("the simulator makes no such household")


def announced() -> dict[str, dict[str, int]]:
    """The first table of the page: requests by what happened and column."""
    table = next(part for part in PAGE.read_text().split("\n\n") if part.startswith("| "))
    lines = re.findall(r"^\| (.+) \|$", table, re.MULTILINE)
    head, *found = [line.split(" | ") for line in lines]
    return {row[0]: dict(zip(head[1:], map(int, row[1:]), strict=True)) for row in found}


@pytest.mark.parametrize("happened", HAPPENINGS)
async def test_each_event_costs_what_the_page_says(stack: Stack, happened: str) -> None:
    item = await household(stack)
    await stack.process("item/created", item["id"])
    # Behind the overlap of a delta: within the hour it lists what came with the last collection.
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    await stack.shift(timedelta(hours=2))
    await quiet_update(stack, item["id"])
    await stack.quiet()
    await PluggyReader(stack.client, Lane.LIVE).item(uuid.UUID(item["id"]))
    await stack.reset_requests()
    await HAPPENINGS[happened](stack, item["id"])
    await stack.quiet()
    asked = {
        COLUMNS[endpoint]: count
        for endpoint, count in (await stack.requests()).items()
        if endpoint.startswith("GET ")
    }
    expected = announced()[happened]
    assert asked | {"all": sum(asked.values())} == {
        column: count for column, count in expected.items() if count or column == "all"
    }


def test_the_page_names_all_that_is_measured_and_nothing_else() -> None:
    assert list(announced()) == list(HAPPENINGS)
