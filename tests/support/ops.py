"""The ops process inside a test on a free port, and as a separate process."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from ops.demo.processes import OPS, ops_port
from ops.web.app import ops_runner
from ops.web.installation import Installation
from ops.web.serve import open_services
from ops.web.services import OpsServices
from ops.web.settings import OpsSettings
from tests.support.receiver import Client
from tests.support.service_process import ServiceProcess
from tests.support.stack import CLIENT_ID, CLIENT_SECRET
from worker.infra.postgres import Pool

TOKEN = "a-token-of-the-tests"  # noqa: S105 - of the tests
BEARER = {"Authorization": f"Bearer {TOKEN}"}


STAGE: Final = """
WITH item AS (
    SELECT n, gen_random_uuid() AS id FROM generate_series(1, $1::integer) AS n
), items AS (
    INSERT INTO pluggy.items (id, payload, row_hash, row_version, run_id, status, next_auto_sync_at)
    SELECT id, '{}', '', 1, 1, 'UPDATED', now() + interval '1 day' FROM item
), steps AS (
    INSERT INTO pluggy_sync.product_sync (item_id, product, complete_read_at)
    SELECT id, product, now() FROM item, unnest($2::text[]) AS product
), events AS (
    INSERT INTO pluggy_sync.webhook_events
        (event_id, body_sha256, event, item_id, body, received_at, lane, state)
    SELECT 'event-' || n, uuid_send(id), 'item/updated', id, '', now(), 0, 'pending' FROM item
)
SELECT id FROM item ORDER BY n
"""


async def stage(
    db: Pool, count: int = 1, *, products: Sequence[str] = ("items", "accounts")
) -> list[uuid.UUID]:
    """Items that are read completely, each with one event that is pending."""
    return [row["id"] for row in await db.fetch(STAGE, count, products)]


@dataclass(frozen=True, slots=True)
class OpsClient(Client):
    """A client of an ops process in this process."""

    services: OpsServices

    async def wait(self, item_id: object, **parameters: Any) -> Any:
        """The reply of the read barrier."""
        return await self.call("GET", f"/v1/items/{item_id}/wait", params=parameters)


def ops_environment(database_url: str, redis_url: str, pluggy_url: str) -> dict[str, Any]:
    """Settings of an ops process beside a simulator, by their names."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PLUGGY_BASE_URL": pluggy_url,
        "PLUGGY_CLIENT_ID": CLIENT_ID,
        "PLUGGY_CLIENT_SECRET": CLIENT_SECRET,
        "PLUGGY_REQUESTS_PER_MINUTE": "60000",
    }


@asynccontextmanager
async def open_ops(
    database_url: str,
    redis_url: str,
    pluggy_url: str = "http://127.0.0.1:9",
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    installation: Installation | None = None,
    connections: int = 1000,
) -> AsyncIterator[OpsClient]:
    """The ops process as `pluggy-sync ops` builds it, on a free port of loopback.

    host: the OPS_HOST by which its rules are made. installation: instead of its own, to take the
    simulator for Pluggy itself.
    """
    given = ops_environment(database_url, redis_url, pluggy_url)
    settings = OpsSettings(
        **{name.lower(): value for name, value in given.items()},
        ops_host=host,
        ops_token=SecretStr(token) if token else None,
    )
    connector = aiohttp.TCPConnector(limit=0)  # more than a hundred may wait
    async with (
        open_services(settings, connections) as services,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        if installation is not None:
            services = replace(services, installation=installation)
        runner = ops_runner(services, connections)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield OpsClient(f"http://127.0.0.1:{runner.addresses[0][1]}", session, services)
        finally:
            await runner.cleanup()


class OpsProcess(ServiceProcess):
    """`pluggy-sync ops` on a free port."""

    arguments = OPS

    def __init__(self, **environment: str) -> None:
        super().__init__(**{"OPS_PORT": "0", "LOG_LEVEL": "DEBUG"} | environment)

    async def port(self) -> int:
        """The port that it listens on."""
        return await self.child.wait_for_log(ops_port)
