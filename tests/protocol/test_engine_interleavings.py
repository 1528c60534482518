"""The whole engine under any interleaving: at rest every row equals Pluggy's.

The actors are those of the small model of the protocol, with real syncs of real pages from the
simulator. Each stops before every statement, any other continues from there, and any may die.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.examples import EXAMPLES, examples
from tests.support.interleaving import Actor, PlainConnection, open_stopping_pool
from tests.support.left_work import left_work
from tests.support.protocol_world import Deploy, Kill, Lapse
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget, now
from tests.syncing.test_parked_walks import park
from worker.engine.job import Worker
from worker.inbox.accept import accept_events
from worker.inbox.events import WebhookEvent, parse_webhook
from worker.infra.postgres import Pool
from worker.infra.redis_client import connect

WORKERS = 2
ITEMS = 2
TABLES = ("accounts", "transactions")

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)[: 2 if os.environ.get("MUTANT") else 3]

LAPSE = """
UPDATE pluggy_sync.item_leases l SET until = l.until - interval '1 hour'
FROM (SELECT item_id FROM pluggy_sync.item_leases FOR UPDATE SKIP LOCKED) AS free
WHERE l.item_id = free.item_id
"""
# A worker that stands still in a transaction may lock what parking a product writes.
IS_IN_TRANSACTION = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND state = 'idle in transaction')
"""
UNPARK = "DELETE FROM pluggy_sync.parked_products"
UNWITNESSED = (
    "SELECT DISTINCT item_id FROM pluggy_ops.flagged_deletions WHERE reason = 'no_witness'"
)


@dataclass(frozen=True)
class Collect:
    """Pluggy collects an item; its webhooks wait to be delivered."""

    item: int
    created: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class Deliver:
    """One of the webhooks that wait arrives, or one that has arrived comes again."""

    which: int
    again: bool = False


@dataclass(frozen=True)
class Work:
    """A worker takes some statements; idle, it begins with what is due."""

    worker: int
    statements: int


@dataclass(frozen=True)
class Park:
    """Claims of other items park the transactions."""


@dataclass(frozen=True)
class Unpark:
    """A probe of them is answered."""


@dataclass(frozen=True)
class Free:
    """The periodic task makes due again what was left out."""


Action = Collect | Deliver | Work | Kill | Deploy | Lapse | Park | Unpark | Free

workers = st.integers(0, WORKERS - 1)
few = st.integers(0, 3)
# Few deletions, so that never more of an account are suspected together than may be tombstoned.
collections = st.builds(Collect, st.integers(0, ITEMS - 1), few, few, st.integers(0, 1))
ACTIONS: list[tuple[int, st.SearchStrategy[Action]]] = [
    (5, st.builds(Work, workers, st.integers(1, 40))),
    (2, collections),
    (4, st.builds(Deliver, st.integers(0, 20), st.booleans())),
    (1, st.builds(Kill, workers)),
    (1, st.builds(Deploy, workers)),
    (1, st.just(Lapse())),
    (1, st.just(Park())),
    (1, st.just(Unpark())),
    (1, st.just(Free())),
]
action_kinds = st.sampled_from([strategy for weight, strategy in ACTIONS for _ in range(weight)])


@st.composite
def overtakings(draw: st.DrawFn) -> list[Action]:
    """A worker stalls anywhere in a sync beyond its lease; another does the work; it wakes."""
    slow = draw(workers)
    fast = (slow + 1) % WORKERS
    return [
        draw(collections),
        Deliver(draw(few)),
        Work(slow, draw(st.integers(1, 30))),
        *draw(st.lists(collections, max_size=1)),
        Deliver(draw(few)),
        Lapse(),
        Work(fast, draw(st.integers(20, 200))),
        Work(slow, draw(st.integers(1, 60))),
    ]


@st.composite
def parkings(draw: st.DrawFn) -> list[Action]:
    """Transactions are parked, and unparked again, anywhere in a sync that leaves them out."""
    worker = draw(workers)
    between: list[Action] = [Free(), Deliver(0), Work(worker, 60)]
    begun = [Work(worker, draw(st.integers(1, 60)))] if draw(st.booleans()) else []
    return [
        *([] if begun else [Work(number, 200) for number in range(WORKERS)]),
        draw(collections),
        *draw(st.lists(st.builds(Deliver, few), min_size=1, max_size=3)),
        *begun,
        Park(),
        Work(worker, draw(st.integers(1, 25))),
        Unpark(),
        *draw(st.lists(st.sampled_from(between), max_size=3)),
        Free(),
        Work(worker, draw(st.integers(1, 60))),
    ]


@st.composite
def parts(draw: st.DrawFn) -> list[Action]:
    rare = draw(st.integers(0, 5))
    if rare >= 4:
        return draw(overtakings() if rare == 5 else parkings())
    return [draw(draw(action_kinds))]


schedules = st.lists(parts(), min_size=6, max_size=14).map(
    lambda found: [action for part in found for action in part]
)


@dataclass
class Scene:
    """Two items at Pluggy, the webhooks that wait, and workers that stop before every statement."""

    stack: Stack
    control: PlainConnection
    tasks: list[Worker]
    actors: list[Actor]
    items: list[str] = field(default_factory=list)
    waiting: list[WebhookEvent] = field(default_factory=list)
    arrived: list[WebhookEvent] = field(default_factory=list)
    last_claim: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    claims: int = 0
    overtaken: int = 0
    parked: int = 0

    async def begin(self, known: bool) -> None:
        """known: everything is mirrored already; else the first import is part of it."""
        for _ in range(ITEMS):
            made = await self.stack.item(transactions=80, products=list(TABLES))
            self.items.append(made["id"])
            self._expect({"event": "item/created", "itemId": made["id"]})
        if known:
            await self.deliver_all()
            await self.stack.quiet()

    def _expect(self, body: dict[str, Any]) -> None:
        body = {"eventId": str(uuid.uuid4())} | body
        self.waiting.append(parse_webhook(json.dumps(body).encode(), now()))

    async def act(self, action: Action) -> None:
        match action:
            case Collect(item, created, updated, deleted):
                answer = await self.stack.collect(
                    self.items[item], created=created, updated=updated, deleted=deleted
                )
                for body in answer["events"]:
                    self._expect(body)
            case Deliver(which, again):
                await self._deliver(self.arrived if again else self.waiting, which)
            case Work(worker, statements):
                await self._work(worker, statements)
            case Kill(worker):
                await self.actors[worker].kill()
            case Deploy(worker):
                await self.actors[worker].interrupt(self.actors)
            case Lapse():
                await self.control.execute(LAPSE)
            case _:
                await self._act_on_product(action)

    async def _act_on_product(self, action: Park | Unpark | Free) -> None:
        if isinstance(action, Unpark):
            await self.control.execute(UNPARK)
        elif not await self.control.fetchval(IS_IN_TRANSACTION):
            await (park if isinstance(action, Park) else Stack.tend)(self.stack)
            self.parked += isinstance(action, Park)

    async def _deliver(self, events: list[WebhookEvent], which: int) -> None:
        if not events:
            return
        event = events[which % len(events)]
        # A lock of a worker that stands still would be a TimeoutError here.
        await accept_events(self.stack.db, [event], timeout_s=20.0)
        if events is self.waiting:
            self.waiting.remove(event)
            self.arrived.append(event)

    async def deliver_all(self) -> None:
        while self.waiting:
            await self._deliver(self.waiting, 0)

    async def _work(self, number: int, statements: int) -> None:
        actor = self.actors[number]
        if actor.idle:
            await actor.begin(self._sync(self.tasks[number]))
        for _ in range(statements):
            if actor.idle or not await actor.advance(self.actors):
                return

    async def _sync(self, worker: Worker) -> None:
        lease = await worker.claim(None)
        if lease is None:
            return
        self.claims += 1
        self.last_claim[lease.item_id] = lease.token
        await worker.engine.sync(lease)
        self.overtaken += self.last_claim[lease.item_id] != lease.token
        stored = await self.stack.db.fetchval(
            "SELECT token FROM pluggy_sync.item_leases WHERE item_id = $1", lease.item_id
        )
        assert stored != lease.token, "a sync ended and kept its lease"

    async def check(self) -> None:
        assert not await left_work(self.control)

    async def come_to_rest(self, resume: Sequence[bool]) -> None:
        for actor, goes_on in zip(self.actors, resume, strict=True):
            if not goes_on:
                await actor.kill()
        while any([not actor.idle and await actor.advance(self.actors) for actor in self.actors]):
            pass
        await self.check()
        await self.control.execute(UNPARK)
        await self.deliver_all()
        for _ in range(4):  # what is asked once more, and what was put off
            await self.stack.shift(timedelta(minutes=6))
            await self.stack.quiet(most=60)
        await self._ask_again_for_flagged()
        await self.check()
        await self._check_rest()

    async def _ask_again_for_flagged(self) -> None:
        """No older row was a witness to the oldest that is gone: the answer of a day later counts.

        Only this question is asked: any other read would bring what the schedule has lost.
        """
        flagged = await self.control.fetch(UNWITNESSED)
        if flagged:
            await self.stack.shift(timedelta(days=1, minutes=1))
        for row in flagged:
            await self.stack.order("sync/deletions", str(row["item_id"]))
        await self.stack.quiet()

    async def _check_rest(self) -> None:
        for item_id in self.items:
            await self.stack.assert_equal(item_id, TABLES)
            assert set(await self.stack.states(item_id)) == {"applied"}
        flags = await self.control.fetch("SELECT reason FROM pluggy_ops.flagged_deletions")
        assert not flags
        runs = await self.control.fetch("SELECT seq FROM pluggy_sync.runs WHERE seq IS NULL")
        assert not runs, "a run was left open"
        rest = await self.control.fetch(
            "SELECT FROM pluggy_sync.item_sync JOIN pluggy_sync.item_leases USING (item_id)"
            " WHERE run_at IS NOT NULL OR token IS NOT NULL OR done_generation <> generation"
        )
        assert not rest


@dataclass
class Laboratory:
    """What all examples share, and the loop to use it in."""

    runner: asyncio.Runner
    control: PlainConnection
    stack: Stack
    tasks: list[Worker]

    def run(self, schedule: Sequence[Action], resume: Sequence[bool], known: bool) -> Scene:
        return self.runner.run(self._run(schedule, resume, known))

    async def _run(self, schedule: Sequence[Action], resume: Sequence[bool], known: bool) -> Scene:
        await self.control.execute(EMPTY_TABLES)
        actors = [Actor(f"worker {n}", self.control) for n in range(WORKERS)]
        scene = Scene(self.stack, self.control, self.tasks, actors)
        try:
            await fill_budget(self.stack.redis)
            await scene.begin(known)
            for action in schedule:
                await scene.act(action)
                await scene.check()
            await scene.come_to_rest(resume)
        finally:
            for actor in actors:
                await actor.kill()
        return scene


EMPTY_TABLES = """
DELETE FROM pluggy_sync.webhook_events; DELETE FROM pluggy_sync.item_sync;
DELETE FROM pluggy_sync.item_leases; DELETE FROM pluggy_sync.product_sync;
DELETE FROM pluggy_sync.account_walks; DELETE FROM pluggy_sync.walk_pages;
DELETE FROM pluggy_sync.item_reconciliations; DELETE FROM pluggy_sync.parked_products;
DELETE FROM pluggy_sync.runs; DELETE FROM pluggy_sync.rejected_rows;
DELETE FROM pluggy.items; DELETE FROM pluggy.accounts; DELETE FROM pluggy.transactions;
"""


@pytest.fixture
def laboratory(
    database_url: str, redis_url: str, quiet_simulator: SimulatorProcess
) -> Iterator[Laboratory]:
    quiet_simulator.delete("/_simulator/faults")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = AsyncExitStack()
        yield runner.run(_open(runner, opened, database_url, redis_url, quiet_simulator))
        runner.run(opened.aclose())


async def _open(
    runner: asyncio.Runner,
    opened: AsyncExitStack,
    database_url: str,
    redis_url: str,
    simulator: SimulatorProcess,
) -> Laboratory:
    control = await asyncpg.connect(database_url)
    opened.push_async_callback(control.close)
    redis = connect(redis_url)
    opened.push_async_callback(redis.aclose)
    client = await opened.enter_async_context(build_client(simulator.url, redis))
    pools: list[Pool] = [await open_stopping_pool(database_url) for _ in range(WORKERS + 1)]
    for pool in pools:
        opened.callback(pool.terminate)
    tasks = [build_worker(pool, redis, client) for pool in pools]
    for task in tasks:
        task.engine = _only(task)
    *workers_of_actors, own = tasks
    stack = Stack(pools[-1], redis, simulator, client, own)
    return Laboratory(runner, control, stack, workers_of_actors)


def _only(worker: Worker) -> Any:
    return replace(worker.engine, products=("items", *TABLES))


@pytest.mark.timeout(900)  # a guard against hanging; some 12 s where nothing else runs
def test_every_row_is_pluggys_at_rest_whatever_stalled_or_died_between_any_two_statements(
    laboratory: Laboratory,
) -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=examples(30, thorough=60),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules, st.tuples(*[st.booleans()] * WORKERS), st.booleans())
    def any_schedule_comes_to_rest(
        schedule: list[Action], resume: tuple[bool, ...], known: bool
    ) -> None:
        scene = laboratory.run(schedule, resume, known)
        seen.update(
            examples=1,
            claims=scene.claims,
            overtaken=scene.overtaken,
            parked=scene.parked,
            events=len(scene.arrived),
        )

    any_schedule_comes_to_rest()
    print(dict(seen))
    # The search reaches what it is about.
    assert seen["claims"] >= 2 * seen["examples"]
    assert seen["overtaken"] >= 3
    assert seen["parked"] >= 3
