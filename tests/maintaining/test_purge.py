"""Purge: after the retention time only a receipt is left of a deleted item."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

import worker.maintenance.purge
from tests.support.stack import TABLES, Stack, fill_budget
from worker.infra.redis_keys import PREFIX
from worker.maintenance.purge import Purger
from worker.store.purge import claim_item_to_purge
from worker.store.runs import open_run
from worker.sync.tombstones import tombstone_all

RETENTION = timedelta(days=30)
OPEN_FINANCE = 600


def purger(stack: Stack) -> Purger:
    return Purger(stack.db, stack.client, RETENTION)


async def purge(stack: Stack, *, most: int = 50) -> int:
    """Purge until nothing is due; returns how many portions that took."""
    portions = 0
    while await purger(stack).purge():
        portions += 1
        assert portions <= most, "work never ends"
    return portions


async def wait(stack: Stack, by: timedelta) -> None:
    """Let time pass, for tombstones and purges too."""
    await stack.shift(by)
    await stack.db.execute("UPDATE pluggy.items SET deleted_at = deleted_at - $1::interval", by)
    await stack.db.execute(
        "UPDATE pluggy_sync.purges SET next_try_at = next_try_at - $1::interval", by
    )


async def deleted_item(stack: Stack, **options: Any) -> dict[str, Any]:
    """An item that was mirrored, with a rejected row, and that Pluggy has deleted."""
    person = f"customer-{uuid.uuid4().hex[:12]}"
    wanted = {"transactions": 60, "connectorId": OPEN_FINANCE, "clientUserId": person} | options
    item = await stack.item(**wanted)
    await stack.process("item/created", item["id"], clientUserId=person)
    truth = await stack.simulator.aget(f"/_simulator/truth/{item['id']}")
    body = json.dumps(truth["transactions"][0], ensure_ascii=False).encode()
    await stack.db.execute(
        "INSERT INTO pluggy_sync.rejected_rows (item_id, product, row_id, reason, body, run_id)"
        " VALUES ($1, 'transactions', 'x', 'date is no time', $2, 1)",
        item["id"],
        body,
    )
    account = truth["accounts"][0]["id"]
    ids = [truth["transactions"][0]["id"]]
    await stack.process(
        "transactions/updated",
        item["id"],
        accountId=account,
        transactionIds=ids,
        clientUserId=person,
    )
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"], clientUserId=person)
    return item | {"person": person, "truth": truth}


async def tables(stack: Stack) -> list[str]:
    found = await stack.db.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    return [record["name"] for record in found]


async def where_found(stack: Stack, needles: Mapping[str, str]) -> dict[str, set[str]]:
    """Which tables hold which needle, in any column: as text, in JSON, or as bytes."""
    found: dict[str, set[str]] = {}
    for table in await tables(stack):
        for name, needle in needles.items():
            hits = await stack.db.fetchval(
                f"SELECT count(*) FROM {table} t WHERE strpos(t::text, $1) > 0"  # noqa: S608 - names from pg_tables
                " OR strpos(t::text, $2) > 0 OR strpos(t::text, $3) > 0",
                needle,
                needle.encode().hex(),
                json.dumps(needle)[1:-1],
            )
            if hits:
                found.setdefault(table, set()).add(name)
    return found


def personal(item: Mapping[str, Any]) -> dict[str, str]:
    """What tells who the person is, wherever it came from."""
    truth = item["truth"]
    [identity] = truth["identities"]
    account = truth["accounts"][0]
    return {
        "clientUserId": item["person"],
        "name": identity["fullName"],
        "document": identity["document"],
        "account": account["number"],
        "owner": account["owner"],
        "description": truth["transactions"][0]["description"],
        "transaction": truth["transactions"][0]["id"],
        "consent": truth["consents"][0]["id"],
    }


async def receipts(stack: Stack, item_id: str) -> list[asyncpg.Record]:
    return await stack.db.fetch(
        "SELECT * FROM pluggy_sync.purge_receipts WHERE item_id = $1 ORDER BY id", item_id
    )


async def test_nothing_personal_is_left_after_a_purge_but_a_receipt(stack: Stack) -> None:
    item = await deleted_item(stack)
    needles = personal(item)
    before = await where_found(stack, needles)
    assert before["pluggy_sync.webhook_events"] == {"clientUserId", "transaction"}
    assert {"clientUserId"} <= before["pluggy.items"]
    assert {"name", "document"} <= before["pluggy.identities"]
    assert {"description"} <= before["pluggy_sync.rejected_rows"]
    assert {name for names in before.values() for name in names} == set(needles)
    await wait(stack, RETENTION)
    assert await purge(stack) > 0
    assert await where_found(stack, needles) == {}
    [receipt] = await receipts(stack, item["id"])
    deleted = json.loads(receipt["deleted"])
    true = {table: len(item["truth"][table]) for table in TABLES} | {"items": 1}
    assert {t: deleted.get(t, 0) for t in true} == true
    assert (deleted["rejected_rows"], deleted["webhook_events"]) == (1, 3)


async def test_of_all_that_pluggy_sent_of_a_person_no_value_is_left_in_any_column(
    stack: Stack,
) -> None:
    """Every text of every answer is looked for, in every column of every table."""
    other = await stack.synced_item(transactions=60, connectorId=OPEN_FINANCE)
    without = await everything(stack)
    item = await deleted_item(stack)
    await drift_and_missed_webhook(stack, item)
    await progress_of_events(stack, item)
    needles = {text for text in texts(item["truth"]) if text not in without} - {item["id"]}
    assert len(needles) > 200
    before = await everything(stack)
    assert len({needle for needle in needles if needle in before}) > 150
    await wait(stack, RETENTION)
    await purge(stack)
    after = await everything(stack)
    assert {needle for needle in needles if needle in after or _hex(needle) in after} == set()
    # What remains is that there was an item of this id, and what was done about it.
    named = [t for t in await tables(stack) if item["id"] in await content(stack, t)]
    assert named == [
        "pluggy_sync.item_leases",
        "pluggy_sync.item_sync",
        "pluggy_sync.purge_receipts",
        "pluggy_sync.runs",
        "pluggy_sync.webhook_events",
    ]
    left = await stack.db.fetch("SELECT event_row_id FROM pluggy_sync.id_progress")
    assert left == []
    await stack.assert_equal(other["id"])


async def progress_of_events(stack: Stack, item: Mapping[str, Any]) -> None:
    """What may be left of lists of ids whose events were settled by other means."""
    await stack.db.execute(
        "INSERT INTO pluggy_sync.id_progress (event_row_id, pending_seq, done)"
        " SELECT id, pending_seq, 1 FROM pluggy_sync.webhook_events WHERE item_id = $1",
        item["id"],
    )


async def drift_and_missed_webhook(stack: Stack, item: Mapping[str, Any]) -> None:
    """Add rows that reconciliations can leave of an item."""
    await stack.db.execute(
        "INSERT INTO pluggy_sync.drift VALUES ($1, 1, 'transactions', $2::text::uuid, 1, 0, 0)",
        item["id"],
        item["truth"]["accounts"][0]["id"],
    )
    await stack.db.execute(
        "INSERT INTO pluggy_sync.missed_webhooks (item_id, source_updated_at, collected_at)"
        " VALUES ($1, now(), now())",
        item["id"],
    )


def texts(value: object) -> set[str]:
    """All texts of a document that are long enough to be distinguished.

    A bare date is not: when time is shifted a time of ours may fall on that day.
    """
    if isinstance(value, dict):
        return {text for inner in value.values() for text in texts(inner)}
    if isinstance(value, list):
        return {text for inner in value for text in texts(inner)}
    if not isinstance(value, str) or len(value) < 8 or re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return set()
    return {value}


def _hex(text: str) -> str:
    return text.encode().hex()


async def content(stack: Stack, table: str) -> str:
    rows = await stack.db.fetch(f"SELECT t::text AS row FROM {table} t")  # noqa: S608 - names from pg_tables
    return "\n".join(record["row"] for record in rows)


async def everything(stack: Stack) -> str:
    return "\n".join([await content(stack, table) for table in await tables(stack)])


async def test_an_item_is_kept_until_its_retention_time_is_over(stack: Stack) -> None:
    item = await deleted_item(stack, transactions=5)
    await wait(stack, RETENTION - timedelta(hours=1))
    await stack.reset_requests()
    assert await purge(stack) == 0
    assert await stack.requests() == {}
    assert await receipts(stack, item["id"]) == []
    await wait(stack, timedelta(hours=1))
    assert await purge(stack) > 0
    assert len(await receipts(stack, item["id"])) == 1
    assert (await stack.requests())["GET /items/{id}"] == 1


async def test_other_items_lose_nothing(stack: Stack) -> None:
    item = await deleted_item(stack, transactions=20)
    other = await stack.synced_item(transactions=20, clientUserId="somebody-else")
    await wait(stack, RETENTION)
    await purge(stack)
    assert await receipts(stack, item["id"]) != []
    assert await receipts(stack, other["id"]) == []
    await stack.assert_equal(other["id"])
    kept = await where_found(stack, {"clientUserId": "somebody-else"})
    assert kept["pluggy.items"] == {"clientUserId"}


async def test_an_item_that_answers_again_is_read_again_instead_of_purged(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    run = await open_run(stack.db, item_id=uuid.UUID(item["id"]), kind="sync", event_ids=[])
    now = await stack.db.fetchval("SELECT clock_timestamp()")
    await tombstone_all(stack.db, uuid.UUID(item["id"]), run_id=run, now=now)
    assert await stack.live(item["id"]) == {}
    await wait(stack, RETENTION)
    assert await purge(stack) == 1
    assert await receipts(stack, item["id"]) == []
    await stack.quiet()
    await stack.assert_equal(item["id"])
    assert await purge(stack) == 0


@pytest.mark.parametrize("status", [500, 400, 429])
async def test_a_check_that_fails_destroys_nothing_and_is_repeated_later(
    stack: Stack, status: int
) -> None:
    item = await deleted_item(stack, transactions=5)
    await wait(stack, RETENTION)
    await stack.fault("GET /items", kind="status", status=status, times=1)
    rows = "SELECT count(*) FROM pluggy.transactions WHERE item_id = $1"
    stored = await stack.db.fetchval(rows, item["id"])
    assert await purge(stack) == 1
    assert await stack.db.fetchval(rows, item["id"]) == stored > 0
    assert await purge(stack) == 0
    await wait(stack, timedelta(hours=2))
    await stack.redis.delete(f"{PREFIX}budget:items")
    await fill_budget(stack.redis)
    await purge(stack)
    assert len(await receipts(stack, item["id"])) == 1


async def test_a_purge_goes_in_batches_and_survives_a_kill_between_two(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await deleted_item(stack, transactions=300)
    await wait(stack, RETENTION)
    monkeypatch.setattr(worker.maintenance.purge, "BATCH", 50)
    monkeypatch.setattr(worker.maintenance.purge, "PURGE_TIMEOUT_S", 0.0)
    assert await purger(stack).purge()
    rows = "SELECT count(*) FROM pluggy.transactions WHERE item_id = $1"
    total = len(item["truth"]["transactions"])
    assert await stack.db.fetchval(rows, item["id"]) == total - 50
    assert await receipts(stack, item["id"]) == []
    # A worker takes the item and dies: its lease has to lapse first, its run is closed as lost.
    record = await claim_item_to_purge(
        stack.db, retention=RETENTION, lease_for=timedelta(seconds=30)
    )
    assert record is not None
    await open_run(stack.db, item_id=record.item_id, kind="purge", event_ids=[])
    assert await purge(stack) == 0
    await wait(stack, timedelta(minutes=1))
    monkeypatch.undo()
    await purge(stack)
    [receipt] = await receipts(stack, item["id"])
    assert json.loads(receipt["deleted"])["transactions"] == total
    runs = await stack.db.fetch(
        "SELECT outcome, deleted FROM pluggy_sync.runs WHERE kind = 'purge' ORDER BY seq"
    )
    assert [r["outcome"] for r in runs] == ["released", "lost", "done", "done"]
    mirrored = sum(len(item["truth"][table]) for table in TABLES)
    assert sum(r["deleted"] for r in runs) == mirrored + 1


async def test_an_event_that_comes_while_a_purge_is_under_way_goes_first(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await deleted_item(stack, transactions=100)
    await wait(stack, RETENTION)
    monkeypatch.setattr(worker.maintenance.purge, "BATCH", 50)
    announced: list[object] = []
    delete = worker.maintenance.purge._delete_batch

    async def delete_and_tell(claim: Any, table: str) -> int:
        if not announced:
            announced.append(
                await stack.tell("item/updated", item["id"], clientUserId=item["person"])
            )
        return await delete(claim, table)

    monkeypatch.setattr(worker.maintenance.purge, "_delete_batch", delete_and_tell)
    assert await purger(stack).purge()
    assert await receipts(stack, item["id"]) == []
    assert await purge(stack) == 0
    await stack.quiet()
    assert (await stack.states(item["id"]))[-1] == "ignored"
    await purge(stack)
    assert len(await receipts(stack, item["id"])) == 1
    assert await where_found(stack, {"clientUserId": item["person"]}) == {}


async def test_what_comes_after_a_purge_is_ignored_by_name_and_blanked(stack: Stack) -> None:
    item = await deleted_item(stack, transactions=5)
    await wait(stack, RETENTION)
    await purge(stack)
    await stack.process("item/updated", item["id"], clientUserId=item["person"])
    last = (await stack.events(item["id"]))[-1]
    assert (last["state"], last["reason"]) == ("ignored", "item_deleted")
    assert await where_found(stack, {"clientUserId": item["person"]}) != {}
    assert await purge(stack) == 0
    assert await where_found(stack, {"clientUserId": item["person"]}) == {}
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy.items") == 0


async def test_a_redelivery_is_still_known_for_one_after_the_purge(stack: Stack) -> None:
    item = await deleted_item(stack, transactions=5)
    first = (await stack.events(item["id"]))[0]
    body = json.loads(first["body"])
    await wait(stack, RETENTION)
    await purge(stack)
    again = await stack.tell(body.pop("event"), body.pop("itemId"), **body)
    assert not again.is_new


async def test_the_feed_shows_a_purge(stack: Stack) -> None:
    item = await deleted_item(stack, transactions=5)
    before = await stack.db.fetchval("SELECT max(seq) FROM pluggy_sync.runs")
    await wait(stack, RETENTION)
    await purge(stack)
    runs = await stack.db.fetch(
        "SELECT id, kind, item_id::text FROM pluggy_sync.runs WHERE seq > $1 ORDER BY seq", before
    )
    assert {(r["kind"], r["item_id"]) for r in runs} == {("purge", item["id"])}
    [receipt] = await receipts(stack, item["id"])
    assert receipt["run_id"] == runs[-1]["id"]
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.runs WHERE seq IS NULL") == 0


async def test_dead_letters_of_a_purged_item_ask_for_nothing_any_more(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.process("transactions/created", item["id"], accountId=str(uuid.uuid4()))
    await stack.shift(timedelta(minutes=5))  # all confirmations of the account
    await stack.quiet()
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"])
    letters = "SELECT count(*) FROM pluggy_ops.dead_letters"
    assert await stack.db.fetchval(letters) == 1
    await wait(stack, RETENTION)
    await purge(stack)
    assert await stack.db.fetchval(letters) == 0
    states = [(r["state"], r["reason"]) for r in await stack.events(item["id"])]
    assert states == [("applied", None), ("ignored", "item_purged"), ("applied", None)]
