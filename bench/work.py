"""Work of each kind of event: `python -m bench.work` prints docs/performance.md's table of it.

`--write` writes it there; a test compares. One event after the other is delivered to a receiver and
synced in this process until nothing is due, against the simulator. Counted are requests to Pluggy,
commands that Redis runs (those of scripts too), and what Postgres is asked on the wire. The BLPOP
of a job is not counted: the job is called directly.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import click
import structlog

import embedded
from bench.postgres_counter import PostgresCounter
from bench.results import PAGE
from ops.migrations import migrate
from tests.support.receiver import event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget
from webhook_receiver.intake import Intake
from webhook_receiver.storage import Stores
from worker.engine.job import sync_item
from worker.inbox.events import OWN_PREFIX, WebhookEvent, own_event, parse_webhook
from worker.inbox.spool import Spool
from worker.infra.lanes import Lane
from worker.infra.postgres import close_pool, open_pool
from worker.infra.redis_client import connect
from worker.wakeup.queue import QUEUE_NAME, ArqWaker

HEAD: Final = "| event | SQL round trips | transactions | Redis commands | requests |"
OF_A_CONNECTION: Final = frozenset({"hello", "client|setinfo", "select", "info", "script|load"})
MAX_JOBS: Final = 20
INVESTMENTS: Final = 3
BEHIND_THE_OVERLAP: Final = timedelta(hours=2)
NEWS: Final[dict[str, Any]] = {
    "created": 40,
    "updated": 40,
    "products": {"investments": {"updated": 1}, "loans": {"updated": 1}},
}
"""So many rows that each account has some."""
DUE: Final = (
    "SELECT EXISTS (SELECT FROM pluggy_sync.item_sync JOIN pluggy_sync.item_leases USING (item_id)"
    " WHERE run_at <= now() AND until <= now())"
)
Event: TypeAlias = dict[str, Any]
Happening: TypeAlias = tuple[str, Event]


@dataclass(frozen=True, slots=True)
class Work:
    """What one event costs, from its delivery until nothing is due."""

    round_trips: int
    transactions: int
    redis_commands: int
    requests: int

    def __sub__(self, before: Work) -> Work:
        return Work(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))


@dataclass(frozen=True, slots=True)
class Counted:
    """A receiver's intake and a worker, whose servers count."""

    stack: Stack
    intake: Intake
    postgres: PostgresCounter
    asked: Counter[str] = field(default_factory=Counter)
    """GETs of the last event, by endpoint."""

    async def total(self) -> Work:
        """All that was done since the servers started."""
        done = self.postgres.round_trips, self.postgres.transactions
        stats = await self.stack.redis.info("commandstats")
        commands = sum(
            figures["calls"]
            for name, figures in stats.items()
            if name.removeprefix("cmdstat_") not in OF_A_CONNECTION
        )
        return Work(*done, commands, (await self.gets()).total())

    async def gets(self) -> Counter[str]:
        """All GETs since the simulator started, by endpoint."""
        asked = await self.stack.requests()
        return Counter({e: count for e, count in asked.items() if e.startswith("GET ")})

    async def cost(self, body: Event) -> Work:
        """Deliver an event and sync until nothing is due. Raises RuntimeError if it stays due."""
        # A job is called directly: no worker has read the wake-ups of the events before.
        await self.stack.redis.delete(QUEUE_NAME)
        before, asked = await self.total(), 1
        gets = await self.gets()
        await self.intake.accept(_parsed(body))
        await self.intake.wakeups.settle()
        self.stack.worker.claims = 0
        while await self.stack.db.fetchval(DUE):
            if asked == MAX_JOBS:
                raise RuntimeError(f"{body['event']} stays due")
            await sync_item({"worker": self.stack.worker}, body["itemId"])
            asked += 1
        self.asked.clear()
        self.asked.update(await self.gets() - gets)
        return await self.total() - before - Work(asked, asked, 0, 0)


def _parsed(body: Event) -> WebhookEvent:
    name, now = body["event"], datetime.now(UTC)
    if name.startswith(OWN_PREFIX):
        return own_event(name, uuid.UUID(body["itemId"]), lane=Lane.AUDIT, now=now)
    return parse_webhook(json.dumps(body).encode(), now)


@asynccontextmanager
async def counted(database_url: str, redis_url: str) -> AsyncIterator[Counted]:
    """Both programs in this process, over a migrated database, a quiet Redis and a simulator."""
    async with AsyncExitStack() as on:
        simulator = await on.enter_async_context(SimulatorProcess(rate_limit=0, seed=7))
        await simulator.apost("/_simulator/webhooks", {"quiet": True})
        postgres = await on.enter_async_context(PostgresCounter(database_url))
        db = await open_pool(postgres.url, max_size=4, statement_cache=500)
        on.push_async_callback(close_pool, db)
        redis = connect(redis_url)
        on.push_async_callback(redis.aclose)
        await fill_budget(redis)
        client = await on.enter_async_context(build_client(simulator.url, redis))
        stack = Stack(db, redis, simulator, client, build_worker(db, redis, client))
        intake = Intake(Stores(db, Spool(redis)), ArqWaker(redis))
        running = asyncio.create_task(intake.run())
        yield Counted(stack, intake, postgres)
        intake.close()
        await running


async def household(stack: Stack) -> str:
    """An Open Finance item with a bank account, a card and three investments."""
    for _ in range(40):
        item = await stack.item(transactions=300, accounts=2, connectorId=600)
        if len(await stack.truth(item["id"], "investments")) == INVESTMENTS:
            return str(item["id"])
    raise RuntimeError("the simulator makes no such household")


async def happenings(stack: Stack, item_id: str, fresh_id: str) -> AsyncIterator[Happening]:
    """One of each kind: of an item that is known and idle, and of one that is new and then goes."""
    yield "item/created: the first sync", event_body(fresh_id, event="item/created")
    await stack.collect(item_id)
    yield "item/updated without news", event_body(item_id)
    yield "another item/updated of the same collection", event_body(item_id)
    await stack.collect(item_id, **NEWS)
    news = event_body(item_id)
    yield "item/updated with news of transactions, an investment and a loan", news
    yield "item/updated delivered twice", news
    await stack.collect(item_id, status="OUTDATED")
    yield "item/error", event_body(item_id, event="item/error")
    for name in ("login_succeeded", "waiting_user_input", "waiting_user_action"):
        yield f"item/{name}", event_body(item_id, event=f"item/{name}")
    for kind in ("created", "updated", "deleted"):
        answer = await stack.collect(item_id, **{kind: 3})
        named = next(e for e in answer["events"] if e["event"] == f"transactions/{kind}")
        yield f"transactions/{kind} with news", named
        await stack.process_all(answer)
        if kind != "deleted":
            again = named | {"eventId": str(uuid.uuid4())}
            yield f"transactions/{kind} without news", again
    yield "transactions/deleted, but the rows still answer", await _denied(stack, fresh_id)
    yield "an event of an unknown name, with its item", event_body(item_id, event="item/tomorrow")
    yield "connector/status_updated", _of_no_item("connector/status_updated", connectorId=600)
    yield "a payment event", _of_no_item("payment_intent/completed")
    yield "the weekly verify", event_body(item_id, event="sync/verify")
    yield "item/deleted, but the item still answers", event_body(fresh_id, event="item/deleted")
    await stack.client_deletes(fresh_id)
    yield "item/deleted, and the item is gone", event_body(fresh_id, event="item/deleted")


def _of_no_item(name: str, **fields: Any) -> Event:
    return {"event": name, "eventId": str(uuid.uuid4())} | fields


async def _denied(stack: Stack, item_id: str) -> Event:
    """A transactions/deleted that names rows which Pluggy still has."""
    row, *_ = await stack.truth(item_id)
    account = (await stack.live(item_id))[row]["account_id"]
    named = {"accountId": str(account), "transactionIds": [row]}
    return event_body(item_id, event="transactions/deleted", **named)


async def measure(service: Counted) -> dict[str, Work]:
    """The work of each happening."""
    return {name: work async for name, work in costs(service)}


async def costs(service: Counted) -> AsyncIterator[tuple[str, Work]]:
    """Each happening with its work. Statements, scripts and the API key are warm."""
    stack = service.stack
    item_id = await household(stack)
    await service.cost(event_body(item_id, event="item/created"))
    # Behind the overlap of a delta: within it rows are listed again.
    seconds = BEHIND_THE_OVERLAP.total_seconds()
    await stack.simulator.apost("/_simulator/clock", {"advance": seconds})
    await stack.shift(BEHIND_THE_OVERLAP)
    await stack.process_all(await stack.collect(item_id, created=3, updated=3, deleted=3))
    async for name, body in happenings(stack, item_id, await household(stack)):
        yield name, await service.cost(body)


def table(found: dict[str, Work]) -> str:
    """The lines of the page's table."""
    lines = [HEAD, "|---" * (1 + len(fields(Work))) + "|"]
    lines += [f"| {name} | {' | '.join(map(str, astuple(w)))} |" for name, w in found.items()]
    return "\n".join(lines)


def announced(page: str) -> dict[str, Work]:
    """The table of a page. Raises ValueError if there is none."""
    _, lines, _ = _around(page)
    cells = [line.strip("| ").split(" | ") for line in lines.splitlines()[2:]]
    return {name: Work(*map(int, figures)) for name, *figures in cells}


def _around(page: str) -> tuple[str, str, str]:
    """What is before the table, the table, and what follows."""
    start = page.index(HEAD)
    end = page.index("\n\n", start)
    return page[:start], page[start:end], page[end:]


def differences(said: dict[str, Work], found: dict[str, Work]) -> Iterator[str]:
    """A line for each event whose work is not what is said."""
    for name in said | found:
        if said.get(name) != found.get(name):
            yield f"{name}: the page says {said.get(name)}, it takes {found.get(name)}"


async def _measure_alone() -> dict[str, Work]:
    with embedded.database(None) as database_url, embedded.redis(None) as redis_url:
        await migrate(database_url)
        async with counted(database_url, redis_url) as service:
            return await measure(service)


@click.command()
@click.option("--write", is_flag=True, help="Write the table into docs/performance.md.")
def main(write: bool) -> None:
    """Count, and print the table; with --write also what has changed."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    found = asyncio.run(_measure_alone())
    click.echo(table(found))
    if write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, after = _around(page)
        PAGE.write_text(before + table(found) + after, encoding="utf-8")
        for line in differences(announced(page), found):
            click.echo(line, err=True)


if __name__ == "__main__":
    main()
