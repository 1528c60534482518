"""Entry point of the receiver process: `python -m webhook_receiver`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Final

import asyncpg
import structlog
import uvloop
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from webhook_receiver.app import ReceiverServices, receiver_runner
from webhook_receiver.delivery_counts import DeliveryCounts
from webhook_receiver.intake import Intake
from webhook_receiver.origins import Authenticator
from webhook_receiver.settings import ReceiverSettings
from webhook_receiver.storage import Stores
from worker.inbox.spool import Spool
from worker.infra import log as logs
from worker.infra.baseline import UnreleasedDatabase, check_baseline
from worker.infra.http_server import (
    HttpLimits,
    listening_port,
    room_for_connections,
    until_stopped,
)
from worker.infra.outage_words import redis_outage
from worker.infra.postgres import POSTGRES_AWAY, Pool, close_pool, open_pool
from worker.infra.redis_client import connect
from worker.infra.redis_settings import RedisSafety
from worker.infra.settings import SettingsError, load
from worker.infra.tasks import end
from worker.infra.time_slices import collect_rarely
from worker.wakeup.queue import ArqWaker

log = structlog.get_logger()

CHECK_TIMEOUT_S: Final = 1.0


async def serve(settings: ReceiverSettings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises SettingsError if the port cannot be opened, UnreleasedDatabase.
    """
    db = await open_pool(
        settings.database_url.get_secret_value(),
        max_size=4,
        statement_cache=settings.database_statement_cache,
    )
    redis = connect(settings.redis_url.get_secret_value())
    stores = Stores(db, Spool(redis))
    services = ReceiverServices(
        authenticator=Authenticator(settings.secrets),
        secret_header=settings.webhook_secret_header,
        origins=settings.origins,
        stores=stores,
        intake=Intake(stores, ArqWaker(redis)),
        counts=DeliveryCounts(),
        db=db,
    )
    runner = receiver_runner(services, HttpLimits(connections=room_for_connections()))
    checks: list[asyncio.Task[None]] = []
    await runner.setup()
    collect_rarely()
    try:
        await _check_database(db)
        log.info("receiver_started", port=await _listen(runner, settings.port))
        checks.append(asyncio.create_task(_check_redis(redis)))
        await until_stopped()
    finally:
        await runner.cleanup()
        await end(*checks)
        await redis.aclose()
        await close_pool(db)
        log.info("receiver_stopped")


async def _check_database(db: Pool) -> None:
    """Refuse a database of another baseline. Raises UnreleasedDatabase.

    The receiver starts all the same while Postgres is away, or is not migrated yet: it keeps events
    in Redis then.
    """
    with contextlib.suppress(*POSTGRES_AWAY, asyncpg.PostgresError):
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check_baseline(db)


async def _check_redis(redis: Redis) -> None:
    """Log at start whether Redis is away or has settings that are unsafe for the spool."""
    try:
        await RedisSafety(redis).check()
    except (RedisError, OSError) as error:
        log.warning(redis_outage(error), error=type(error).__name__)


async def _listen(runner: web.AppRunner, port: int) -> int:
    """Open the port; returns its number."""
    try:
        await web.TCPSite(runner, port=port, backlog=1024).start()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SettingsError(f"PORT: {port} cannot be listened on: {why}") from error
    return listening_port(runner)


def main() -> None:
    """Read the settings and serve; exits with 1 and a message if a setting is invalid."""
    try:
        settings = load(ReceiverSettings)
        logs.configure(settings.log_level, settings.log_format)
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(serve(settings))
    except (SettingsError, UnreleasedDatabase) as error:
        sys.exit(f"pluggy-sync: {error}")


if __name__ == "__main__":
    main()
