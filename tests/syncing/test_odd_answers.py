"""Answers that Pluggy should not give: no item stays stuck, nothing newer is overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.altered_pluggy import altered, item_body, item_with
from tests.support.stack import Stack
from tests.syncing.test_deletions import flagged
from worker.maintenance.reconciliation import order_due


async def items_step(stack: Stack, item_id: str) -> Any:
    return await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.product_sync WHERE item_id = $1 AND product = 'items'", item_id
    )


async def stored_item(stack: Stack, item_id: str) -> Any:
    return await stack.db.fetchval("SELECT payload::text FROM pluggy.items WHERE id = $1", item_id)


@pytest.mark.parametrize(
    "never", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:01Z"]
)
async def test_an_item_whose_next_collection_is_promised_for_never_is_synced(
    stack: Stack, never: str
) -> None:
    item = await stack.item(transactions=10)
    async with altered(stack, item_with(nextAutoSyncAt=never)):
        await stack.process("item/created", item["id"])
    assert await stack.states(item["id"]) == ["applied"]
    assert await stack.db.fetchval(
        "SELECT verify_at IS NOT NULL FROM pluggy_sync.item_reconciliations WHERE item_id = $1",
        item["id"],
    )


async def test_an_alarm_about_an_item_of_the_future_is_applied(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    async with altered(stack, item_with(lastUpdatedAt="9999-12-31T23:59:59.999Z")):
        await stack.process_order("sync/missed-webhook-check", item["id"])
    assert await stack.states(item["id"]) == ["applied", "applied"]


async def test_an_item_that_postgres_refuses_is_retried_with_backoff_and_shown(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.collect(item["id"], created=1)
    async with altered(stack, item_body(lambda body: body[:-1] + b',"score":1e200000}')):
        await stack.process("item/updated", item["id"])
        failed = await items_step(stack, item["id"])
        assert failed["failure_code"] == "NumericValueOutOfRangeError"
        assert failed["attempts"] == 1
        assert failed["next_try_at"] is not None
        assert await stack.states(item["id"]) == ["applied", "pending"]
    await stack.after(timedelta(minutes=1))
    assert await stack.states(item["id"]) == ["applied", "applied"]
    await stack.assert_equal(item["id"])


async def test_the_answer_about_another_item_is_no_answer(stack: Stack) -> None:
    item, other = await stack.synced_item(transactions=10), await stack.item(transactions=10)
    await stack.collect(item["id"], created=3)
    for wrong in ({}, other):
        answer = json.dumps(wrong).encode()
        async with altered(stack, item_body(lambda _, answer=answer: answer)):  # type: ignore[misc]
            await stack.process("item/updated", item["id"])
        assert (await items_step(stack, item["id"]))["failure_code"] == "another_item"
    await stack.after(timedelta(minutes=1))
    await stack.assert_equal(item["id"])


async def test_an_older_answer_about_the_item_overwrites_nothing_and_skips_nothing(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=10)
    older: dict[str, bytes] = {}
    async with altered(stack, item_body(lambda body: older.setdefault("body", body))):
        await stack.process("item/updated", item["id"])
    await stack.collect(item["id"], created=3, products={"loans": {"created": 1}})
    await stack.fault("GET /loans", kind="status", status=503, times=1)
    await stack.process("item/updated", item["id"])
    newer = await stored_item(stack, item["id"])
    await stack.shift(timedelta(minutes=1))
    async with altered(stack, item_body(lambda _: older["body"])):
        await stack.process("item/updated", item["id"])
    assert await stored_item(stack, item["id"]) == newer
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_a_list_of_slow_pages_keeps_its_lease(stack: Stack) -> None:
    """Of a probe, which asks one thing at a time: nothing else is stored between its pages."""
    item = await stack.synced_item(transactions=10)
    await stack.collect(item["id"], created=1)
    claimed = []

    async def slow_pages(path: str, body: bytes) -> bytes:
        if not path.startswith("/investments?"):
            return body
        await stack.shift(timedelta(seconds=20))
        claimed.append(await stack.worker.claim(None))
        return json.dumps(json.loads(body) | {"totalPages": 2}).encode()

    async with altered(stack, slow_pages):
        await stack.tell("item/updated", item["id"])
        await stack.worker.engine.sync(replace(await stack.claim(), probe=True))
    assert claimed == [None, None]
    assert (await stack.states(item["id"]))[-1] == "applied"


async def test_a_row_that_is_listed_after_a_walk_did_not_find_it_is_not_tombstoned(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=60, accounts=1)
    [account_id] = await stack.live(item["id"], "accounts")
    hidden, *_ = sorted(await stack.live(item["id"]))
    announced: list[str] = []

    async def until_asked_for(path: str, body: bytes) -> bytes:
        if not path.startswith("/v2/transactions") or announced:
            return body
        if hidden in path:
            announced.append(hidden)
            fields = {"accountId": account_id, "transactionIds": announced}
            await stack.tell("transactions/updated", item["id"], **fields)
        page = json.loads(body)
        page["results"] = [row for row in page["results"] if row["id"] != hidden]
        return json.dumps(page).encode()

    async with altered(stack, until_asked_for):
        await stack.process_order("sync/verify", item["id"])
    assert announced == [hidden]
    assert await stack.states(item["id"]) == ["applied"] * 3
    await stack.assert_equal(item["id"])


async def test_empty_answers_to_a_list_and_to_one_question_tombstone_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=1300, accounts=1)
    stored = set(await stack.live(item["id"]))
    questions: list[int] = []

    async def empty_at_first(path: str, body: bytes) -> bytes:
        asked = path.count(",") + 1 if "ids=" in path else 0
        if not path.startswith("/v2/transactions") or len(questions) > 1 or 0 < asked < 100:
            return body  # witnesses come back
        questions.append(asked)
        return json.dumps({"results": [], "next": None}).encode()

    async with altered(stack, empty_at_first):
        await stack.process_order("sync/verify", item["id"])
        assert questions[0] == 0
        assert questions[1] > 100
        # No witness came back: that is no answer, and nothing is flagged for it.
        assert await flagged(stack, item["id"]) == []
        assert await stack.states(item["id"]) == ["applied", "walking"]
        await stack.after(timedelta(minutes=1))
    assert set(await stack.live(item["id"])) == stored
    assert await stack.states(item["id"]) == ["applied", "applied"]


async def test_what_fails_outside_of_every_step_backs_off_and_is_shown(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.collect(item["id"], created=1)
    await stack.db.execute(
        "UPDATE pluggy_sync.item_reconciliations SET webhook_check_at = now();"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN RAISE EXCEPTION 'refused'; END$$;"
        "CREATE TRIGGER refused BEFORE INSERT ON pluggy_sync.missed_webhooks"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    await order_due(stack.db)
    for attempts in (1, 2, 3):
        await stack.quiet()
        failed = await items_step(stack, item["id"])
        assert (failed["failure_code"], failed["attempts"]) == ("RaiseError", attempts)
        assert await stack.states(item["id"]) == ["applied", "pending"]
        await stack.shift(timedelta(hours=1))
    shown = await stack.db.fetch(
        "SELECT reason FROM pluggy_ops.freshness WHERE item_id = $1 AND product = 'items'",
        item["id"],
    )
    assert [row["reason"] for row in shown] == ["RaiseError"]
    await stack.db.execute("DROP TRIGGER refused ON pluggy_sync.missed_webhooks")
    await stack.quiet()
    assert await stack.states(item["id"]) == ["applied", "applied"]
    await stack.assert_equal(item["id"])
