"""Events are settled when their own steps are done, while their claim goes on for others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.support.stack import Stack
from tests.support.waiting import until
from tests.syncing.test_at_once import Pluggy, barrier, collected, holding
from tests.syncing.test_transactions import changed
from worker.engine.item_state import load_item_state
from worker.engine.settlement import settle_early
from worker.lease.lease import LeaseLost, SyncSession
from worker.planner.outcomes import Outcome, SyncPlan

NEVER_READ = ("investments", "identities", "loans")


async def queue_row(stack: Stack, item_id: str) -> asyncpg.Record | None:
    """What only the last settlement changes."""
    return await stack.db.fetchrow(
        "SELECT s.*, l.token, l.until FROM pluggy_sync.item_sync s"
        " JOIN pluggy_sync.item_leases l USING (item_id) WHERE item_id = $1",
        item_id,
    )


async def claimed(stack: Stack) -> SyncSession:
    session = await stack.worker.engine._begin(await stack.claim())
    session.now = session.lease.now
    return session


async def told_twice(stack: Stack) -> tuple[str, SyncSession, list[int]]:
    """An item whose two events a claim has planned."""
    item_id = (await stack.synced_item(transactions=10))["id"]
    for _ in range(2):
        await stack.tell("item/updated", item_id)
    session = await claimed(stack)
    state = await load_item_state(session)
    await session.open_run("sync", [event.id for event in state.events])
    return item_id, session, [event.id for event in state.events]


async def settle_first(session: SyncSession, ids: list[int], **more: Any) -> None:
    first, second = ids
    outcomes = {first: Outcome("applied"), second: Outcome("pending")}
    await settle_early(session, await load_item_state(session), SyncPlan((), outcomes, **more))


async def test_an_early_settlement_changes_event_rows_only(stack: Stack) -> None:
    item_id, session, ids = await told_twice(stack)
    before = await queue_row(stack, item_id)
    await settle_first(session, ids)
    assert (await stack.states(item_id))[-2:] == ["applied", "pending"]
    assert await queue_row(stack, item_id) == before
    assert before is not None
    assert before["run_at"] is not None


async def test_an_early_settlement_without_the_lease_changes_nothing(stack: Stack) -> None:
    item_id, session, ids = await told_twice(stack)
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = gen_random_uuid()")
    with pytest.raises(LeaseLost):
        await settle_first(session, ids)
    assert (await stack.states(item_id))[-2:] == ["pending", "pending"]


async def test_nothing_is_settled_early_while_a_parked_step_is_to_be_recorded(
    stack: Stack,
) -> None:
    item_id, session, ids = await told_twice(stack)
    await settle_first(session, ids, parked=frozenset({("loans", session.item_id)}))
    assert (await stack.states(item_id))[-2:] == ["pending", "pending"]


async def end_by_lost_lease(stack: Stack, pluggy: Pluggy, _: asyncio.Task[Any]) -> None:
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = gen_random_uuid()")
    pluggy.held.clear()


async def end_by_shutdown(_: Stack, __: Pluggy, syncing: asyncio.Task[Any]) -> None:
    syncing.cancel()


async def end_in_peace(_: Stack, pluggy: Pluggy, __: asyncio.Task[Any]) -> None:
    pluggy.held.clear()


@pytest.mark.parametrize("end", [end_by_lost_lease, end_by_shutdown, end_in_peace])
async def test_an_event_of_read_rows_waits_for_no_other_list_and_the_rest_is_not_forgotten(
    stack: Stack, end: Callable[[Stack, Pluggy, asyncio.Task[Any]], Awaitable[None]]
) -> None:
    changes = {"loans": {"updated": 1}}
    item_id, answer = await collected(stack, created=4, updated=2, products=changes)
    new = {row_id for ids in changed(answer, "created").values() for row_id in ids}
    await stack.tell_all(answer)
    about_rows = [e["event"].startswith("transactions/") for e in await stack.events(item_id)]
    async with holding(stack, "/loans") as pluggy:
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        before = await queue_row(stack, item_id)

        async def rows_are_settled() -> bool:
            states = await stack.states(item_id)
            told = zip(states, about_rows, strict=True)
            return all(state == "applied" for state, about in told if about)

        await until(rows_are_settled, "the events of transactions are settled")
        assert new <= set(await stack.live(item_id)), "settled before their rows were stored"
        [whole] = [e for e in await stack.events(item_id) if e["state"] == "pending"]
        assert whole["event"] == "item/updated"
        now = await queue_row(stack, item_id)
        assert before is not None
        assert now is not None
        unchanged = ("generation", "done_generation", "run_at", "token")
        assert [now[name] for name in unchanged] == [before[name] for name in unchanged]
        assert now["done_generation"] < now["generation"]
        await end(stack, pluggy, syncing)
        await asyncio.wait({syncing})
    if end is not end_in_peace:
        await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = NULL, until = now()")
        assert (await stack.states(item_id)).count("pending") == 1
        await stack.quiet()
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def test_an_event_stays_pending_while_steps_beyond_its_own_are_left(stack: Stack) -> None:
    """The other event, which waits for its second look, does not bring about first reads."""
    every = stack.worker.engine.products
    stack.limit_products("items", "accounts", "transactions")
    item_id, answer = await collected(stack, created=2)
    stack.limit_products(*every)
    account_id, *_ = changed(answer, "created")
    new = set(changed(answer, "created")[account_id])
    await stack.tell("transactions/created", item_id, accountId=account_id)
    await stack.tell("item/deleted", item_id)
    async with holding(stack, "/loans") as pluggy:
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))

        async def others_are_read() -> bool:
            found = await stack.db.fetch("SELECT product FROM pluggy_sync.product_sync")
            read = {"investments", "identities"} <= {row["product"] for row in found}
            return read and new <= set(await stack.live(item_id)) and len(pluggy.in_flight) == 1

        await pluggy.has_been_asked("/loans")
        await until(others_are_read, "the other lists and the event's own rows are stored")
        for _ in range(3):
            await barrier(stack)
        assert (await stack.states(item_id))[-2] == "pending"
        await end_by_lost_lease(stack, pluggy, syncing)
        await asyncio.wait({syncing})
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = NULL, until = now()")
    await stack.quiet()
    assert (await stack.states(item_id))[-2:] == ["applied", "pending"]
    await stack.assert_equal(item_id, NEVER_READ)
