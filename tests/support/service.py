"""The service as processes: a receiver, a simulator and the servers; tests start the workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.receiver import SECRET, Client, PatientReceiverProcess, event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget
from tests.support.waiting import HANGS_AFTER_S, until
from tests.support.worker_process import WorkerProcess
from worker.infra.postgres import Pool
from worker.infra.redis_client import connect


@dataclass
class Service:
    """A receiver with its servers, and a stack to read the database and to collect."""

    database_url: str
    redis_url: str
    stack: Stack
    receiver_client: Client

    @property
    def db(self) -> Pool:
        return self.stack.db

    def worker(self, **environment: str) -> WorkerProcess:
        return WorkerProcess(
            self.database_url, self.redis_url, self.stack.simulator.url, **environment
        )

    async def deliver(self, item_id: str, **fields: Any) -> None:
        """A webhook, over HTTP."""
        reply = await self.receiver_client.deliver(event_body(item_id, **fields))
        assert (reply.status, reply.body) == (202, {"status": "accepted"})

    async def slow(self, match: str, *, seconds: float, times: int = 1) -> None:
        """Make Pluggy answer requests late."""
        await self.stack.fault(match, kind="slow", seconds=seconds, times=times)

    async def asked(
        self, endpoint: str, times: int = 1, *, timeout_s: float = HANGS_AFTER_S
    ) -> None:
        """Wait until Pluggy was asked."""

        async def counted() -> bool:
            return (await self.stack.requests()).get(endpoint, 0) >= times

        await until(counted, f"{endpoint} is asked", timeout_s=timeout_s)

    async def quiet(self, *, timeout_s: float = HANGS_AFTER_S) -> None:
        """Wait until no event is pending and no worker is busy."""

        async def rests() -> bool:
            return not await self.db.fetchval(
                "SELECT count(*) FROM pluggy_sync.item_sync s"
                " JOIN pluggy_sync.item_leases l USING (item_id)"
                " WHERE s.run_at IS NOT NULL OR l.token IS NOT NULL"
            )

        await until(rests, "everything is done", timeout_s=timeout_s)

    async def let_lapse(self) -> None:
        """Move the time past any lease."""
        await self.db.execute(
            "UPDATE pluggy_sync.item_leases SET until = until - interval '1 hour'"
        )

    async def attempts(self) -> int:
        spent: int = await self.db.fetchval(
            "SELECT coalesce(sum(attempts), 0) FROM pluggy_sync.product_sync"
        )
        return spent


@asynccontextmanager
async def open_service(
    database_url: str, db: Pool, redis_url: str, simulator: SimulatorProcess
) -> AsyncIterator[Service]:
    """Open a service over a Redis that it may empty, and a simulator without faults."""
    async with AsyncExitStack() as opened:
        redis = connect(redis_url, timeout_s=HANGS_AFTER_S)
        opened.push_async_callback(redis.aclose)
        await redis.flushall()
        await fill_budget(redis)
        opened.push_async_callback(simulator.adelete, "/_simulator/faults")
        await simulator.adelete("/_simulator/faults")
        await simulator.adelete("/_simulator/requests")
        receiver = await opened.enter_async_context(
            PatientReceiverProcess(
                DATABASE_URL=database_url, REDIS_URL=redis_url, WEBHOOK_SECRET=SECRET
            )
        )
        session = await opened.enter_async_context(aiohttp.ClientSession())
        client = await opened.enter_async_context(build_client(simulator.url, redis))
        receiver_client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        stack = Stack(db, redis, simulator, client, build_worker(db, redis, client))
        yield Service(database_url, redis_url, stack, receiver_client)
