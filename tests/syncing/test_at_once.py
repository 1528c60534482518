"""First requests of a claim's steps are made at once; their answers are stored one by one."""

from __future__ import annotations

import asyncio
import gc
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.altered_pluggy import altered
from tests.support.examples import schedule_settings
from tests.support.stack import TABLES, Stack
from tests.support.waiting import until
from tests.syncing.test_transactions import changed
from worker.engine import at_once
from worker.engine.at_once import AT_ONCE, AtOnce
from worker.engine.job import sync_item
from worker.infra.lanes import Lane
from worker.lease.halt import resume
from worker.planner.state import WHOLE_ITEM
from worker.planner.steps import (
    AskAgain,
    AskIds,
    AskWalk,
    PlannedStep,
    ReadAccounts,
    ReadDelta,
    ReadInvestmentTransactions,
    ReadProduct,
    ReadRecent,
    in_order,
    step_key,
)
from worker.pluggy_api.tickets import TICKET, Ticket, since_ticket, wait_for_ticket
from worker.sync.by_id import BLOCK_SIZE

KINDS_OF_IDS: Final = ("updated", "deleted")
OPEN_FINANCE: Final = 600
LISTS: Final = ("/investments?", "/loans", "/identity", "/consents")
BESIDE_ACCOUNTS: Final = ("/accounts?", *LISTS)
GONE: Final = json.dumps({"code": 404, "codeDescription": "ACCOUNT_NOT_FOUND"}).encode()


@dataclass
class Pluggy:
    """The simulator, whose answers to paths that begin so are held back.

    twice: paths that were asked for while another request for the same account was on its way.
    """

    held: set[str]
    in_flight: list[str] = field(default_factory=list)
    most: int = 0
    twice: list[str] = field(default_factory=list)
    arrived: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Callable[[bytes], bytes | tuple[int, bytes]]] = field(default_factory=dict)

    async def answer(self, path: str, body: bytes) -> bytes | tuple[int, bytes]:
        if path == "/auth":
            return body
        self.twice += [p for p in self.in_flight if account_in(p) and same_account(p, path)]
        self.in_flight.append(path)
        self.arrived[path] += 1
        self.most = max(self.most, len(self.in_flight))
        try:
            await until(partial(self._lets_go, path), f"{path} is let go")
        finally:
            self.in_flight.remove(path)
        for prefix, said in self.answers.items():
            if path.startswith(prefix):
                return said(body)
        return body

    async def _lets_go(self, path: str) -> bool:
        return not any(path.startswith(prefix) for prefix in self.held)

    async def has_been_asked(self, *prefixes: str) -> None:
        """Wait until these are on their way together."""

        async def holds() -> bool:
            return all(any(p.startswith(prefix) for p in self.in_flight) for prefix in prefixes)

        await until(holds, f"{prefixes} are asked for at once")


def account_in(path: str) -> str:
    return path.partition("accountId=")[2][:36] if path.startswith("/v2/") else ""


def same_account(one: str, other: str) -> bool:
    return account_in(one) == account_in(other)


@asynccontextmanager
async def holding(stack: Stack, *prefixes: str) -> AsyncIterator[Pluggy]:
    pluggy = Pluggy(set(prefixes))
    async with altered(stack, pluggy.answer):
        try:
            yield pluggy
        finally:
            pluggy.held.clear()


async def barrier(stack: Stack) -> None:
    """Round trips through the same loop: a request that was begun would have arrived.

    And more turns of it without a statement under way than lie between two statements of a claim:
    what was answered would be stored, however slow Postgres is.
    """
    for _ in range(10):
        await stack.requests()
    turns = 0
    while turns < 200:
        await asyncio.sleep(0)
        turns = turns + 1 if stack.db.get_size() == stack.db.get_idle_size() else 0


async def collected(stack: Stack, **changes: Any) -> tuple[str, dict[str, Any]]:
    """A mirrored item with lists of all kinds, and a new collection of it."""
    for _ in range(40):
        item_id = (await stack.item(transactions=20, accounts=2, connectorId=OPEN_FINANCE))["id"]
        if await stack.truth(item_id, "investments"):
            break
    await stack.process("item/created", item_id)
    return item_id, await stack.collect(item_id, **changes)


async def time_of(stack: Stack) -> datetime:
    found: datetime = await stack.db.fetchval("SELECT clock_timestamp()")
    return found


async def has_read_since(stack: Stack, product: str, since: datetime) -> bool:
    """Whether all reads of a product are newer."""
    newer: bool | None = await stack.db.fetchval(
        "SELECT bool_and(complete_read_at > $2) FROM pluggy_sync.product_sync WHERE product = $1",
        product,
        since,
    )
    return bool(newer)


async def failed(stack: Stack) -> list[str]:
    """Products with a failed step."""
    found = await stack.db.fetch(
        "SELECT DISTINCT product FROM pluggy_sync.product_sync WHERE failed_at IS NOT NULL"
    )
    return [row["product"] for row in found]


async def test_new_rows_wait_for_no_other_list(stack: Stack) -> None:
    item_id, answer = await collected(stack, created=2)
    new = {row_id for ids in changed(answer, "created").values() for row_id in ids}
    await stack.tell("item/updated", item_id)
    async with holding(stack, *BESIDE_ACCOUNTS) as pluggy:
        syncing = asyncio.create_task(stack.quiet())
        await pluggy.has_been_asked(*BESIDE_ACCOUNTS)

        async def are_asked() -> bool:
            return any(path.startswith("/v2/transactions") for path in pluggy.arrived)

        await until(are_asked, "the new rows are asked for")
        await barrier(stack)
        assert not new & set(await stack.live(item_id)), "stored before the accounts"
        pluggy.held.remove("/accounts?")

        async def are_stored() -> bool:
            return new <= set(await stack.live(item_id))

        await until(are_stored, "the new rows are stored")
        pluggy.held.clear()
        await syncing
    assert not await failed(stack), "the lists were given up, not passed"
    assert set(pluggy.arrived.values()) == {1}
    await stack.assert_equal(item_id)


async def test_no_more_answers_are_on_their_way_than_are_held_in_memory(stack: Stack) -> None:
    changes = {"investments": {"created": AT_ONCE}}
    item_id, _ = await collected(stack, products=changes)
    await stack.tell("item/updated", item_id)
    movements = "/investments/"
    async with holding(stack, movements) as pluggy:
        syncing = asyncio.create_task(stack.quiet())

        async def full() -> bool:
            return sum(p.startswith(movements) for p in pluggy.in_flight) >= AT_ONCE

        await until(full, "the movements are asked for at once")
        await barrier(stack)
        assert len(pluggy.in_flight) == pluggy.most == AT_ONCE
        pluggy.held.clear()
        await syncing
    asked = [n for path, n in pluggy.arrived.items() if path.startswith(movements)]
    assert asked == [1] * len(await stack.live(item_id, "investments"))
    assert pluggy.most == AT_ONCE
    await stack.assert_equal(item_id)


async def test_one_failed_request_leaves_those_beside_it_alone(stack: Stack) -> None:
    item_id, _ = await collected(stack, created=2)
    await stack.refuse("GET /loans", 503)
    await stack.tell("item/updated", item_id)
    began = await stack.db.fetchval("SELECT clock_timestamp()")
    await stack.reset_requests()
    async with holding(stack, *BESIDE_ACCOUNTS) as pluggy:
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        await pluggy.has_been_asked("/accounts?", "/investments?", "/identity", "/consents")
        await barrier(stack)
        pluggy.held.clear()
        await syncing
    assert set(pluggy.arrived.values()) == {1}
    assert (await stack.requests())["GET /loans"] == 1
    assert await failed(stack) == ["loans"]
    read = "SELECT product FROM pluggy_sync.product_sync WHERE complete_read_at >= $1"
    done = {row["product"] for row in await stack.db.fetch(read, began)}
    assert done >= {"accounts", "transactions", "investments", "identities", "consents"}
    await stack.assert_equal(item_id, ["accounts", "transactions", "investments", "identities"])


async def lose_lease(stack: Stack, pluggy: Pluggy, _: asyncio.Task[Any]) -> None:
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = gen_random_uuid()")
    pluggy.held.remove("/accounts?")


async def shut_down(_: Stack, __: Pluggy, syncing: asyncio.Task[Any]) -> None:
    syncing.cancel()


async def lose_pluggy(stack: Stack, pluggy: Pluggy, __: asyncio.Task[Any]) -> None:
    for _ in range(20):
        await stack.worker.engine.ledger.note(uuid.uuid4(), failed=True)
    pluggy.answers["/accounts?"] = lambda _: (503, b"")
    pluggy.held.remove("/accounts?")


@pytest.mark.parametrize("end_of_claim", [lose_lease, shut_down, lose_pluggy])
async def test_a_claim_that_ends_leaves_no_request_behind_and_makes_no_other(
    stack: Stack, end_of_claim: Callable[[Stack, Pluggy, asyncio.Task[Any]], Awaitable[None]]
) -> None:
    item_id, _ = await collected(stack, created=2)
    await stack.tell("item/updated", item_id)
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    async with holding(stack, *BESIDE_ACCOUNTS) as pluggy:
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        await pluggy.has_been_asked(*BESIDE_ACCOUNTS)

        async def all_asked() -> bool:
            return len(pluggy.arrived) == 1 + AT_ONCE

        await until(all_asked, "the item, and what is begun beside its accounts, are asked for")
        asked = set(pluggy.arrived)
        await end_of_claim(stack, pluggy, syncing)
        await asyncio.wait({syncing})
        assert not steps_under_way()
        await barrier(stack)
        assert set(pluggy.arrived) == asked
    gc.collect()
    assert lost == []
    await stack.db.execute("UPDATE pluggy_sync.item_leases SET token = NULL, until = now()")
    await resume(stack.db)
    await stack.worker.engine.ledger.reset()
    await stack.quiet()
    await stack.assert_equal(item_id)


async def test_a_job_that_a_shutdown_cancels_releases_its_item_and_raises_nothing(
    stack: Stack,
) -> None:
    item_id, _ = await collected(stack, created=2)
    await stack.tell("item/updated", item_id)
    async with holding(stack, *BESIDE_ACCOUNTS) as pluggy:
        job = asyncio.create_task(sync_item({"worker": stack.worker}, item_id))
        await pluggy.has_been_asked(*BESIDE_ACCOUNTS)
        job.cancel()
        await job
    leased = "SELECT count(*) FROM pluggy_sync.item_leases WHERE token IS NOT NULL"
    assert await stack.db.fetchval(leased) == 0
    await stack.quiet()
    await stack.assert_equal(item_id)


def steps_under_way() -> list[asyncio.Task[Any]]:
    """Steps that are begun."""
    run = at_once._run.__code__
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "cr_code", 0) is run]


async def test_of_answers_that_are_there_the_rows_of_accounts_are_stored_first() -> None:
    rows = ReadDelta(uuid.uuid4(), datetime.now(UTC), True, None)
    investments = ReadProduct("investments", WHOLE_ITEM, None)
    planned: list[PlannedStep] = [ReadProduct("loans", WHOLE_ITEM, None), rows, investments]

    async def work(_: PlannedStep) -> None:
        await wait_for_ticket()

    async with AtOnce(AT_ONCE) as steps:
        for step in planned:
            steps.begin(step, Lane.LIVE, work)
        await asyncio.wait([begun.ticket.answered for begun in steps.begun])
        for first in (investments, rows):  # requests for their movements follow
            taken = await steps.next()
            assert taken.step == first
            taken.ticket.come()
            await taken.task


async def test_an_error_of_a_step_that_is_never_taken_is_not_lost_to_asyncio() -> None:
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))

    async def fail_when_cancelled(_: PlannedStep) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError

    async with AtOnce(AT_ONCE) as steps:
        steps.begin(ReadAccounts(None), Lane.LIVE, fail_when_cancelled)
        await asyncio.sleep(0)
    del steps
    gc.collect()
    assert lost == []


async def test_rows_of_an_account_that_was_found_gone_are_not_stored_from_an_older_answer(
    stack: Stack,
) -> None:
    item_id, answer = await collected(stack, created=2)
    [(account_id, new), *_] = changed(answer, "created").items()
    await stack.tell("transactions/created", item_id, accountId=account_id)
    await stack.tell("item/updated", item_id)

    def without_account(body: bytes) -> bytes:
        page = json.loads(body)
        page["results"] = [row for row in page["results"] if row["id"] != account_id]
        return json.dumps(page).encode()

    async with holding(stack, "/accounts?") as pluggy:
        pluggy.answers["/accounts?"] = without_account
        pluggy.answers[f"/accounts/{account_id}"] = lambda _: (404, GONE)
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        await pluggy.has_been_asked("/accounts?")

        async def read() -> bool:
            return any(account_id in path for path in pluggy.arrived)

        await until(read, "the new rows are asked for beside the accounts")
        await barrier(stack)
        assert not set(await stack.live(item_id)).intersection(new), "stored before its turn"
        pluggy.held.clear()
        await syncing
    rows = await stack.live(item_id)
    assert not [row for row in rows.values() if str(row["account_id"]) == account_id]
    assert (await stack.states(item_id))[-2:] == ["ignored", "applied"]


@pytest.mark.parametrize("investments", [True, False])
async def test_rows_beside_accounts_that_prove_nothing_are_read_again(
    stack: Stack, investments: bool
) -> None:
    """investments: whether they are mirrored, after which the plan is made again in any case."""
    products = stack.worker.engine.products
    stack.limit_products(*(p for p in products if investments or p != "investments"))
    item_id, _ = await collected(stack, created=2)
    await stack.tell("item/updated", item_id)
    marks = "SELECT scope_id, watermark, source_updated_at FROM pluggy_sync.product_sync"
    read = f"{marks} WHERE product IN ('transactions', 'bills') ORDER BY scope_id, product"
    before = await stack.db.fetch(read)
    async with holding(stack) as pluggy:
        pluggy.answers["/accounts/"] = lambda _: (404, GONE)
        for path in ("/accounts?", "/v2/transactions?", "/bills?"):
            pluggy.answers[path] = lambda body: json.dumps(
                json.loads(body) | {"results": [], "total": 0, "next": None}
            ).encode()
        await stack.worker.engine.sync(await stack.claim())
        assert any(path.startswith("/v2/transactions?") for path in pluggy.arrived)
    assert await stack.db.fetch(read) == before
    await stack.shift(timedelta(hours=1))
    await stack.quiet()
    left_out = () if investments else ("investments", "investment_transactions")
    mirrored = [table for table in TABLES if table not in left_out]
    await stack.assert_equal(item_id, ["items", *mirrored])


async def test_a_read_begins_before_its_request_and_answers_no_later_event(stack: Stack) -> None:
    item_id, _ = await collected(stack, created=2)
    await stack.tell("item/updated", item_id)
    async with holding(stack, "/loans") as pluggy:
        began_at = await time_of(stack)
        syncing = asyncio.create_task(stack.worker.engine.sync(await stack.claim()))
        await pluggy.has_been_asked("/loans")
        asked_at = await time_of(stack)
        await until(partial(has_read_since, stack, "investment_transactions", began_at))
        await stack.tell("item/updated", item_id)
        pluggy.held.clear()
        await syncing
    [loans] = await stack.db.fetch("SELECT * FROM pluggy_sync.product_sync WHERE product = 'loans'")
    assert loans["complete_read_at"] < asked_at
    assert loans["read_seq"] < (await stack.events(item_id))[-1]["pending_seq"]
    assert (await stack.states(item_id))[-2:] == ["applied", "pending"]


async def test_a_question_and_a_list_of_an_account_are_never_on_their_way_together(
    stack: Stack,
) -> None:
    item_id, answer = await collected(stack, created=8, updated=8, deleted=2)
    asked = {account_id for kind in KINDS_OF_IDS for account_id in changed(answer, kind)}
    both = changed(answer, "created").keys() & asked
    assert both, "an account has new rows and a question"
    await stack.tell_all(answer)
    # A question of an account without a list has its turn at once: that is not held.
    async with holding(stack, *(f"/v2/transactions?accountId={one}" for one in both)) as pluggy:
        began_at = await time_of(stack)
        syncing = asyncio.create_task(stack.quiet())
        # By then a question that waits for no list would have had its turn.
        await until(partial(has_read_since, stack, "investment_transactions", began_at))
        await barrier(stack)
        pluggy.held.clear()
        await syncing
    assert any("ids=" in path for path in pluggy.arrived)
    assert pluggy.twice == []
    assert set(await stack.states(item_id)) == {"applied"}
    await stack.assert_equal(item_id)


async def test_a_probe_has_one_request_at_a_time(stack: Stack) -> None:
    item_id, _ = await collected(stack, created=2)
    await stack.tell("item/updated", item_id)
    async with holding(stack, *BESIDE_ACCOUNTS) as pluggy:
        lease = replace(await stack.claim(), probe=True)
        syncing = asyncio.create_task(stack.worker.engine.sync(lease))
        await pluggy.has_been_asked("/accounts?")
        await barrier(stack)
        assert len(pluggy.in_flight) == 1
        pluggy.held.clear()
        await syncing
    assert pluggy.most == 1


async def test_the_time_of_a_read_counts_from_its_turn() -> None:
    began = asyncio.get_running_loop().time() - 60
    assert since_ticket(began) == began
    ticket = Ticket(Lane.LIVE)
    TICKET.set(ticket)
    assert since_ticket(began) == began
    ticket.come()
    assert since_ticket(began) >= began + 60


accounts = st.sampled_from([uuid.UUID(int=n) for n in (1, 2)])
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
steps = st.one_of(
    st.just(ReadAccounts(None)),
    st.builds(
        ReadProduct, st.sampled_from(["investments", "loans"]), st.just(WHOLE_ITEM), st.none()
    ),
    st.builds(ReadProduct, st.just("bills"), accounts, st.none()),
    st.builds(ReadInvestmentTransactions, accounts, st.just(""), st.none()),
    st.builds(ReadDelta, accounts, st.just(AT), st.booleans(), st.none()),
    st.builds(ReadRecent, accounts, st.just(AT.date())),
    st.builds(AskIds, accounts, st.just((1,)), st.sampled_from([1, BLOCK_SIZE + 1])),
    st.builds(AskAgain, accounts),
    st.builds(AskWalk, accounts, st.just(Lane.RETRY), st.booleans(), st.none()),
)


@dataclass
class Script:
    """Steps of one plan, whose first requests are answered in any order."""

    answered_first: list[int]
    begun: list[PlannedStep] = field(default_factory=list)
    stored: list[PlannedStep] = field(default_factory=list)
    on_their_way: dict[int, asyncio.Event] = field(default_factory=dict)

    async def work(self, step: PlannedStep) -> None:
        if not isinstance(step, AskIds | AskAgain | AskWalk):
            answered = self.on_their_way[len(self.on_their_way)] = asyncio.Event()
            await answered.wait()
            await wait_for_ticket()
        others = [other for other in self.under_way() if other is not step]
        assert not any(isinstance(other, ReadAccounts) for other in others)
        if isinstance(step, AskIds) and step.ids_open > BLOCK_SIZE:
            assert all(isinstance(other, AskIds | AskAgain) for other in others)
        self.stored.append(step)

    def under_way(self) -> list[PlannedStep]:
        return [step for step in self.begun if step not in self.stored]

    def begin(self, at_once: AtOnce, step: PlannedStep) -> None:
        self.begun.append(step)
        at_once.begin(step, Lane.LIVE, self.work)
        now = self.under_way()
        keys = [step_key(other)[1:] for other in now]
        products = {product for product, _ in keys}
        assert len(now) <= AT_ONCE
        assert len(set(keys)) == len(keys), "two reads of the same rows"
        assert not {"investments", "investment_transactions"} <= products

    async def play(self, plan: Sequence[PlannedStep]) -> None:
        async with AtOnce(AT_ONCE) as at_once:
            answering = asyncio.create_task(self.answer())
            try:
                while len(self.stored) < len(plan):
                    for step in [step for step in plan if step not in self.begun]:
                        if at_once.has_room_for(step):
                            self.begin(at_once, step)
                    taken = await at_once.next()
                    taken.ticket.come()
                    await taken.task
                    assert self.stored[-1] == taken.step
            finally:
                answering.cancel()

    async def answer(self) -> None:
        """Answer one of the requests on their way, and then the next."""
        while True:
            await asyncio.sleep(0)
            waiting = [event for event in self.on_their_way.values() if not event.is_set()]
            if waiting:
                which = self.answered_first.pop() if self.answered_first else 0
                waiting[which % len(waiting)].set()


@schedule_settings(60, thorough=300)
@given(st.lists(steps, min_size=1, max_size=14), st.lists(st.integers(0, 9), max_size=14))
def test_answers_about_the_same_rows_are_stored_in_the_order_of_their_requests(
    planned: list[PlannedStep], answered_first: list[int]
) -> None:
    # Of several plans of one claim: each of them has no movements beside investments.
    plan = in_order(list({step_key(step): step for step in planned}.values()))
    script = Script(answered_first)
    asyncio.run(script.play(plan))
    for key in {step_key(step)[1:] for step in plan}:
        of_rows = [[s for s in found if step_key(s)[1:] == key] for found in (plan, script.stored)]
        assert of_rows[0] == of_rows[1]
