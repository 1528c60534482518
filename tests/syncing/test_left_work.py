"""Work is never left where nothing takes it up, whatever happens while an item is leased."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.support.left_work import left_work
from tests.support.stack import Stack
from tests.syncing.test_parked_walks import is_due, park, walking
from worker.engine.item_state import begin_sync, load_item_state
from worker.engine.rounds import Rounds
from worker.engine.settlement import settle
from worker.lease.lease import LeaseLost, SyncSession
from worker.maintenance.deletion_review import accept_deletions
from worker.maintenance.reconciliation import (
    CONFIRMATIONS,
    RECONCILIATIONS,
    Reconciliation,
    order_due,
)
from worker.planner.outcomes import Outcome
from worker.planner.state import ItemState
from worker.store import halts, product_sync
from worker.store.rows import DueReconciliation

CODE = "403:no_code"
MINUTE = timedelta(minutes=1)
ALL_DUE = """
UPDATE pluggy_sync.item_reconciliations
SET webhook_check_at = due, recent_read_at = due, verify_at = due, deletions_at = due
FROM (SELECT now() - interval '1 minute' AS due) AS d;
UPDATE pluggy_sync.product_sync SET confirm_at = due, wide_by = due, wide_ordered = false
FROM (SELECT now() - interval '1 minute' AS due) AS d
WHERE product = 'transactions'
"""
BROKEN = {
    "never leased: it has no lease": "DELETE FROM pluggy_sync.item_leases",
    "never due: events that no settlement": "UPDATE pluggy_sync.item_sync SET generation = 99",
    "never due: a pending event": "UPDATE pluggy_sync.webhook_events SET state = 'pending'",
    "never due: an event without its": "UPDATE pluggy_sync.webhook_events SET state = 'walking'",
    "never due: a walk": "INSERT INTO pluggy_sync.account_walks (item_id, account_id, kind, lane)"
    " SELECT item_id, id, 'walk', 2 FROM pluggy.accounts",
    "never closed: a run": "UPDATE pluggy_sync.runs SET finished_at = NULL",
    "never revived: an event": "UPDATE pluggy_sync.webhook_events"
    " SET state = 'ignored', reason = 'product_parked'",
    "never read again: an empty first list": "UPDATE pluggy_sync.product_sync"
    " SET awaits_rows = true, confirm_at = NULL WHERE product = 'loans'",
    "never reconciled": "DELETE FROM pluggy_sync.item_reconciliations",
    "never checked for a missed": "UPDATE pluggy_sync.item_reconciliations"
    " SET webhook_check_at = NULL",
    "never read again: the recent days": "UPDATE pluggy_sync.product_sync SET recent_seq = NULL",
    "never asked again": "UPDATE pluggy.transactions"
    " SET deletion_flagged_at = now(), deletion_flag = 'no_witness'",
    "left behind: the step of a tombstone": "UPDATE pluggy.accounts SET deleted_at = now()",
    "left behind: progress": "INSERT INTO pluggy_sync.id_progress (event_row_id, pending_seq, done)"
    " SELECT id, pending_seq, 1 FROM pluggy_sync.webhook_events",
    "left behind: pages": "INSERT INTO pluggy_sync.walk_pages (walk_id, kind, ids)"
    " VALUES (1, 'listed', '{}')",
}
"""By what it leaves: a statement after which something would never be taken up."""


@pytest.fixture(autouse=True)
async def nothing_is_left(request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[None]:
    yield
    if "leaves" not in request.fixturenames:
        assert not await left_work(stack.db)


async def claimed(stack: Stack) -> tuple[SyncSession, ItemState]:
    session = await stack.worker.engine._begin(await stack.claim())
    return session, await begin_sync(session)


async def dies(stack: Stack, session: SyncSession, account_id: uuid.UUID) -> None:
    async with session.page() as conn:
        await product_sync.record_failure(
            conn,
            session.item_id,
            "transactions",
            account_id,
            failure_class="reject",
            code=CODE,
            error_id=None,
            attempts=1,
            pause=None,
            tried_at=session.now,
            tried_seq=session.read_seq,
            endpoint="GET /v2/transactions",
        )


async def halt(stack: Stack, *, code: str = CODE) -> None:
    """As the claim of another item that meets a refusal, here the same one."""
    await halts.halt(stack.db, failure_code=code, advice="Ask Pluggy.", probe_every=MINUTE)


async def dead_after_a_halt(stack: Stack) -> str:
    """An item whose claim, under way when all was halted, has settled its events as dead of it."""
    item_id: str = (await stack.synced_item(transactions=20, accounts=1))["id"]
    [account_id] = map(uuid.UUID, map(str, await stack.live(item_id, "accounts")))
    await stack.tell_all(await stack.collect(item_id, created=2))
    session, item_state = await claimed(stack)
    await dies(stack, session, account_id)
    await halt(stack)
    outcomes = {event.id: Outcome("dead", CODE) for event in item_state.events}
    await settle(session, item_state, outcomes, settling=outcomes)
    return item_id


async def test_an_event_left_out_is_revived_though_its_account_was_read_before_that(
    stack: Stack,
) -> None:
    item_id = (await stack.synced_item(transactions=20, accounts=1))["id"]
    await park(stack)
    await stack.tell_all(await stack.collect(item_id, deleted=1))
    await stack.quiet()
    assert "ignored" in await stack.states(item_id)
    await stack.db.execute("DELETE FROM pluggy_sync.parked_products")
    await stack.tell_all(await stack.collect(item_id, created=1))
    # A sync that comes before the periodic task.
    await stack.worker.engine.sync(await stack.claim())
    await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def test_a_walk_that_a_halt_revives_during_a_claim_is_due_after_it(stack: Stack) -> None:
    item_id = await walking(stack)
    [account_id] = map(uuid.UUID, map(str, await stack.live(item_id, "accounts")))
    await stack.db.execute("UPDATE pluggy_sync.webhook_events SET state = 'applied'")
    await stack.shift(MINUTE)
    session, _ = await claimed(stack)
    await dies(stack, session, account_id)
    item_state = await load_item_state(session)
    await halt(stack)
    await settle(session, item_state, {}, settling=())
    await halts.resume(stack.db)
    assert await is_due(stack, item_id)
    await stack.quiet()
    await stack.assert_equal(item_id)


async def test_an_event_that_a_claim_settles_as_dead_after_the_halt_is_due_when_work_resumes(
    stack: Stack,
) -> None:
    item_id = await dead_after_a_halt(stack)
    await stack.shift(MINUTE + MINUTE)
    await halts.resume(stack.db)
    await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def test_what_died_of_a_first_halt_is_due_though_a_second_one_has_another_cause(
    stack: Stack,
) -> None:
    item_id = await dead_after_a_halt(stack)
    await halt(stack, code="auth:401")
    await halts.resume(stack.db)
    await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def test_an_item_is_reconciled_though_the_claim_that_fetched_it_has_settled_nothing(
    stack: Stack,
) -> None:
    item_id = (await stack.item(transactions=0, accounts=1))["id"]
    await stack.tell("item/created", item_id)
    session, item_state = await claimed(stack)
    await Rounds(session, item_state, until=float("inf")).run()
    await stack.worker.engine.release(session.lease, session)
    await stack.quiet()
    check = "SELECT webhook_check_at FROM pluggy_sync.item_reconciliations WHERE item_id = $1"
    assert await stack.db.fetchval(check, uuid.UUID(item_id)) is not None


async def test_an_item_that_no_claim_can_fetch_again_is_still_verified(stack: Stack) -> None:
    """The claim that stored it was not settled, and Pluggy has no such item any more."""
    item_id = (await stack.item(transactions=0, accounts=1))["id"]
    await stack.tell("item/created", item_id)
    session, item_state = await claimed(stack)
    await Rounds(session, item_state, until=float("inf")).run()
    await stack.worker.engine.release(session.lease, session)
    await stack.client_deletes(item_id)
    await stack.tell("item/updated", item_id)
    await stack.quiet()
    assert set(await stack.states(item_id)) == {"dead"}
    verify = "SELECT verify_at FROM pluggy_sync.item_reconciliations WHERE item_id = $1"
    assert await stack.db.fetchval(verify, uuid.UUID(item_id)) is not None


async def test_an_order_ends_only_what_it_has_loaded(stack: Stack) -> None:
    """Its worker stands still between the two, and the read of another orders the next one."""
    item_id = (await stack.item(transactions=0, accounts=1))["id"]
    await stack.process("item/created", item_id)
    kind, stall = CONFIRMATIONS[0], timedelta(seconds=30)

    async def load_and_stall(conn: object, /, *, limit: int) -> list[DueReconciliation]:
        due = await kind.load(stack.db, limit=limit)
        await order_due(stack.db, [kind])
        await stack.quiet()
        await stack.shift(stall)
        return [
            DueReconciliation(d.item_id, due_at=d.due_at - stall, readable=d.readable) for d in due
        ]

    await stack.shift(timedelta(seconds=6))
    await order_due(stack.db, [replace(kind, load=load_and_stall)])
    assert await order_due(stack.db, [kind]) == 1


@pytest.mark.parametrize("kind", [*RECONCILIATIONS, *CONFIRMATIONS], ids=lambda k: k.load.__name__)
async def test_no_order_ends_what_became_due_later(stack: Stack, kind: Reconciliation) -> None:
    item_id = uuid.UUID((await stack.synced_item(transactions=5, accounts=1))["id"])
    await stack.db.execute(ALL_DUE)
    before: datetime = await stack.db.fetchval("SELECT now() - interval '1 hour'")
    await kind.end(stack.db, item_ids=[item_id], due_ats=[before])
    assert [found.item_id for found in await kind.load(stack.db, limit=9)] == [item_id]
    await order_due(stack.db, [kind])
    assert not await kind.load(stack.db, limit=9)


async def test_a_claim_writes_nothing_of_an_account_that_a_person_has_tombstoned(
    stack: Stack,
) -> None:
    item_id = (await stack.synced_item(transactions=20, accounts=2))["id"]
    account_id = next(iter(await stack.live(item_id, "accounts")))
    await stack.db.execute(
        "UPDATE pluggy.accounts SET deletion_flagged_at = now(), deletion_flag = 'absent'"
        " WHERE id = $1",
        account_id,
    )
    await stack.tell_all(await stack.collect(item_id, created=4))
    session, item_state = await claimed(stack)
    assert await accept_deletions(stack.db, item_id=uuid.UUID(item_id))
    with pytest.raises(LeaseLost):
        await Rounds(session, item_state, until=float("inf")).run()
    assert await is_due(stack, item_id)
    await stack.quiet()
    assert not await left_work(stack.db)


async def test_an_event_whose_walk_goes_with_its_account_is_settled(stack: Stack) -> None:
    item_id = await walking(stack)
    await park(stack)
    await stack.after(MINUTE)
    await stack.db.execute(
        "UPDATE pluggy.accounts SET deletion_flagged_at = now(), deletion_flag = 'absent'"
    )
    assert not await is_due(stack, item_id)
    assert await accept_deletions(stack.db, item_id=uuid.UUID(item_id))
    await stack.quiet()
    assert not await left_work(stack.db)


@pytest.mark.parametrize("leaves", BROKEN)
async def test_whatever_is_left_is_noticed(stack: Stack, leaves: str) -> None:
    await stack.synced_item(transactions=5, accounts=1)
    assert not await left_work(stack.db)
    await stack.db.execute(BROKEN[leaves])
    assert any(line.startswith(leaves) for line in await left_work(stack.db))
