"""Claim, plan, fence, settle, release: facts of the protocol, one test each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from tests.support.interleaving import Actor, PlainConnection, open_stopping_pool
from tests.support.stack import Stack, build_client, build_worker, now
from tests.support.waiting import HANGS_AFTER_S, until
from worker.engine.item_state import load_item_state
from worker.engine.job import OLDEST_EVERY, Worker
from worker.engine.settlement import Due, settle
from worker.inbox.accept import Accepted, accept_events
from worker.inbox.events import own_event
from worker.infra.binary_copy import HEADER
from worker.infra.lanes import Lane
from worker.infra.postgres import Connection, Pool
from worker.infra.redis_client import connect
from worker.infra.sql_files import QUERIES_DIR, SQL_DIR, named_statements
from worker.infra.tasks import end
from worker.lease.lease import LEASE, LeaseLost, SyncSession
from worker.lease.runs import RUN_SEQ_LOCK, run_of_its_own
from worker.maintenance.stalled_copies import end_stalled_copies
from worker.planner.outcomes import Outcome
from worker.planner.state import ItemState
from worker.planner.steps import AskWalk
from worker.store import sweep
from worker.store.lease import (
    ClaimedItem,
    claim_best_item,
    claim_oldest_item,
    claim_woken_item,
    release_item,
)
from worker.sync.account_walk import ask_walk

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


COPYING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'COPY %' AND wait_event = 'ClientRead'
"""


NOT_TO_WAIT = "set_config('synchronous_commit'"
NOT_AWAITED = {"claim_woken_item", "claim_best_item", "claim_oldest_item"}


@pytest.fixture
def worker(db: Pool) -> Worker:
    """A worker that claims; it talks to nobody."""
    redis = connect("redis://unused.invalid")
    return build_worker(db, redis, build_client("http://unused.invalid", redis))


async def tell(
    db: Pool, item_id: uuid.UUID, *, lane: Lane = Lane.LIVE, timeout_s: float = HANGS_AFTER_S
) -> bool:
    """An event of an item; returns whether it made the item due."""
    event = own_event("sync/verify", item_id, lane=lane, now=now())
    [answer] = await accept_events(db, [event], timeout_s=timeout_s)
    assert isinstance(answer, Accepted)
    assert answer.is_new
    return answer.made_due


async def waiting_item(
    db: Pool, *, lane: Lane = Lane.LIVE, since: timedelta = timedelta(0)
) -> uuid.UUID:
    """An item that is due since so long."""
    item_id = uuid.uuid4()
    await tell(db, item_id, lane=lane)
    await db.execute(
        "UPDATE pluggy_sync.item_sync SET run_at = run_at - $2::interval WHERE item_id = $1",
        item_id,
        since,
    )
    return item_id


async def claimed(worker: Worker, woken: uuid.UUID | None = None) -> SyncSession:
    """A claim that has only closed the runs that were lost."""
    lease = await worker.claim(woken)
    assert lease is not None, "nothing is due"
    return await worker.engine._begin(lease)


async def settled(session: SyncSession, item_state: ItemState, state: str = "applied") -> Due:
    """Settle what was planned, with the events as they are now."""
    again = replace(await load_item_state(session), generation=item_state.generation)
    outcomes = {event.id: Outcome(state, due_at=item_state.now) for event in item_state.events}
    return await settle(session, again, outcomes, settling=outcomes)


async def item_row(db: Pool, item_id: uuid.UUID) -> asyncpg.Record:
    row = await db.fetchrow(
        "SELECT * FROM pluggy_sync.item_sync JOIN pluggy_sync.item_leases USING (item_id)"
        " WHERE item_id = $1",
        item_id,
    )
    assert row is not None
    return row


async def let_lapse(db: Pool) -> None:
    """More time passes than a lease lasts."""
    await db.execute("UPDATE pluggy_sync.item_leases SET until = until - interval '1 hour'")


# Events and syncs


async def test_an_event_before_the_plan_is_read_is_part_of_the_sync(
    db: Pool, worker: Worker
) -> None:
    item_id = await waiting_item(db)
    session = await claimed(worker)
    assert not await tell(db, item_id)
    item_state = await load_item_state(session)
    assert len(item_state.events) == 2
    assert not (await settled(session, item_state)).now
    assert await worker.claim(None) is None


async def test_events_between_plan_and_settle_make_exactly_one_follow_up(
    db: Pool, worker: Worker
) -> None:
    item_id = await waiting_item(db)
    session = await claimed(worker)
    item_state = await load_item_state(session)
    for _ in range(5):
        await tell(db, item_id)
    assert (await settled(session, item_state)).now
    follow_up = await claimed(worker)
    changes = await load_item_state(follow_up)
    assert len(changes.events) == 5
    assert not (await settled(follow_up, changes)).now
    assert await worker.claim(None) is None


async def test_an_event_between_the_last_plan_and_settle_is_not_lost(
    db: Pool, worker: Worker
) -> None:
    """It comes when everything that the settlement is given has been read already."""
    item_id = await waiting_item(db)
    session = await claimed(worker)
    item_state = await load_item_state(session)
    outcomes = {event.id: Outcome("applied") for event in item_state.events}
    await tell(db, item_id)
    due = await settle(session, item_state, outcomes, settling=outcomes)
    assert due.now
    row = await item_row(db, item_id)
    assert (row["generation"], row["done_generation"], row["lane"]) == (2, 1, Lane.LIVE)
    assert len((await load_item_state(await claimed(worker))).events) == 1


async def test_a_bump_during_a_sync_is_not_lost_though_it_changes_no_due_time(
    db: Pool, worker: Worker
) -> None:
    item_id = await waiting_item(db, since=timedelta(minutes=1))
    session = await claimed(worker)
    item_state = await load_item_state(session)
    before = await item_row(db, item_id)
    assert not await tell(db, item_id), "it is due already, so nobody has to be woken for"
    after = await item_row(db, item_id)
    assert after["run_at"] == before["run_at"]
    assert (await settled(session, item_state)).now


async def test_a_settled_item_rests(db: Pool, worker: Worker) -> None:
    item_id = await waiting_item(db)
    session = await claimed(worker)
    item_state = await load_item_state(session)
    assert not (await settled(session, item_state)).now
    row = await item_row(db, item_id)
    assert (row["run_at"], row["token"], row["lane"]) == (None, None, Lane.AUDIT)
    assert row["done_generation"] == row["generation"] == 1


async def test_what_is_deferred_makes_the_item_due_then_and_a_new_event_at_once(
    db: Pool, worker: Worker
) -> None:
    item_id = await waiting_item(db)
    session = await claimed(worker)
    item_state = await load_item_state(session)
    outcomes = {
        event.id: Outcome("pending", due_at=item_state.now + timedelta(hours=1))
        for event in item_state.events
    }
    due = await settle(session, item_state, outcomes, settling=outcomes)
    assert not due.now
    row = await item_row(db, item_id)
    assert row["run_at"] == item_state.now + timedelta(hours=1)
    assert row["lane"] == Lane.RETRY
    assert await worker.claim(None) is None
    assert await tell(db, item_id), "a ring is needed: the item was not due"
    assert len((await load_item_state(await claimed(worker))).events) == 2


async def test_sixty_events_during_a_sync_lead_to_one_more(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    await stack.tell("item/updated", item["id"])
    session = await claimed(stack.worker)
    item_state = await load_item_state(session)
    for _ in range(60):
        await stack.tell("item/updated", item["id"])
    assert (await settled(session, item_state)).now
    assert await stack.quiet() == 1
    assert set(await stack.states(item["id"])) == {"applied"}


# Leases


async def test_an_item_is_leased_to_one_worker(db: Pool, worker: Worker) -> None:
    await waiting_item(db)
    assert await worker.claim(None) is not None
    assert await worker.claim(None) is None


async def test_many_workers_share_the_due_items_without_any_twice(db: Pool, worker: Worker) -> None:
    items = {await waiting_item(db) for _ in range(40)}
    leases = await asyncio.gather(*[worker.claim(None) for _ in range(60)])
    found = [lease.item_id for lease in leases if lease]
    assert len(found) == len(set(found))
    while lease := await worker.claim(None):
        found.append(lease.item_id)
    assert set(found) == items
    assert len(found) == 40


async def test_a_claim_of_a_due_item_is_all_that_is_not_awaited_on_disk(db: Pool) -> None:
    files = [path for path in SQL_DIR.rglob("*.sql") if NOT_TO_WAIT in path.read_text("utf-8")]
    assert files == [QUERIES_DIR / "lease.sql"]
    statements = named_statements(files[0])
    assert {name for name, text in statements if NOT_TO_WAIT in text} == NOT_AWAITED
    claims: list[Callable[[Connection, uuid.UUID], Awaitable[ClaimedItem | None]]] = [
        lambda conn, item_id: claim_woken_item(conn, item_id, lease_for=LEASE),
        lambda conn, _: claim_best_item(conn, lease_for=LEASE, lowest_lane=int(Lane.AUDIT)),
        lambda conn, _: claim_oldest_item(conn, lease_for=LEASE),
    ]
    for claim in claims:
        item_id = await waiting_item(db)
        async with db.acquire() as conn, conn.transaction():
            await conn.execute("SET LOCAL synchronous_commit = on")
            assert await claim(conn, item_id)
            assert await conn.fetchval("SHOW synchronous_commit") == "off"


async def test_a_lapsed_lease_is_claimed_by_another_worker(db: Pool, worker: Worker) -> None:
    item_id = await waiting_item(db)
    first = await claimed(worker)
    assert await worker.claim(None) is None
    await let_lapse(db)
    second = await claimed(worker)
    assert second.item_id == item_id
    assert second.lease.token != first.lease.token


async def test_every_page_prolongs_the_lease(db: Pool, worker: Worker) -> None:
    item_id = await waiting_item(db)
    session = await claimed(worker)
    await db.execute("UPDATE pluggy_sync.item_leases SET until = now() + interval '1 second'")
    async with session.page():
        pass
    left = await db.fetchval(
        "SELECT until - now() FROM pluggy_sync.item_leases WHERE item_id = $1", item_id
    )
    assert LEASE - timedelta(seconds=10) < left <= LEASE


async def test_a_worker_that_was_overtaken_writes_and_settles_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    await stack.tell("item/updated", item["id"])
    stalled = await claimed(stack.worker)
    item_state = await load_item_state(stalled)
    await let_lapse(stack.db)
    await stack.quiet()
    rows, state = await mirrored(stack), await item_row(stack.db, uuid.UUID(item["id"]))
    account = next(iter(item_state.accounts))
    with pytest.raises(LeaseLost):
        await stalled.open_run("sync")
    with pytest.raises(LeaseLost):
        async with stalled.page() as conn:
            await conn.execute("UPDATE pluggy.transactions SET description = 'overtaken'")
    with pytest.raises(LeaseLost):
        await ask_walk(stalled, AskWalk(account, Lane.AUDIT, True, None))
    with pytest.raises(LeaseLost):
        await settled(stalled, item_state, "dead")
    assert await mirrored(stack) == rows
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.account_walks") == 0
    assert await item_row(stack.db, uuid.UUID(item["id"])) == state
    assert set(await stack.states(item["id"])) == {"applied"}


async def mirrored(stack: Stack) -> list[asyncpg.Record]:
    """Every row of the mirror with the transaction that wrote it."""
    return await stack.db.fetch(
        "SELECT ctid, xmin, t FROM pluggy.transactions t ORDER BY item_id, id"
    )


async def test_an_overtaken_hand_back_takes_the_lease_from_nobody(db: Pool, worker: Worker) -> None:
    item_id = await waiting_item(db)
    stalled = await claimed(worker)
    await let_lapse(db)
    current = await claimed(worker)
    await release_item(db, item_id=item_id, token=stalled.lease.token)
    assert (await item_row(db, item_id))["token"] == current.lease.token


async def test_a_worker_that_stands_still_within_a_page_blocks_no_delivery_and_no_other_item(
    db: Pool, worker: Worker
) -> None:
    item_id, other = await waiting_item(db, since=timedelta(minutes=1)), await waiting_item(db)
    session = await claimed(worker)
    assert session.item_id == item_id
    async with session.page():
        # A delivery that waits for a lock would raise TimeoutError.
        await tell(db, item_id, timeout_s=5.0)
        await tell(db, other, timeout_s=5.0)
        assert (await claimed(worker)).item_id == other
        assert await worker.claim(item_id) is None, "its lock is passed over, not waited for"


async def test_the_server_ends_a_session_that_stands_still_within_a_page(
    db: Pool, worker: Worker
) -> None:
    await waiting_item(db)
    session = await claimed(worker)
    setting = "SELECT current_setting('idle_in_transaction_session_timeout')"
    async with session.page() as conn:
        pid = conn.get_server_pid()
        assert await conn.fetchval(setting) == "15s"
    async with db.acquire() as conn:
        assert conn.get_server_pid() == pid
        assert await conn.fetchval(setting) == "0", "outlives the transaction"


async def test_a_session_whose_worker_stands_still_within_a_copy_is_ended(
    db: Pool, worker: Worker
) -> None:
    """Postgres itself waits for the rest of the rows, whatever its time-outs are."""
    item_id = await waiting_item(db)
    session = await claimed(worker)

    async def stands_still() -> AsyncIterator[bytes]:
        yield HEADER
        await asyncio.Event().wait()

    async def copy() -> None:
        async with session.page() as conn:
            await conn.copy_to_table(
                "loans", schema_name="pluggy", source=stands_still(), format="binary"
            )

    async def is_waited_for() -> bool:
        return bool(await db.fetchval(COPYING))

    async def is_ended() -> bool:
        return not await is_waited_for()

    copying = asyncio.create_task(copy())
    try:
        await until(is_waited_for, "Postgres waits for rows")
        with capture_logs() as logs:
            await end_stalled_copies(db)
            assert logs == [], "it may be slow"
            await end_stalled_copies(db, stalled_for=timedelta(0))
        assert [(line["event"], line["sessions"]) for line in logs] == [("stalled_copies_ended", 1)]
        await until(is_ended, "its session has ended")
        await let_lapse(db)
        assert (await claimed(worker)).item_id == item_id
    finally:
        await end(copying)


async def test_a_cancelled_sync_releases_its_item_and_spends_no_attempt(stack: Stack) -> None:
    item = await stack.item(transactions=20)
    await stack.tell("item/created", item["id"])
    await stack.fault("GET /accounts", kind="slow", rate=1.0)
    lease = await stack.claim()
    sync = asyncio.create_task(stack.worker.engine.sync(lease))

    async def asked() -> bool:
        return "GET /accounts" in await stack.requests()

    await until(asked, "the accounts are asked for")
    sync.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sync
    row = await item_row(stack.db, lease.item_id)
    assert row["token"] is None
    assert (row["done_generation"], row["generation"]) == (0, 1)
    assert await stack.states(item["id"]) == ["pending"]
    assert await stack.db.fetch("SELECT FROM pluggy_sync.product_sync WHERE attempts > 0") == []
    outcomes = await stack.db.fetch("SELECT outcome FROM pluggy_sync.runs WHERE seq IS NOT NULL")
    assert [run["outcome"] for run in outcomes] == ["released"]
    await stack.clear_faults()
    await stack.quiet()
    await stack.assert_equal(item["id"])


# Lanes


async def test_better_lanes_go_first_and_within_a_lane_who_waits_longest(
    db: Pool, worker: Worker
) -> None:
    minutes = timedelta(minutes=1)
    audit = await waiting_item(db, lane=Lane.AUDIT, since=9 * minutes)
    backfill = await waiting_item(db, lane=Lane.BACKFILL, since=8 * minutes)
    retry = await waiting_item(db, lane=Lane.RETRY, since=7 * minutes)
    newer = await waiting_item(db, since=1 * minutes)
    older = await waiting_item(db, since=2 * minutes)
    order = [(await claimed(worker)).item_id for _ in range(5)]
    assert order == [older, newer, retry, backfill, audit]


async def test_every_twentieth_claim_takes_who_waits_longest_in_any_lane(
    db: Pool, worker: Worker
) -> None:
    for _ in range(OLDEST_EVERY):
        await waiting_item(db)
    audit = await waiting_item(db, lane=Lane.AUDIT, since=timedelta(hours=1))
    order = [(await claimed(worker)).item_id for _ in range(OLDEST_EVERY)]
    assert order.index(audit) == OLDEST_EVERY - 1


async def test_a_wake_up_claims_its_item_before_those_that_wait_longer_if_it_is_live(
    db: Pool, worker: Worker
) -> None:
    longer = await waiting_item(db, since=timedelta(minutes=5))
    woken = await waiting_item(db)
    assert (await claimed(worker, woken)).item_id == woken
    assert (await claimed(worker, woken)).item_id == longer


async def test_a_wake_up_for_bulk_work_takes_the_best_due_item(db: Pool, worker: Worker) -> None:
    woken = await waiting_item(db, lane=Lane.BACKFILL, since=timedelta(hours=1))
    live = await waiting_item(db)
    assert (await claimed(worker, woken)).item_id == live
    assert (await claimed(worker, woken)).item_id == woken


async def test_bulk_work_leaves_the_last_slots_to_live_work(db: Pool, worker: Worker) -> None:
    await waiting_item(db, lane=Lane.BACKFILL)
    retry = await waiting_item(db, lane=Lane.RETRY)
    with ExitStack() as taken:
        while taken.enter_context(worker.engine.bulk.slot()):
            pass
        assert (await claimed(worker)).item_id == retry
        assert [await worker.claim(None) for _ in range(OLDEST_EVERY)] == [None] * OLDEST_EVERY


async def test_nothing_is_claimed_before_it_is_due(db: Pool, worker: Worker) -> None:
    item_id = await waiting_item(db, since=timedelta(hours=-1))
    assert [await worker.claim(item_id) for _ in range(OLDEST_EVERY)] == [None] * OLDEST_EVERY


# The sweep


async def swept(conn: Connection | Pool, *, most: int = 100, key: int = 77) -> set[uuid.UUID]:
    return set(await sweep.sweep_due_items(conn, lock=key, limit=most, lowest_lane=int(Lane.AUDIT)))


async def test_the_sweep_wakes_workers_for_what_is_due_and_nobody_works_on(
    db: Pool, worker: Worker
) -> None:
    leased = await waiting_item(db, since=timedelta(minutes=9))
    assert (await claimed(worker)).item_id == leased
    await waiting_item(db, since=timedelta(hours=-1))
    live, audit = await waiting_item(db), await waiting_item(db, lane=Lane.AUDIT)
    assert await swept(db) == {live, audit}
    assert await swept(db, most=1) == {live}, "better lanes first"
    await let_lapse(db)
    assert await swept(db) == {live, audit, leased}


async def test_one_sweep_at_a_time(db: Pool) -> None:
    item_id = await waiting_item(db)
    async with db.acquire() as first, db.acquire() as second:
        async with first.transaction():
            assert await swept(first) == {item_id}
            assert await swept(second) == set()
        assert await swept(second) == {item_id}


async def test_the_sweep_ignores_events_without_item(db: Pool) -> None:
    event = structs.replace(
        own_event("sync/verify", uuid.uuid4(), lane=Lane.LIVE, now=now()), item_id=None
    )
    await accept_events(db, [event], timeout_s=HANGS_AFTER_S)
    [ignored] = await sweep.ignore_events_without_item(db)
    assert (ignored.event, ignored.events) == ("sync/verify", 1)
    assert await db.fetchval("SELECT state FROM pluggy_sync.webhook_events") == "ignored"
    assert await sweep.ignore_events_without_item(db) == []


# Runs, the feed of the company's own code


async def feed(db: Pool, cursor: int) -> list[asyncpg.Record]:
    """What a consumer reads: the runs behind its cursor."""
    return await db.fetch(
        "SELECT id, seq, outcome FROM pluggy_sync.runs WHERE seq > $1 ORDER BY seq", cursor
    )


async def test_the_next_claim_closes_the_runs_that_were_lost(db: Pool, worker: Worker) -> None:
    item_id = await waiting_item(db)
    lost = await claimed(worker)
    await lost.open_run("sync")
    await let_lapse(db)
    assert await feed(db, 0) == []
    assert (await claimed(worker)).item_id == item_id
    [run] = await feed(db, 0)
    assert (run["id"], run["outcome"]) == (lost.run.id, "lost")
    await lost.close_run("done")
    assert await feed(db, 0) == [run], "a run is closed once"


async def test_a_claim_that_has_lapsed_closes_no_run_of_the_next(db: Pool, worker: Worker) -> None:
    await waiting_item(db)
    lost = await claimed(worker)
    await lost.open_run("sync")
    await let_lapse(db)
    late = await worker.claim(None)
    assert late is not None
    assert late.has_open_runs
    await let_lapse(db)
    session = await claimed(worker)
    await session.open_run("sync")
    await worker.engine._begin(late)
    assert [run["id"] for run in await feed(db, 0)] == [lost.run.id]
    await session.close_run("done")
    assert [run["outcome"] for run in await feed(db, 0)] == ["lost", "done"]


async def test_a_run_in_the_feed_has_all_its_rows(db: Pool, worker: Worker) -> None:
    """While a page is under way nobody can claim its item, and so nobody closes its run."""
    item_id = await waiting_item(db)
    session = await claimed(worker)
    await session.open_run("sync")
    async with session.page() as conn:
        await write_row(conn, session)
        await db.execute(
            "UPDATE pluggy_sync.item_leases SET until = now() - interval '1 hour'"
            " WHERE item_id IN (SELECT item_id FROM pluggy_sync.item_leases FOR UPDATE SKIP LOCKED)"
        )
        assert await worker.claim(item_id) is None
        assert await feed(db, 0) == []
    await let_lapse(db)
    await claimed(worker)
    [run] = await feed(db, 0)
    assert await rows_of(db, run["id"]) == 1


async def write_row(conn: Connection, session: SyncSession) -> None:
    await conn.execute(
        "INSERT INTO pluggy.accounts (item_id, id, payload, row_hash, row_version, run_id)"
        " VALUES ($1, gen_random_uuid(), '{}', '', 1, $2)",
        session.item_id,
        session.run.id,
    )


async def rows_of(db: Pool, run_id: int) -> int:
    found: int = await db.fetchval("SELECT count(*) FROM pluggy.accounts WHERE run_id = $1", run_id)
    return found


async def by_settlement(session: SyncSession) -> None:
    """A sync ends: its settlement closes the run."""
    await settled(session, await load_item_state(session))


async def by_release(session: SyncSession) -> None:
    """A sync is broken off: its run is closed alone."""
    await session.close_run("released")


@asynccontextmanager
async def stopping(database_url: str) -> AsyncIterator[tuple[PlainConnection, Pool, Worker]]:
    """A worker that stops before every statement, its pool, and a session that watches."""
    async with AsyncExitStack() as opened:
        control = await asyncpg.connect(database_url)
        opened.push_async_callback(control.close)
        pool = await open_stopping_pool(database_url)
        opened.callback(pool.terminate)
        redis = connect("redis://unused.invalid")
        yield control, pool, build_worker(pool, redis, build_client("http://unused.invalid", redis))


closings = pytest.mark.parametrize("close", [by_settlement, by_release])
Closing: TypeAlias = Callable[[SyncSession], Coroutine[Any, Any, None]]


@closings
async def test_a_later_run_gets_its_place_only_when_the_earlier_is_visible(
    db: Pool, worker: Worker, close: Closing
) -> None:
    earlier, later = [await running(db, worker) for _ in range(2)]
    ids = [earlier.run.id, later.run.id]
    async with db.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("SELECT pg_advisory_xact_lock($1)", RUN_SEQ_LOCK)
        await conn.execute(
            "UPDATE pluggy_sync.runs SET seq = nextval('pluggy_sync.run_seq'), finished_at = now()"
            " WHERE id = $1",
            earlier.run.id,
        )
        closing = asyncio.create_task(close(later))
        await until(waits_or_is_done(db, closing), "the later one waits")
        assert not closing.done()
        assert await feed(db, 0) == []
        await transaction.commit()
    await closing
    assert [run["id"] for run in await feed(db, 0)] == ids


@closings
async def test_a_consumer_misses_no_run_however_many_close_at_once(
    db: Pool, worker: Worker, close: Closing
) -> None:
    claims = [await running(db, worker) for _ in range(60)]
    ids = {session.run.id for session in claims}
    for session in claims:
        async with session.page() as conn:
            await write_row(conn, session)
    closing = asyncio.gather(*[close(session) for session in claims])
    seen: list[int] = []
    cursor = 0
    async with asyncio.timeout(60):
        while len(seen) < len(ids):
            for run in await feed(db, cursor):
                assert await rows_of(db, run["id"]) == 1
                seen.append(run["id"])
                cursor = run["seq"]
    await closing
    assert len(seen) == len(set(seen))
    assert set(seen) == ids


@closings
async def test_a_worker_that_stands_still_while_it_closes_its_run_holds_no_other_up(
    database_url: str, close: Closing
) -> None:
    """Stopped at any point of it, also for ever: the others' runs go on into the feed."""
    async with stopping(database_url) as (control, pool, worker), AsyncExitStack() as opened:
        stalled, other = Actor("stalled", control), Actor("other", control)
        for actor in (stalled, other):
            opened.push_async_callback(actor.kill)
            await actor.begin(close(await running(pool, worker)))
        while not stalled.idle:  # before each statement in turn
            while not other.idle:
                assert await other.advance([stalled]), "it waits for the one that stands still"
            await other.begin(close(await running(pool, worker)))
            await stalled.advance()


async def test_a_run_of_one_transaction_holds_the_others_up_for_seconds_at_most(db: Pool) -> None:
    async with db.acquire() as conn, conn.transaction():
        async with run_of_its_own(conn, "flags"):
            pass
        assert await conn.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"
    async with db.acquire() as conn:
        assert await conn.fetchval("SHOW idle_in_transaction_session_timeout") != "5s"


async def running(db: Pool, worker: Worker) -> SyncSession:
    """A claim whose run is open."""
    await waiting_item(db)
    session = await claimed(worker)
    await session.open_run("sync")
    return session


def waits_or_is_done(db: Pool, task: asyncio.Task[None]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return task.done() or bool(await db.fetchval(WAITING))

    return holds
