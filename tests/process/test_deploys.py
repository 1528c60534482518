"""A worker that is asked to stop releases its items, at any point of its work."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from tests.support.interleaving import Actor, StoppingConnection, open_stopping_pool
from tests.support.stack import Stack, build_worker
from worker.engine.job import Worker

LEFT_BEHIND = """
SELECT (SELECT count(*) FROM pluggy_sync.item_leases WHERE token IS NOT NULL) AS leases,
       (SELECT coalesce(sum(attempts), 0) FROM pluggy_sync.product_sync) AS attempts,
       (SELECT count(*) FROM pluggy_sync.item_sync
        WHERE run_at IS NULL AND generation > done_generation) AS forgotten
"""

LOST_RUN = "INSERT INTO pluggy_sync.runs (item_id, kind) VALUES ($1, 'sync')"


@pytest.fixture
async def actor(database_url: str) -> AsyncIterator[Actor]:
    control = await asyncpg.connect(database_url)
    yield Actor("worker", control)
    await control.close()


@pytest.fixture
async def worker(database_url: str, stack: Stack) -> AsyncIterator[Worker]:
    """A worker that stops before every statement."""
    pool = await open_stopping_pool(database_url)
    yield build_worker(pool, stack.redis, stack.client)
    pool.terminate()


async def test_a_cancelled_sync_leaves_no_lease_and_no_attempt_behind(
    stack: Stack, actor: Actor, worker: Worker
) -> None:
    item = await stack.synced_item(transactions=10)
    stopped_at = list[str]()

    async def is_cancelled(stands: Callable[[], bool]) -> bool:
        """Cancel a sync where it stands; whether that was before its end."""
        await stack.collect(item["id"], created=1)
        await stack.db.execute(LOST_RUN, item["id"])
        await stack.tell("item/updated", item["id"])
        await actor.begin(attend(worker))
        while not actor.idle and not stands():
            await actor.advance()
        if actor.at is None:
            return False
        stopped_at.append(actor.at)
        await actor.interrupt()
        await let_end(actor)
        left = await stack.db.fetchrow(LEFT_BEHIND)
        assert left is not None
        assert tuple(left) == (0, 0, 0), f"cancelled before {stopped_at[-1]}"
        return True

    # The whole way, from before the claim to after the settlement.
    while await is_cancelled(after(statements=len(stopped_at))):
        pass
    assert stopped_at[0].startswith("claim_")
    # Answers come in any order, so that not every sync has as many statements.
    for name in {"close_lost_runs", "load_item_state", "fence", "settle_item"} - set(stopped_at):
        assert await is_cancelled(partial(is_before, actor, name))
    await stack.quiet()
    await stack.assert_equal(item["id"])


def after(statements: int) -> Callable[[], bool]:
    """Whether it has been asked so often before."""
    asked = iter(range(statements))
    return lambda: next(asked, None) is None


def is_before(actor: Actor, name: str) -> bool:
    return actor.at == name


async def attend(worker: Worker) -> None:
    await worker.work(uuid.uuid4())


async def let_end(actor: Actor) -> None:
    while not actor.idle:
        await actor.advance()


class ClaimingConnection(StoppingConnection):
    """Stops also right after Postgres has committed a claim."""

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        found = await super().fetchrow(query, *args, **options)
        if query.startswith("-- claim_") and found is not None:
            await self._stop("-- committed\n")
        return found


async def test_a_claim_that_has_committed_when_it_is_cancelled_is_released(
    database_url: str, stack: Stack, actor: Actor
) -> None:
    pool = await open_stopping_pool(database_url, ClaimingConnection)
    worker = build_worker(pool, stack.redis, stack.client)
    item = await stack.synced_item(transactions=10)
    await stack.tell("item/updated", item["id"])
    await actor.begin(attend(worker))
    while actor.at != "committed":
        await actor.advance()
    await actor.interrupt()
    await let_end(actor)
    left = await stack.db.fetchrow(LEFT_BEHIND)
    assert left is not None
    assert tuple(left) == (0, 0, 0)
    assert await stack.states(item["id"]) == ["applied", "pending"]
    pool.terminate()
