"""Reconciliations: what webhooks lose is found in time, at little cost and once."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from arq.connections import ArqRedis

from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget, now
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from tests.syncing.test_transactions import changed, watermarks
from worker.engine.item_state import load_item_state
from worker.engine.missed_webhooks import expect_collection, next_recheck
from worker.engine.settlement import settle
from worker.inbox.accept import Accepted
from worker.infra.postgres import Pool
from worker.lease.lease import LeaseLost, SyncSession
from worker.maintenance.reconciliation import order_due, order_verify, run_reconciliations
from worker.planner.item_status import Item, read_item
from worker.planner.plan import plan
from worker.planner.steps import Gone
from worker.store import halts, reconciliation

DAY = timedelta(days=1)
ALARM = timedelta(days=1, minutes=16)
"""Pluggy collects a day after the last time; the alarm waits another quarter of an hour."""
OPEN_FINANCE = 600


async def cast(stack: Stack) -> int:
    """Order what is due and do it; returns how many events were ordered."""
    ordered = await order_due(stack.db)
    await stack.quiet()
    return ordered


async def ordered(stack: Stack, item_id: str) -> list[str]:
    """Events of our own of an item, oldest first."""
    return [e["event"] for e in await stack.events(item_id) if e["event"].startswith("sync/")]


async def reconciliations_of(stack: Stack, item_id: str) -> asyncpg.Record:
    row = await stack.db.fetchrow(
        "SELECT * FROM pluggy_sync.item_reconciliations WHERE item_id = $1", item_id
    )
    assert row is not None
    return row


async def verify_never(stack: Stack) -> None:
    """Keeps the weekly verify out of a test that is about another net."""
    await stack.db.execute(
        "UPDATE pluggy_sync.item_reconciliations SET verify_at = now() + interval '1 year'"
    )


async def view(stack: Stack, name: str, item_id: str | None = None) -> list[asyncpg.Record]:
    found = await stack.db.fetch(f"SELECT * FROM pluggy_ops.{name}")  # noqa: S608 - constants
    return [r for r in found if item_id is None or str(r["item_id"]) == item_id]


async def judge(stack: Stack) -> None:
    await stack.shift(timedelta(hours=3, minutes=1))
    await reconciliation.judge_missed_webhooks(stack.db)


async def item_of_today(stack: Stack, rows: int, **options: Any) -> dict[str, Any]:
    """An item all of whose rows are of today, and behind the overlap of the next delta."""
    item = await stack.synced_item(transactions=0, **options)
    await stack.process_all(await stack.collect(item["id"], created=rows))
    await stack.shift(timedelta(hours=2))
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    await stack.process_all(await stack.collect(item["id"]))
    return item


# The missed-webhook check.


async def test_a_collection_without_a_webhook_is_found_by_the_check(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, connectorId=OPEN_FINANCE)
    await stack.collect(item["id"], created=5, products={"loans": {"created": 1}})
    assert await cast(stack) == 0
    await stack.shift(ALARM)
    await verify_never(stack)
    assert await cast(stack) == 1
    assert await ordered(stack, item["id"]) == ["sync/missed-webhook-check"]
    assert set(await stack.states(item["id"])) == {"applied"}
    await stack.assert_equal(item["id"])


async def test_a_collection_without_a_webhook_is_a_proven_missed_webhook(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.collect(item["id"], created=1)
    await stack.shift(ALARM)
    await cast(stack)
    assert [r["state"] for r in await view(stack, "missed_webhooks")] == ["waiting"]
    await judge(stack)
    assert [r["state"] for r in await view(stack, "missed_webhooks")] == ["proven"]
    kinds = [r["kind"] for r in await view(stack, "worklist")]
    assert kinds == ["missed_webhooks"]


@pytest.mark.parametrize("late", [timedelta(minutes=5), timedelta(hours=2, minutes=50)])
async def test_a_webhook_that_comes_within_three_hours_is_not_missed(
    stack: Stack, late: timedelta
) -> None:
    item = await stack.synced_item(transactions=20)
    answer = await stack.collect(item["id"], created=1)
    await stack.shift(ALARM)
    await cast(stack)
    await stack.shift(late)
    await stack.process_all(answer)
    await judge(stack)
    assert await view(stack, "missed_webhooks") == []


async def test_transactions_events_alone_do_not_show_that_a_collection_ended(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, connectorId=OPEN_FINANCE)
    answer = await stack.collect(item["id"], created=1, products={"loans": {"updated": 1}})
    answer["events"] = [e for e in answer["events"] if e["event"] != "item/updated"]
    await stack.process_all(answer)
    await stack.shift(timedelta(minutes=16))
    assert await cast(stack) == 1
    await stack.assert_equal(item["id"])
    await judge(stack)
    assert [r["state"] for r in await view(stack, "missed_webhooks")] == ["proven"]


async def test_an_announced_collection_costs_no_check(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, connectorId=OPEN_FINANCE)
    for _ in range(3):
        await stack.shift(timedelta(hours=23))
        await stack.process_all(await stack.collect(item["id"], created=2, updated=1))
        await verify_never(stack)
        await stack.shift(timedelta(minutes=30))
        assert await cast(stack) == 0
    assert await ordered(stack, item["id"]) == []


async def test_a_check_without_result_costs_one_request_and_the_pauses_double(
    db: Pool, redis: ArqRedis
) -> None:
    """The collection has begun on time and hangs: the item stays under collection for days."""
    await fill_budget(redis)
    with SimulatorProcess(rate_limit=0, seed=11, step_seconds=10**7, key_ttl=10**8) as simulator:
        async with build_client(simulator.url, redis) as client:
            stack = Stack(db, redis, simulator, client, build_worker(db, redis, client))
            item = await stack.synced_item(transactions=20)
            pauses = await pauses_of_checks(stack, item["id"], checks=8)
    assert pauses == [1, 2, 4, 8, 16, 24, 24, 24]


async def pauses_of_checks(stack: Stack, item_id: str, *, checks: int) -> list[int]:
    """Hours between checks, each of which has cost one request."""
    pauses = []
    for _ in range(checks):
        due = (
            (await reconciliations_of(stack, item_id))["webhook_check_at"]
            - now()
            + timedelta(seconds=1)
        )
        await stack.shift(due)
        await stack.simulator.apost("/_simulator/clock", {"advance": due.total_seconds()})
        await verify_never(stack)
        await stack.reset_requests()
        assert await cast(stack) == 1
        assert await stack.requests() == {"GET /items/{id}": 1}
        pause = (await reconciliations_of(stack, item_id))["webhook_check_at"] - now()
        pauses.append(round(pause.total_seconds() / 3600))
    assert set(await ordered(stack, item_id)) == {"sync/missed-webhook-check"}
    assert set(await stack.states(item_id)) == {"applied"}
    return pauses


async def test_an_item_that_pluggy_does_not_update_is_never_polled(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20, autoSync=False)
    await verify_never(stack)
    await stack.reset_requests()
    for _ in range(10):
        await stack.shift(DAY)
        assert await cast(stack) == 0
    assert await stack.requests() == {}
    shown = await view(stack, "freshness", item["id"])
    assert {(r["state"], r["reason"], r["blocked_on"]) for r in shown} == {
        ("stale", "no_auto_sync", "user")
    }
    assert [r["kind"] for r in await view(stack, "worklist", item["id"])] == ["no_auto_sync"]


async def test_an_updated_item_is_fresh_and_on_no_worklist(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    assert {r["state"] for r in await view(stack, "freshness", item["id"])} == {"fresh"}
    assert await view(stack, "worklist") == []


async def test_an_item_that_is_gone_without_event_is_read_once(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.shift(ALARM)
    await verify_never(stack)
    assert await cast(stack) == 1
    for _ in range(5):
        await stack.shift(DAY)
        assert await cast(stack) == 0
    [work] = await view(stack, "worklist", item["id"])
    assert (work["kind"], work["command"]) == (
        "item_not_found",
        f"pluggy-sync items deleted {item['id']}",
    )
    assert len(await stack.live(item["id"])) == 20


async def test_a_tombstoned_item_is_in_no_net(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.client_deletes(item["id"])
    await stack.process("item/deleted", item["id"])
    await stack.shift(timedelta(days=8))
    assert await cast(stack) == 0
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.item_reconciliations") == 0


def test_a_repeated_read_follows_pluggys_clock_though_ours_differs() -> None:
    ours = datetime(2026, 3, 1, 12, tzinfo=UTC)
    pluggys = ours + timedelta(hours=5)
    item = Item("UPDATED", "SUCCESS", None, None, False, None, {}, pluggys + timedelta(hours=8))
    look = next_recheck(item, now=ours, pluggy_now=pluggys, unannounced=False)
    assert look == ours + timedelta(hours=8, minutes=15)


# The last fourteen days, once a day.


async def test_a_lost_transactions_updated_heals_with_the_next_item_updated(
    late_stack: Stack,
) -> None:
    stack = late_stack
    item = await item_of_today(stack, 80)
    await stack.update(item["id"], updated=6)
    assert await different(stack, item["id"]) == 6
    await stack.shift(timedelta(hours=21))
    await stack.update(item["id"])
    await stack.assert_equal(item["id"])


async def different(stack: Stack, item_id: str) -> int:
    """Rows whose row at Pluggy has another updatedAt."""
    stored, true = await stack.live(item_id), await stack.truth(item_id)
    updated = {i: datetime.fromisoformat(row["updatedAt"]) for i, row in true.items()}
    return sum(row["source_updated_at"] != updated[i] for i, row in stored.items() if i in true)


async def test_the_last_days_are_read_within_a_day_though_nothing_more_is_announced(
    late_stack: Stack,
) -> None:
    """Updated by hand, so the collection of the next day is far away."""
    stack = late_stack
    item = await item_of_today(stack, 80, autoSync=False)
    await stack.update(item["id"], updated=6)
    assert await different(stack, item["id"]) == 6
    await stack.shift(timedelta(hours=23, minutes=1))
    await verify_never(stack)
    await stack.reset_requests()
    assert await cast(stack) == 1
    assert await ordered(stack, item["id"]) == ["sync/recent"]
    await stack.assert_equal(item["id"])
    assert await stack.requests() == {"GET /items/{id}": 1, "GET /v2/transactions": 2}
    await stack.shift(timedelta(days=3))
    assert await cast(stack) == 0


async def test_once_a_day_an_item_updated_costs_one_request_more_per_account(stack: Stack) -> None:
    item = await stack.synced_item(transactions=300, accounts=3, connectorId=OPEN_FINANCE)
    cards = sum(a["type"] == "CREDIT" for a in (await stack.live(item["id"], "accounts")).values())
    others = {"investments": 1, "loans": 1, "identity": 1, "consents": 1, "bills": cards}
    quiet = {"GET /items/{id}": 1, "GET /accounts": 1} | {f"GET /{o}": n for o, n in others.items()}
    # After a collection the movements of each investment are read once.
    if investments := len(await stack.live(item["id"], "investments")):
        quiet["GET /investments/{id}/transactions"] = investments
    for hours, reads in ((21, 2), (8, 1), (8, 1), (8, 2)):
        await stack.shift(timedelta(hours=hours))
        await stack.collect(item["id"])
        await stack.reset_requests()
        await stack.process("item/updated", item["id"])
        asked = await stack.requests()
        asked.pop("POST /auth", None)
        assert asked == quiet | {"GET /v2/transactions": 3 * reads}
        await verify_never(stack)
        assert await cast(stack) == 0


async def test_the_last_days_are_not_read_where_nothing_was_collected(stack: Stack) -> None:
    item = await stack.synced_item(transactions=100)
    await stack.shift(timedelta(hours=21))
    await stack.collect(item["id"], status="OUTDATED")
    await stack.reset_requests()
    await stack.process("item/error", item["id"])
    assert await stack.requests() == {"GET /items/{id}": 1}


async def test_a_recent_read_tombstones_nothing_and_moves_no_watermark(stack: Stack) -> None:
    item = await item_of_today(stack, 60)
    await stack.update(item["id"], deleted=4)
    before = await watermarks(stack, item["id"])
    await stack.shift(timedelta(hours=23, minutes=1))
    await verify_never(stack)
    await stack.simulator.apost("/_simulator/clock", {"advance": 3600})
    assert await cast(stack) == 1
    assert len(await stack.live(item["id"])) == 60
    assert await watermarks(stack, item["id"]) == before


async def test_last_days_of_many_pages_are_read_as_a_walk(stack: Stack) -> None:
    item = await item_of_today(stack, 1300, accounts=1)
    before = await watermarks(stack, item["id"])
    await stack.collect(item["id"], updated=20)
    await stack.shift(timedelta(hours=23, minutes=1))
    await verify_never(stack)
    await stack.reset_requests()
    await stack.process_order("sync/recent", item["id"])
    assert (await stack.requests())["GET /v2/transactions"] == 3
    assert await watermarks(stack, item["id"]) == before
    assert set(await stack.states(item["id"])) == {"applied"}
    assert await different(stack, item["id"]) == 0


async def test_an_empty_answer_for_the_last_days_needs_a_witness(stack: Stack) -> None:
    item = await item_of_today(stack, 40, accounts=1)
    await stack.shift(timedelta(hours=23, minutes=1))
    await stack.fault("GET /v2/transactions", kind="empty", times=2)
    await verify_never(stack)
    assert await cast(stack) == 1
    assert (await stack.states(item["id"]))[-1] == "pending"
    await stack.after(timedelta(minutes=2))
    assert (await stack.states(item["id"]))[-1] == "applied"
    assert len(await stack.live(item["id"])) == 40


# Verify.


async def test_a_lost_transactions_deleted_heals_within_a_week(stack: Stack) -> None:
    item = await stack.synced_item(transactions=300)
    answer = await stack.collect(item["id"], deleted=6)
    await stack.process("item/updated", item["id"])
    gone = {i for ids in changed(answer, "deleted").values() for i in ids}
    assert gone <= set(await stack.live(item["id"]))
    await stack.shift(timedelta(days=7))
    await cast(stack)
    assert "sync/verify" in await ordered(stack, item["id"])
    await stack.assert_equal(item["id"])
    drift = await view(stack, "drift", item["id"])
    assert sum(r["deleted"] for r in drift) == len(gone)
    assert {(r["product"], r["inserted"], r["changed"]) for r in drift} == {("transactions", 0, 0)}


async def test_a_verify_says_when_each_product_was_verified(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.shift(timedelta(days=7))
    await cast(stack)
    shown = await view(stack, "freshness", item["id"])
    assert {r["product"] for r in shown} >= {"transactions", "loans", "bills", "consents"}
    assert all(now() - r["verified_at"] < timedelta(hours=1) for r in shown)
    assert await view(stack, "drift") == []


@pytest.mark.parametrize("table", ["accounts", "loans", "investments", "bills"])
async def test_a_verify_repairs_a_row_of_any_product_and_records_it(
    stack: Stack, table: str
) -> None:
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.db.execute(
        f"UPDATE pluggy.{table} SET row_hash = 'another', source_updated_at = NULL,"  # noqa: S608
        ' payload = payload || \'{"id": "another"}\''
        f" WHERE (item_id, id) = (SELECT item_id, id FROM pluggy.{table} LIMIT 1)"
    )
    await order_verify(stack.db, [uuid.UUID(item["id"])])
    await stack.quiet()
    [drift] = await view(stack, "drift")
    assert (drift["product"], drift["changed"], drift["inserted"]) == (table, 1, 0)
    await stack.assert_equal(item["id"])


async def test_what_a_newer_collection_explains_is_no_drift(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, connectorId=OPEN_FINANCE)
    await stack.collect(item["id"], created=4, updated=3, products={"loans": {"updated": 1}})
    await order_verify(stack.db, [uuid.UUID(item["id"])])
    await stack.quiet()
    await stack.assert_equal(item["id"])
    assert await view(stack, "drift") == []


async def test_rows_mapped_again_by_a_newer_release_are_no_drift(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60)
    await stack.db.execute("UPDATE pluggy.transactions SET row_version = 0")
    await order_verify(stack.db, [uuid.UUID(item["id"])])
    await stack.quiet()
    assert await stack.db.fetchval("SELECT min(row_version) FROM pluggy.transactions") > 0
    assert await view(stack, "drift") == []


async def test_a_verify_killed_within_a_walk_reads_at_most_one_page_again(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    item = await stack.synced_item(transactions=5000, accounts=1)
    await stack.update(item["id"], deleted=3)
    await spoil_newest(stack)
    await stack.fault("GET /v2/transactions", kind="slow", seconds=60, skip=6, times=1)
    await stack.reset_requests()
    await order_verify(stack.db, [uuid.UUID(item["id"])])

    async def asked_and_stored() -> bool:
        pages = await stack.db.fetchval("SELECT pages FROM pluggy_sync.account_walks")
        return pages == 6 and (await stack.requests()).get("GET /v2/transactions", 0) == 7

    async with WorkerProcess(database_url, redis_url, stack.simulator.url) as worker:
        await until(asked_and_stored, "six pages are stored and the seventh is asked for")
        await worker.kill()
    await stack.clear_faults()
    await stack.reset_requests()
    await stack.after(timedelta(seconds=31))
    # Of ten pages six were stored; then the rows that are missing are asked for by id.
    assert (await stack.requests())["GET /v2/transactions"] == 4 + 1
    await stack.assert_equal(item["id"])
    drift = await view(stack, "drift", item["id"])
    assert (sum(r["changed"] for r in drift), sum(r["deleted"] for r in drift)) == (1, 3)
    runs = await stack.db.fetch("SELECT outcome FROM pluggy_sync.runs WHERE kind = 'walk'")
    assert "lost" in {run["outcome"] for run in runs}


async def spoil_newest(stack: Stack) -> None:
    """One row of the first page is not what Pluggy has."""
    await stack.db.execute(
        "UPDATE pluggy.transactions SET row_hash = 'another', source_updated_at = NULL"
        " WHERE id = (SELECT id FROM pluggy.transactions WHERE deleted_at IS NULL"
        " ORDER BY date DESC, id LIMIT 1)"
    )


async def test_an_item_without_consent_is_not_verified(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.collect(item["id"], consent="revoked")
    await stack.process("item/error", item["id"])
    await stack.reset_requests()
    for _ in range(3):
        await stack.shift(timedelta(days=7))
        assert await cast(stack) == 0
    assert "GET /accounts" not in await stack.requests()
    assert (await reconciliations_of(stack, item["id"]))["verify_at"] > now()


async def test_verifies_are_spread_over_the_days_and_keep_their_place(stack: Stack) -> None:
    ids = [uuid.uuid4() for _ in range(400)]
    begun = now()
    schedule = "SELECT pluggy_sync.set_webhook_check($1, NULL)"
    await stack.db.executemany(schedule, [(i,) for i in ids])
    at = await places(stack)
    days = [(place - begun) / DAY for place in at.values()]
    assert min(days) >= 1
    assert max(days) < 6.01
    assert all(sum(day <= d < day + 1 for d in days) > 40 for day in range(1, 6))
    await stack.shift(timedelta(days=20))
    ended = now()
    due_ats = [at[i] - timedelta(days=20) for i in ids]
    await reconciliation.end_verifies(stack.db, item_ids=ids, due_ats=due_ats)
    moved = await places(stack)
    assert all(ended < place < now() + timedelta(days=6) for place in moved.values())
    rounds = {(moved[i] - at[i] + timedelta(days=20)) / timedelta(days=6) for i in ids}
    assert rounds == {3.0, 4.0}


async def test_a_worker_that_lost_its_lease_moves_no_net(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.tell("item/login_succeeded", item["id"])
    stalled, stored = await late_claim(stack), await reconciliations_of(stack, item["id"])
    collected = read_item({"id": item["id"], "nextAutoSyncAt": None}, is_open_finance=False)
    gone = replace(await load_item_state(stalled), item_deleted=True)
    for found in (collected, Gone()):
        await expect_collection(stalled, found, gone, plan(found, gone))
        with pytest.raises(LeaseLost):
            await settle(stalled, gone, {}, settling=())
    assert await reconciliations_of(stack, item["id"]) == stored


async def late_claim(stack: Stack) -> SyncSession:
    """A claim whose lease another worker has by now; it has read Pluggy's time before."""
    session = await stack.worker.engine._begin(await stack.claim())
    session.pluggy.pluggy_now = now()
    await stack.shift(timedelta(minutes=1))
    await stack.claim()
    return session


async def places(stack: Stack) -> dict[uuid.UUID, datetime]:
    """When each item is verified next."""
    found = await stack.db.fetch("SELECT item_id, verify_at FROM pluggy_sync.item_reconciliations")
    return {record["item_id"]: record["verify_at"] for record in found}


async def test_a_verify_by_command_is_a_new_event_each_time(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    for _ in range(2):
        [accepted] = await order_verify(stack.db, [uuid.UUID(item["id"])])
        assert isinstance(accepted, Accepted)
        assert accepted.is_new
        assert accepted.made_due
        await stack.quiet()
    assert await order_verify(stack.db, []) == []
    assert await ordered(stack, item["id"]) == ["sync/verify"] * 2


# Scheduling.


async def test_two_schedulers_at_once_make_one_event(stack: Stack) -> None:
    items = [await stack.synced_item(transactions=5) for _ in range(6)]
    await stack.db.execute(
        "UPDATE pluggy_sync.item_reconciliations"
        " SET webhook_check_at = now(), recent_read_at = now(), verify_at = now()"
    )
    ordered_by = await asyncio.gather(*(order_due(stack.db) for _ in range(4)))
    assert sum(ordered_by) == 3 * len(items)
    for item in items:
        assert sorted(await ordered(stack, item["id"])) == [
            "sync/missed-webhook-check",
            "sync/recent",
            "sync/verify",
        ]
    assert await order_due(stack.db) == 0


async def test_an_order_that_a_crash_cut_short_is_not_stored_twice(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.shift(ALARM)
    await verify_never(stack)
    stored = await reconciliations_of(stack, item["id"])
    assert await order_due(stack.db) == 1
    await stack.db.execute(
        "UPDATE pluggy_sync.item_reconciliations SET webhook_check_at = $2 WHERE item_id = $1",
        stored["item_id"],
        stored["webhook_check_at"],
    )
    assert await order_due(stack.db) == 0
    assert await ordered(stack, item["id"]) == ["sync/missed-webhook-check"]


async def test_reconciliations_are_run_by_one_worker_every_half_minute(stack: Stack) -> None:
    assert sorted(await asyncio.gather(*(run_reconciliations(stack.db) for _ in range(4)))) == [
        False,
        False,
        False,
        True,
    ]
    await stack.db.execute(
        "UPDATE pluggy_sync.periodic_task_leases SET due_at = due_at - interval '31 seconds'"
    )
    assert await run_reconciliations(stack.db)


async def test_no_net_is_cast_while_everything_is_halted(stack: Stack) -> None:
    await stack.synced_item(transactions=5)
    await stack.shift(timedelta(days=8))
    await halts.halt(
        stack.db, failure_code="410:GONE", advice="advice", probe_every=timedelta(minutes=1)
    )
    assert not await run_reconciliations(stack.db)
    await halts.resume(stack.db)
    assert await run_reconciliations(stack.db)
