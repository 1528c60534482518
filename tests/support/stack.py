"""The engine in the test's event loop, over real Postgres and a real simulator."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
from arq.connections import ArqRedis

from ops.compare.columns import load_tables
from ops.compare.rows import Comparison, compare_item
from ops.demo.processes import ZONE
from tests.support.simulator_process import SimulatorProcess
from tests.support.truth_document import read_document
from tests.support.waiting import HANGS_AFTER_S
from worker.engine.job import Worker
from worker.engine.sync_item import BulkSlots, Engine
from worker.entities.registry import ENTITIES
from worker.inbox.accept import Accepted, UnstorableEvent, accept_events
from worker.inbox.events import WebhookEvent, own_event, parse_webhook
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.infra.redis_keys import PREFIX
from worker.infra.settings import PRODUCTS
from worker.lease.halt import probe_halt
from worker.lease.lease import Lease
from worker.lease.parked_products import tend_parks
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.http import endpoint_group
from worker.pluggy_api.rate_limit import RateBudget
from worker.wakeup.queue import ArqWaker

CLIENT_ID = "6f1c2d9e-0000-4000-8000-000000000001"
CLIENT_SECRET = "s3cret-of-the-tests"  # noqa: S105 - the simulator takes any

SHIFTED = {
    "pluggy_sync.webhook_events": (
        "accepted_at",
        "pending_since",
        "ask_again_at",
        "settled_at",
        "confirming_since",
    ),
    "pluggy_sync.item_sync": ("run_at",),
    "pluggy_sync.item_leases": ("until",),
    "pluggy_sync.product_sync": (
        "complete_read_at",
        "walked_at",
        "recent_at",
        "unreadable_walk_at",
        "first_read_at",
        "confirm_at",
        "narrow_until",
        "wide_by",
        "verified_at",
        "failing_since",
        "failed_at",
        "next_try_at",
        "dead_at",
        "deferred_since",
        "parked_at",
    ),
    "pluggy_sync.parked_products": ("parked_at", "probe_at", "probed_at"),
    "pluggy_sync.account_walks": ("asked_at", "started_at", "read_at"),
    "pluggy_sync.item_reconciliations": (
        "webhook_check_at",
        "recent_read_at",
        "verify_at",
        "deletions_at",
    ),
    "pluggy_sync.missed_webhooks": ("collected_at", "found_at", "judged_at", "announced_at"),
    "pluggy_sync.unknown_items": ("found_at",),
    "pluggy_sync.halts": ("halted_at", "probe_at", "resumed_at"),
    "pluggy.items": ("changed_at", "first_seen_at"),
    "pluggy.accounts": ("changed_at", "first_seen_at", "deletion_flagged_at"),
    "pluggy.investments": ("missing_since",),
    "pluggy.loans": ("missing_since",),
    "pluggy.transactions": (
        "changed_at",
        "first_seen_at",
        "deleted_at",
        "deletion_flagged_at",
        "missing_since",
    ),
}


MEU_PLUGGY = 200
TABLES = tuple(name for name in PRODUCTS if name != "items")
OF_NO_PRODUCT = ("/auth", "/items", "/v2/transactions", "/connectors", "/categories")
GROUPS = {endpoint_group(path) for path in OF_NO_PRODUCT} | {
    endpoint_group(entity.path.format(owner="x")) for entity in ENTITIES.values() if entity.path
}
"""Endpoints that have a rate limit together."""


@dataclass(slots=True)
class Stack:
    """One database, one simulator, one worker without arq."""

    db: Pool
    redis: ArqRedis
    simulator: SimulatorProcess
    client: PluggyClient
    worker: Worker
    items: list[str] = field(default_factory=list)

    async def item(self, **options: Any) -> dict[str, Any]:
        """A connected item at the simulator, not mirrored yet."""
        made: dict[str, Any] = await self.simulator.apost("/_simulator/items", options)
        self.items.append(made["id"])
        return made

    async def synced_item(self, **options: Any) -> dict[str, Any]:
        """An item that is mirrored already."""
        made = await self.item(**options)
        await self.tell("item/created", made["id"])
        await self.quiet()
        return made

    async def collect(self, item_id: str, **changes: Any) -> dict[str, Any]:
        """One collection at the simulator; returns its changes by account."""
        answer: dict[str, Any] = await self.simulator.apost(
            f"/_simulator/items/{item_id}/collect", changes
        )
        return answer

    async def client_deletes(self, item_id: str) -> None:
        """Delete the item at Pluggy, as the company would."""
        key = self.simulator.call(
            "POST", "/auth", {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
        )[2]["apiKey"]
        status, _, _ = self.simulator.call(
            "DELETE", f"/items/{item_id}", headers={"X-API-KEY": key}
        )
        assert status == 200

    async def accept(self, *events: WebhookEvent) -> list[Accepted | UnstorableEvent]:
        return await accept_events(self.db, events, timeout_s=HANGS_AFTER_S)

    async def tell(self, name: str, item_id: str, **fields: Any) -> Accepted:
        """Deliver a webhook as Pluggy sends it; eventId is fresh unless given."""
        body = {"event": name, "eventId": str(uuid.uuid4()), "itemId": item_id} | fields
        [accepted] = await self.accept(parse_webhook(json.dumps(body).encode(), now()))
        assert isinstance(accepted, Accepted)
        return accepted

    async def process(self, name: str, item_id: str, **fields: Any) -> None:
        """Deliver a webhook, then sync until nothing is due."""
        await self.tell(name, item_id, **fields)
        await self.quiet()

    async def update(self, item_id: str, **changes: Any) -> None:
        """One collection at the simulator, then its item/updated alone, then `quiet`."""
        await self.collect(item_id, **changes)
        await self.process("item/updated", item_id)

    async def tell_all(self, collected: dict[str, Any]) -> None:
        """Deliver all webhooks that Pluggy sends after a collection."""
        for body in collected["events"]:
            await self.accept(parse_webhook(json.dumps(body).encode(), now()))

    async def process_all(self, collected: dict[str, Any]) -> None:
        """Deliver all webhooks of a collection, then sync until nothing is due."""
        await self.tell_all(collected)
        await self.quiet()

    async def process_order(self, name: str, item_id: str, lane: Lane = Lane.AUDIT) -> None:
        """Give an event of our own, then sync until nothing is due."""
        await self.order(name, item_id, lane)
        await self.quiet()

    async def after(self, by: timedelta) -> None:
        """Let time pass, then sync until nothing is due."""
        await self.shift(by)
        await self.quiet()

    async def fault(self, match: str, **fault: Any) -> None:
        """Have Pluggy answer requests that match in another way, see /_simulator/faults."""
        await self.simulator.apost("/_simulator/faults", {"match": match, **fault})

    async def refuse(self, match: str, status: int, **fault: Any) -> None:
        """Have Pluggy answer every request that matches with a status."""
        await self.fault(match, **{"kind": "status", "status": status, "rate": 1.0} | fault)

    async def clear_faults(self) -> None:
        await self.simulator.adelete("/_simulator/faults")

    def limit_products(self, *products: str) -> None:
        """Continue with PRODUCTS set to these only."""
        self.worker.engine = replace(self.worker.engine, products=products)

    async def order(self, name: str, item_id: str, lane: Lane = Lane.AUDIT) -> None:
        """An event of our own."""
        await self.accept(own_event(name, uuid.UUID(item_id), lane=lane, now=now()))

    async def quiet(self, *, most: int = 500) -> int:
        """Claim and sync until no item is due; returns the number of claims."""
        claims = 0
        await self.tend()
        while lease := await self.worker.claim(None):
            claims += 1
            assert claims <= most, "work never ends"
            await self.worker.engine.sync(lease)
        return claims

    async def tend(self) -> None:
        """Run the periodic tasks for halts and parked products."""
        engine = self.worker.engine
        await probe_halt(self.db, engine.client, engine.ledger)
        await tend_parks(self.db, engine.client, engine.products)

    async def claim(self) -> Lease:
        lease = await self.worker.claim(None)
        assert lease is not None, "nothing is due"
        return lease

    async def shift(self, by: timedelta) -> None:
        """Move the time: every stored time is set back."""
        for table, columns in SHIFTED.items():
            assignments = ", ".join(f"{c} = {c} - $1::interval" for c in columns)
            # A row without any of the times is not written: tests check the run that wrote a row.
            timed = " OR ".join(f"{c} IS NOT NULL" for c in columns)
            statement = f"UPDATE {table} SET {assignments} WHERE {timed}"  # noqa: S608 - constants
            await self.db.execute(statement, by)

    async def events(self, item_id: str) -> list[asyncpg.Record]:
        return await self.db.fetch(
            "SELECT * FROM pluggy_sync.webhook_events WHERE item_id = $1 ORDER BY id", item_id
        )

    async def states(self, item_id: str) -> list[str]:
        return [record["state"] for record in await self.events(item_id)]

    async def live(self, item_id: str, table: str = "transactions") -> dict[str, asyncpg.Record]:
        """Live rows of an item by id."""
        found = await self.db.fetch(
            f"SELECT * FROM pluggy_live.{table} WHERE item_id = $1",  # noqa: S608 - constants
            item_id,
        )
        return {str(record["id"]): record for record in found}

    async def truth(self, item_id: str, table: str = "transactions") -> dict[str, dict[str, Any]]:
        """Rows of an item at Pluggy, by id."""
        answer = await self.simulator.aget(f"/_simulator/truth/{item_id}")
        return {row["id"]: row for row in answer[table]}

    async def assert_equal(
        self, item_id: str, tables: Sequence[str] = TABLES, *, but: Collection[str] = ()
    ) -> None:
        """Assert that the live rows equal Pluggy's: ids, payload, typed columns but some."""
        document = await self.simulator.truth(item_id)
        [item] = json.loads(document)["items"]
        # Other connectors have no consents to ask for.
        connector = item["connector"]
        consents = connector["isOpenFinance"] or connector["id"] == MEU_PLUGGY
        asked = [t for t in tables if t != "consents" or consents]
        found = Comparison()
        async with self.db.acquire() as conn:
            mirrored = await load_tables(conn)
            compared = {table: mirrored[table].without(but) for table in asked}
            await compare_item(
                conn, item_id, read_document(document), ZoneInfo(ZONE), found, compared
            )
        assert not found.mismatches, list(map(str, found.shown))

    async def requests(self) -> dict[str, int]:
        """Requests that the simulator answered since the last reset, by endpoint."""
        answer = await self.simulator.aget("/_simulator/requests")
        counts: dict[str, int] = answer["endpoints"]
        return counts

    async def reset_requests(self) -> None:
        await self.simulator.adelete("/_simulator/requests")


async def fill_budget(redis: ArqRedis) -> None:
    """Fill the buckets, which start empty, so that tests do not wait."""
    at = int(time.time() * 1000)
    for group in sorted(GROUPS):
        key = f"{PREFIX}budget:{group}"
        async with redis.pipeline() as pipe:
            pipe.hset(key, mapping={"tokens": 5000, "at": at})
            await pipe.execute()


def now() -> datetime:
    return datetime.now(UTC)


def build_worker(db: Pool, redis: ArqRedis, client: PluggyClient) -> Worker:
    ledger = CallLedger(redis)
    zone = ZoneInfo(ZONE)
    engine = Engine(db, client, ledger, zone, PRODUCTS, BulkSlots(4))
    return Worker(db, engine, ArqWaker(redis))


def build_client(base_url: str, redis: ArqRedis) -> PluggyClient:
    return PluggyClient(
        base_url=base_url,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        budget=RateBudget(redis, per_minute=60_000),
    )
