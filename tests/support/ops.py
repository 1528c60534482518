"""The ops process inside a test on a free port, and as a separate process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from ops.demo.processes import OPS, ops_port
from ops.web.app import ops_runner
from ops.web.serve import open_services
from ops.web.services import OpsServices
from ops.web.settings import OpsSettings
from tests.support.receiver import Client
from tests.support.service_process import ServiceProcess
from tests.support.stack import CLIENT_ID, CLIENT_SECRET

TOKEN = "a-token-of-the-tests"  # noqa: S105 - of the tests
BEARER = {"Authorization": f"Bearer {TOKEN}"}


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
) -> AsyncIterator[OpsClient]:
    """The ops process as `pluggy-sync ops` builds it, on a free port of loopback.

    host: the OPS_HOST by which its rules are made.
    """
    given = ops_environment(database_url, redis_url, pluggy_url)
    settings = OpsSettings(
        **{name.lower(): value for name, value in given.items()},
        ops_host=host,
        ops_token=SecretStr(token) if token else None,
    )
    connector = aiohttp.TCPConnector(limit=0)  # more than a hundred may wait
    async with (
        open_services(settings) as services,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        runner = ops_runner(services)
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
