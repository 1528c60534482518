"""The ops process: opens its connections, listens until SIGINT or SIGTERM, closes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import asyncpg
import structlog
from aiohttp import web

from ops.web.access import Access
from ops.web.app import ops_runner
from ops.web.barrier import Barrier
from ops.web.installation import Installation
from ops.web.services import OpsServices
from ops.web.settings import OpsSettings
from worker.infra.baseline import check_baseline
from worker.infra.http_server import listening_port, room_for_connections, until_stopped
from worker.infra.postgres import POSTGRES_AWAY, Pool, close_pool, connection_within, open_pool
from worker.infra.redis_client import connect
from worker.infra.settings import SettingsError
from worker.pluggy_api.client import PluggyClient
from worker.wakeup.queue import ArqWaker

log = structlog.get_logger()

CHECK_TIMEOUT_S: Final = 2.0


async def serve(settings: OpsSettings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises SettingsError if the port cannot be opened, UnreleasedDatabase, ForeignInstallation.
    """
    connections = room_for_connections()
    async with open_services(settings, connections) as services:
        await _check_database(services)
        runner = ops_runner(services, connections)
        await runner.setup()
        try:
            port = await _listen(runner, settings)
            log.info("ops_started", host=settings.ops_host, port=port)
            await until_stopped()
        finally:
            await runner.cleanup()
            log.info("ops_stopped")


@asynccontextmanager
async def open_services(settings: OpsSettings, connections: int) -> AsyncIterator[OpsServices]:
    """The dependencies of the handlers; closes them afterwards.

    connections: how many clients the server takes.
    """
    async with AsyncExitStack() as opened:
        redis = connect(settings.redis_url.get_secret_value())
        opened.push_async_callback(redis.aclose)
        db = await _pool(opened, settings, 4)
        # Of its own, so that however many wait, other requests find a connection.
        of_waits = await _pool(opened, settings, 1)
        client = await opened.enter_async_context(PluggyClient.of(settings, redis))
        token = settings.ops_token
        yield OpsServices(
            db=db,
            waker=ArqWaker(redis),
            client=client,
            access=Access(settings.is_local, token.get_secret_value() if token else None),
            barrier=Barrier(
                of_waits,
                connections=connections,
                transactions="transactions" in settings.products,
            ),
            installation=Installation(settings.pluggy_client_id, settings.pluggy_base_url),
        )


async def _pool(opened: AsyncExitStack, settings: OpsSettings, max_size: int) -> Pool:
    pool = await open_pool(
        settings.database_url.get_secret_value(),
        max_size=max_size,
        statement_cache=settings.database_statement_cache,
    )
    opened.push_async_callback(close_pool, pool)
    return pool


async def _check_database(services: OpsServices) -> None:
    """Refuse a database of another baseline or of another application.

    The process starts all the same while Postgres is away, or is not migrated yet.
    """
    with contextlib.suppress(*POSTGRES_AWAY, asyncpg.PostgresError):
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check_baseline(services.db)
        async with connection_within(services.db, CHECK_TIMEOUT_S) as conn:
            await services.installation.check(conn)


async def _listen(runner: web.AppRunner, settings: OpsSettings) -> int:
    """Open the port; returns its number. Raises SettingsError."""
    try:
        await web.TCPSite(runner, settings.ops_host, settings.ops_port, backlog=1024).start()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else "unknown host"
        at = f"{settings.ops_host}:{settings.ops_port}"
        raise SettingsError(f"OPS_HOST, OPS_PORT: {at} cannot be listened on: {why}") from error
    return listening_port(runner)
