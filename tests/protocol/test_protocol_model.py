"""The protocol under any interleaving: accept, claim, plan, fence, settle lose and repeat nothing.

Receivers and workers of a small model (see tests/support/protocol_world.py) stop before any
statement, die there, or continue after their lease has lapsed, in any order hypothesis draws.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import schedule_settings
from tests.support.interleaving import Actor, PlainConnection, open_stopping_pool
from tests.support.protocol_world import (
    EMPTY_TABLES,
    ITEMS,
    MODEL,
    RECEIVERS,
    WORKERS,
    Action,
    Deploy,
    FlushRedis,
    Kill,
    Lapse,
    Redeliver,
    Sweep,
    Tell,
    TellAtOnce,
    Work,
    World,
)
from tests.support.stack import build_client, build_worker
from worker.infra.postgres import Pool
from worker.infra.redis_client import connect

item_numbers = st.integers(0, len(ITEMS) - 1)
groups = st.lists(item_numbers, min_size=1, max_size=4).map(tuple)
workers, receivers = st.integers(0, WORKERS - 1), st.integers(0, RECEIVERS - 1)
verdicts = st.sampled_from(["applied"] * 6 + ["dead", "deferred"])
crashes = st.sampled_from([None] * 4 + [0, 1])
AT_ONCE = st.lists(groups, min_size=2, max_size=RECEIVERS).map(tuple)
# Each with how often it is drawn.
ACTIONS: list[tuple[int, st.SearchStrategy[Action]]] = [
    (6, st.builds(Work, workers, st.integers(1, 14), verdicts)),
    (3, st.builds(Tell, receivers, groups, st.booleans(), crashes)),
    (1, st.builds(TellAtOnce, AT_ONCE)),
    (1, st.builds(Redeliver, receivers, st.integers(0, 20))),
    (1, st.builds(Kill, workers)),
    (1, st.builds(Deploy, workers)),
    (2, st.just(Lapse())),
    (1, st.just(Sweep())),
    (1, st.just(FlushRedis())),
]
action_kinds = st.sampled_from([strategy for weight, strategy in ACTIONS for _ in range(weight)])


@st.composite
def overtakings(draw: st.DrawFn) -> list[Action]:
    """A worker stalls beyond its lease, events come, another does its work, it wakes."""
    slow, fast = draw(st.permutations(range(WORKERS)))[:2]
    number = draw(item_numbers)
    changes = [Tell(0, (number,))] if draw(st.booleans()) else []
    return [
        *[Work(worker, 60) for worker in (slow, fast, slow)],
        Tell(1, (number,)),
        Work(slow, draw(st.integers(1, 12))),
        *changes,
        Lapse(),
        Work(fast, draw(st.integers(5, 20))),
        Work(slow, draw(st.integers(1, 30))),
    ]


@st.composite
def arrivals(draw: st.DrawFn) -> list[Action]:
    """An event of an item arrives between two statements of its sync."""
    worker, number = draw(workers), draw(item_numbers)
    return [
        *[Work(other, 60) for other in (*range(WORKERS), worker)],
        Tell(0, (number,)),
        Work(worker, draw(st.integers(1, 12))),
        Tell(1, (number,)),
        Work(worker, 60),
    ]


@st.composite
def parts(draw: st.DrawFn) -> list[Action]:
    """Mostly one thing; now and then what rarely comes about by chance."""
    rare = draw(st.integers(0, 7))
    if rare >= 6:
        return draw(overtakings() if rare == 6 else arrivals())
    return [draw(draw(action_kinds))]


schedules = st.lists(parts(), min_size=15, max_size=30).map(
    lambda found: [action for part in found for action in part]
)


@dataclass
class Laboratory:
    """What all examples share: connections, and one loop to use them in."""

    runner: asyncio.Runner
    control: PlainConnection
    pools: dict[str, Pool]

    def run(self, schedule: Sequence[Action], resume: Sequence[bool]) -> World:
        return self.runner.run(self._run(schedule, resume))

    async def _run(self, schedule: Sequence[Action], resume: Sequence[bool]) -> World:
        await self.control.execute(EMPTY_TABLES)
        world = self._world()
        try:
            for action in schedule:
                await world.act(action)
                await world.check()
            await world.come_to_rest(resume)
        finally:
            for actor in world.actors:
                await actor.kill()
        return world

    def _world(self) -> World:
        redis = connect("redis://unused.invalid")
        client = build_client("http://unused.invalid", redis)
        names = [f"worker {n}" for n in range(WORKERS)]
        return World(
            self.control,
            [Actor(name, self.control) for name in names],
            [Actor(f"receiver {n}", self.control) for n in range(RECEIVERS)],
            self.pools,
            [build_worker(self.pools[name], redis, client) for name in names],
        )


@pytest.fixture
def laboratory(database_url: str) -> Iterator[Laboratory]:
    names = [f"worker {n}" for n in range(WORKERS)] + [f"receiver {n}" for n in range(RECEIVERS)]

    async def open_all() -> tuple[PlainConnection, dict[str, Pool]]:
        control = await asyncpg.connect(database_url)
        await control.execute(MODEL)
        return control, {name: await open_stopping_pool(database_url) for name in names}

    async def close_all() -> None:
        for pool in pools.values():
            pool.terminate()
        await control.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        control, pools = runner.run(open_all())
        yield Laboratory(runner, control, pools)
        runner.run(close_all())


@pytest.mark.timeout(900)  # a guard against hanging; some 10 s where nothing else runs
def test_no_interleaving_of_deliveries_syncs_stalls_and_kills_loses_or_doubles_anything(
    laboratory: Laboratory,
) -> None:
    seen: Counter[str] = Counter()

    @schedule_settings(40, thorough=100)
    @given(schedules, st.tuples(*[st.booleans()] * WORKERS))
    def any_schedule_comes_to_rest(schedule: list[Action], resume: tuple[bool, ...]) -> None:
        world = laboratory.run(schedule, resume)
        seen.update(
            examples=1,
            syncs=world.syncs,
            lease_lost=world.lease_lost,
            settled_early=world.settled_early,
            events=len(world.announced),
        )

    any_schedule_comes_to_rest()
    print(dict(seen))
    # The search reaches what it is about.
    assert seen["lease_lost"] >= 5
    assert seen["settled_early"] >= 5
    assert seen["syncs"] >= 2 * seen["examples"]
