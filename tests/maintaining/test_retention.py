"""Retention: our own state stays bounded, and nothing that is needed is deleted."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest

import worker.maintenance.retention
from tests.maintaining.test_purge import deleted_item, purge, wait
from tests.support.stack import TABLES as MIRRORED
from tests.support.stack import Stack
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.infra.postgres import Pool
from worker.maintenance.restatements import link_restatements
from worker.maintenance.retention import TABLES, delete_expired

KEEP = timedelta(days=90)
OLD = timedelta(days=91)
YOUNG = timedelta(days=89)

# Bounded by the mirrored rows, by the ids ever announced, by what else goes (the progress of
# an event's list goes with its event), by Pluggy's list of items, or of a fixed size (one row, or
# one a product).
BOUNDED_OTHERWISE = {
    *(
        "account_walks",
        # The history of balances: a row for an account and a day, gone with its item.
        "balance_snapshots",
        "item_leases",
        "item_reconciliations",
        "item_sync",
        "product_sync",
        "purges",
    ),
    *("restatements", "purge_receipts", "subscriptions", "workers"),
    *("reference_data_sync", "halts", "installation", "migrations", "restatement_cursor"),
    *("retention_cursor", "periodic_task_leases"),
    *("id_progress", "parked_products", "redis_settings", "status_keys", "worker_settings"),
    *("account_links", "row_links", "erasures", "unknown_items", "withdrawn_connectors"),
}


async def forget(db: Pool, *, turns: int = 1) -> None:
    for _ in range(turns):
        await db.execute(
            "UPDATE pluggy_sync.periodic_task_leases SET due_at = '-infinity'"
            " WHERE name = 'retention'"
        )
        assert await delete_expired(db, KEEP)


async def rest(db: Pool) -> None:
    """A day passes for the walk over old runs."""
    await db.execute("UPDATE pluggy_sync.retention_cursor SET rests_until = '-infinity'")


async def add_event(db: Pool, state: str, age: timedelta) -> int:
    settled = state in ("applied", "ignored", "dead")
    added: int = await db.fetchval(
        "INSERT INTO pluggy_sync.webhook_events (event_id, body_sha256, event, lane, state, body,"
        " received_at, accepted_at, settled_at, item_id)"
        " SELECT $1::text, '', 'item/updated', 0, $2, 'x', t, t, CASE WHEN $4 THEN t END,"
        " $1::text::uuid"
        " FROM (SELECT now() - $3::interval AS t) AS received RETURNING id",
        str(uuid.uuid4()),
        state,
        age,
        settled,
    )
    return added


async def count(db: Pool, table: str) -> int:
    found: int = await db.fetchval(f"SELECT count(*) FROM pluggy_sync.{table}")  # noqa: S608 - constants
    return found


async def test_every_table_of_our_state_is_bounded(db: Pool) -> None:
    """A table that is new has to be thought of: what keeps it small?"""
    found = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'pluggy_sync'")
    tables = {record["tablename"] for record in found}
    assert tables == {*TABLES, "runs"} | BOUNDED_OTHERWISE
    assert not BOUNDED_OTHERWISE & set(TABLES)


async def test_settled_events_go_when_they_are_old_and_what_is_open_stays_whatever_its_age(
    db: Pool,
) -> None:
    for state in ("applied", "ignored"):
        await add_event(db, state, OLD)
    stay = [await add_event(db, state, OLD) for state in ("pending", "walking", "dead")]
    stay += [await add_event(db, state, YOUNG) for state in ("applied", "ignored", "pending")]
    await forget(db)
    left = await db.fetch("SELECT id FROM pluggy_sync.webhook_events ORDER BY id")
    assert [record["id"] for record in left] == stay


async def test_the_progress_of_a_list_goes_with_its_event(db: Pool) -> None:
    for state, age in (("applied", OLD), ("pending", OLD)):
        await db.execute(
            "INSERT INTO pluggy_sync.id_progress (event_row_id, pending_seq, done)"
            " VALUES ($1, 1, 1)",
            await add_event(db, state, age),
        )
    await forget(db)
    assert await count(db, "id_progress") == 1


async def test_an_old_event_that_was_settled_lately_stays(db: Pool) -> None:
    event = await add_event(db, "applied", OLD)
    await db.execute("UPDATE pluggy_sync.webhook_events SET settled_at = now()")
    await forget(db)
    assert await db.fetchval("SELECT id FROM pluggy_sync.webhook_events") == event


async def test_an_event_that_is_set_pending_meanwhile_stays(db: Pool) -> None:
    event = await add_event(db, "ignored", OLD)
    async with db.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(
            "UPDATE pluggy_sync.webhook_events SET state = 'pending', settled_at = NULL"
        )
        forgetting = asyncio.create_task(forget(db))

        async def waits() -> bool:
            return bool(
                await db.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
            )

        await until(waits, "it waits for the one who sets it pending")
        await transaction.commit()
        await forgetting
    assert await db.fetchval("SELECT id FROM pluggy_sync.webhook_events") == event


async def test_figures_and_findings_go_when_they_are_old(db: Pool) -> None:
    item = uuid.uuid4()
    for number, age in enumerate((OLD, YOUNG)):
        await db.execute(
            "INSERT INTO pluggy_sync.delivery_counts SELECT now() - $1::interval, 'e', 'a', 1", age
        )
        await db.execute(
            "INSERT INTO pluggy_sync.rejected_rows (item_id, product, row_id, reason, body, run_id,"
            " rejected_at) SELECT $1, 'p', $2, 'r', '', 1, now() - $3::interval",
            item,
            str(number),
            age,
        )
        await db.execute(
            "INSERT INTO pluggy_sync.contract_drift (entity, path, run_id, last_seen_at)"
            " SELECT 'e', $1, 1, now() - $2::interval",
            str(number),
            age,
        )
        await db.execute(
            "INSERT INTO pluggy_sync.drift (run_id, product, scope_id, item_id, inserted,"
            " changed, deleted, found_at)"
            " SELECT $1, 'p', $2, $2, 1, 0, 0, now() - $3::interval",
            number,
            item,
            age,
        )
        await db.execute(
            "INSERT INTO pluggy_sync.missed_webhooks (item_id, source_updated_at, collected_at,"
            " found_at, judged_at) SELECT $1, now() - $2::interval, now(), now(),"
            " now() - $2::interval",
            item,
            age,
        )
    await db.execute(
        "INSERT INTO pluggy_sync.missed_webhooks (item_id, source_updated_at, collected_at,"
        " found_at) SELECT $1, now() - interval '1 year', now(), now() - interval '1 year'",
        item,
    )
    await db.execute(
        "INSERT INTO pluggy_sync.walk_pages (walk_id, kind, ids) VALUES (7, 'listed', '{}')"
    )
    await forget(db)
    counts = {table: await count(db, table) for table in TABLES}
    # Of the missed webhooks one is not judged yet.
    assert counts == {
        "webhook_events": 0,
        "delivery_counts": 1,
        "rejected_rows": 1,
        "contract_drift": 1,
        "missed_webhooks": 2,
        "drift": 1,
        "walk_pages": 0,
    }


async def age_everything(stack: Stack) -> None:
    await stack.shift(OLD)
    await stack.db.execute(
        "UPDATE pluggy_sync.runs SET started_at = started_at - $1::interval,"
        " finished_at = finished_at - $1::interval",
        OLD,
    )


async def test_a_row_keeps_its_reason_for_as_long_as_it_holds(stack: Stack) -> None:
    item = await stack.synced_item(transactions=300, connectorId=600)
    for _ in range(3):
        await stack.process("item/updated", item["id"])
    await age_everything(stack)
    await link_restatements(stack.db)
    before = await count(stack.db, "runs")
    await forget(stack.db)
    assert await count(stack.db, "runs") < before
    for table in ("items", "connectors", "categories", *MIRRORED):
        orphans = await stack.db.fetchval(
            f"SELECT count(*) FROM pluggy.{table} t WHERE NOT EXISTS"  # noqa: S608 - constants
            " (SELECT FROM pluggy_sync.runs r WHERE r.id = t.run_id)"
        )
        assert orphans == 0, table
    named = await stack.db.fetchval("SELECT count(DISTINCT run_id) FROM pluggy.transactions")
    assert 0 < named <= await count(stack.db, "runs")


async def test_what_is_forgotten_changes_nothing_for_what_comes(stack: Stack) -> None:
    item = await stack.synced_item(transactions=100)
    await age_everything(stack)
    await link_restatements(stack.db)
    await forget(stack.db)
    assert await count(stack.db, "webhook_events") == 0
    rows = await stack.db.fetch("SELECT ctid, xmin FROM pluggy.transactions ORDER BY id")
    await stack.process_order("sync/verify", item["id"])
    assert await stack.db.fetch("SELECT ctid, xmin FROM pluggy.transactions ORDER BY id") == rows
    await stack.collect(item["id"], created=2, deleted=1)
    await stack.tell("item/updated", item["id"])
    await stack.process_order("sync/verify", item["id"])
    await stack.assert_equal(item["id"])


async def test_runs_that_have_yet_to_be_checked_stay(stack: Stack) -> None:
    await stack.synced_item(transactions=20)
    await age_everything(stack)
    before = await count(stack.db, "runs")
    await forget(stack.db)
    assert await count(stack.db, "runs") == before


async def test_the_walk_over_old_runs_goes_on_where_it_was_and_begins_again_the_next_day(
    db: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute(
        "INSERT INTO pluggy_sync.runs (seq, kind, started_at, finished_at, outcome)"
        " SELECT n, 'sync', now() - $1::interval, now() - $1::interval, 'done'"
        " FROM generate_series(1, 50) AS n",
        OLD,
    )
    await db.execute("UPDATE pluggy_sync.restatement_cursor SET seq = 50")
    # The first is still named by a row that never changed again.
    first = await db.fetchval("SELECT min(id) FROM pluggy_sync.runs")
    await db.execute(
        "INSERT INTO pluggy.categories (id, payload, row_hash, row_version, run_id)"
        " VALUES ('1', '{}', '', 1, $1)",
        first,
    )
    monkeypatch.setattr(worker.maintenance.retention, "PORTION", 20)
    monkeypatch.setattr(worker.maintenance.retention, "WORK_TIMEOUT_S", 0.0)
    await forget(db)
    assert await count(db, "runs") == 50, "no time, no work"
    monkeypatch.undo()
    monkeypatch.setattr(worker.maintenance.retention, "PORTION", 20)
    await forget(db)
    left = await db.fetch("SELECT id FROM pluggy_sync.runs")
    assert [record["id"] for record in left] == [first]
    await db.execute("DELETE FROM pluggy.categories")
    await forget(db)
    assert await count(db, "runs") == 1, "it rests for a day"
    await rest(db)
    await forget(db)
    assert await count(db, "runs") == 0


async def test_many_old_rows_go_in_small_portions(
    db: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute(
        "INSERT INTO pluggy_sync.delivery_counts"
        " SELECT now() - $1::interval, n::text, 'a', 1 FROM generate_series(1, 105) AS n",
        OLD,
    )
    monkeypatch.setattr(worker.maintenance.retention, "PORTION", 10)
    await forget(db)
    assert await count(db, "delivery_counts") == 0


async def test_one_worker_at_a_time_runs_a_periodic_task(db: Pool) -> None:
    assert await delete_expired(db, KEEP)
    assert not await delete_expired(db, KEEP)


async def test_a_receipt_of_a_purge_and_its_run_stay(stack: Stack) -> None:
    item = await deleted_item(stack, transactions=5)
    await wait(stack, timedelta(days=30))
    await purge(stack)
    await age_everything(stack)
    await link_restatements(stack.db)
    await forget(stack.db)
    receipt = await stack.db.fetchrow(
        "SELECT r.item_id::text, n.kind FROM pluggy_sync.purge_receipts r"
        " JOIN pluggy_sync.runs n ON n.id = r.run_id"
    )
    assert receipt is not None
    assert tuple(receipt) == (item["id"], "purge")
    assert await count(stack.db, "webhook_events") == 0
    # Told of again, it is still known for one that was purged.
    await stack.process("item/updated", item["id"])
    assert [e["reason"] for e in await stack.events(item["id"])] == ["item_deleted"]


async def test_a_worker_process_forgets_unasked(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    await add_event(stack.db, "applied", timedelta(days=15))
    kept = await add_event(stack.db, "applied", timedelta(days=13))
    async with WorkerProcess(database_url, redis_url, stack.simulator.url, RETENTION_DAYS="14"):

        async def done() -> bool:
            left = await stack.db.fetch("SELECT id FROM pluggy_sync.webhook_events")
            return [record["id"] for record in left] == [kept]

        await until(done, "the old event is forgotten")
