"""Wiring of a worker process: `arq worker.main.WorkerSettings`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from datetime import timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
import uvloop
from arq import func
from redis.asyncio import Redis

from worker import log as logs
from worker.background import end
from worker.budget import RateBudget
from worker.catalogue import refresh_catalogue
from worker.chores import Chore, Chores
from worker.database import Pool, close_pool, open_pool
from worker.drain import drain
from worker.health import start_health_server
from worker.installation import ForeignInstallation, check_installation
from worker.nets import cast_nets
from worker.outage import CallLedger
from worker.pluggy_client import PluggyClient
from worker.purge import Purger
from worker.queries import QUERIES
from worker.queue import (
    PREFIX,
    QUEUE_NAME,
    SYNC_ITEM,
    ArqDoorbell,
    connect,
    deserialize,
    redis_settings,
    serialize,
)
from worker.restatements import link_restatements
from worker.retention import forget_old
from worker.settings import PluggySettings, SettingsError, load
from worker.spool import Spool
from worker.sweep import Sweep
from worker.sync.engine import BulkSlots, Engine
from worker.tasks import Worker, sync_item
from worker.watch import Expected, watch_subscriptions

log = structlog.get_logger()

JOB_TIMEOUT_S: Final = 60
COMPLETION_WAIT_S: Final = 30
POLL_DELAY_S: Final = 0.05
QUEUE_READ_LIMIT: Final = 10_000
"""Above all slots together: arq reads the head of the queue, where running jobs stay."""


async def startup(ctx: dict[str, Any]) -> None:
    """Open what the jobs use. Exits with a message if this database is another application's."""
    settings: PluggySettings = ctx["settings"]
    db = await open_pool(
        settings.database_url.get_secret_value(),
        max_size=settings.worker_slots + 4,
        statement_cache=settings.database_statement_cache,
    )
    try:
        await check_installation(db, settings.pluggy_client_id, settings.pluggy_base_url)
    except ForeignInstallation as error:
        await close_pool(db)
        raise SystemExit(f"pluggy-sync: {error}") from None
    redis = connect(settings.redis_url.get_secret_value())
    client = PluggyClient(
        base_url=settings.pluggy_base_url,
        client_id=settings.pluggy_client_id,
        client_secret=settings.pluggy_client_secret.get_secret_value(),
        budget=RateBudget(redis, per_minute=settings.pluggy_requests_per_minute),
    )
    await client.__aenter__()
    slots = settings.worker_slots
    bulk = BulkSlots(max(1, slots - max(1, slots // 4)))
    ledger = CallLedger(redis)
    engine = Engine(db, client, ledger, ZoneInfo(settings.posted_on_zone), settings.products, bulk)
    doorbell = ArqDoorbell(redis)
    sweep = Sweep(db, doorbell, ctx["worker_id"], slots)
    ctx |= {"db": db, "client": client, "redis_client": redis, "sweep": sweep}
    ctx["worker"] = Worker(db, engine, doorbell)
    ctx["sweeping"] = asyncio.create_task(sweep.run())
    ctx["chores"] = asyncio.create_task(_chores(db, redis, client, settings).run())
    ctx["health"] = await start_health_server(sweep, settings.metrics_port)
    log.info("worker_started", worker_id=ctx["worker_id"], slots=slots)


def _chores(db: Pool, redis: Redis, client: PluggyClient, settings: PluggySettings) -> Chores:
    """What a worker does beside the items that it is rung for."""
    keep = timedelta(days=settings.retention_days)
    purger = Purger(db, client, after=timedelta(days=settings.purge_after_days))
    return Chores(
        [
            Chore("spool", 1.0, partial(_drain, db, Spool(redis))),
            Chore("catalogue", 5.0, partial(refresh_catalogue, db, client)),
            Chore("nets", 5.0, partial(cast_nets, db)),
            *_watch(db, client, settings),
            Chore("purge", 60.0, purger.purge),
            Chore("restatements", 30.0, partial(link_restatements, db)),
            Chore("retention", 60.0, partial(forget_old, db, keep)),
        ]
    )


async def _drain(db: Pool, spool: Spool) -> bool:
    """A portion of what was accepted while Postgres was away; the sweep rings for it."""
    return (await drain(db, spool)).entries > 0


def _watch(db: Pool, client: PluggyClient, settings: PluggySettings) -> list[Chore]:
    """The subscription watch, where it is said what a subscription has to look like."""
    if settings.webhook_url is None:
        return []
    header, secrets = settings.webhook_secret_header, settings.webhook_secrets
    expected = Expected(settings.webhook_url, header, secrets)
    return [Chore("subscriptions", 20.0, partial(watch_subscriptions, db, client, expected))]


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close what startup opened, in reverse."""
    if "worker" not in ctx:
        return
    await ctx["health"].cleanup()
    await end(ctx["sweeping"], ctx["chores"])
    await ctx["db"].execute(QUERIES["remove_worker"], ctx["worker_id"])
    await ctx["client"].__aexit__(None, None, None)
    await ctx["redis_client"].aclose()
    await close_pool(ctx["db"])
    log.info("worker_stopped", worker_id=ctx["worker_id"])


def worker_settings(settings: PluggySettings) -> type:
    """arq's settings class for an environment."""
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    redis = redis_settings(settings.redis_url.get_secret_value())
    # A worker that starts before Redis waits for it.
    redis.conn_retries, redis.conn_retry_delay = 60, 1
    return type(
        "WorkerSettings",
        (),
        {
            "functions": [func(sync_item, name=SYNC_ITEM)],
            "on_startup": startup,
            "on_shutdown": shutdown,
            "ctx": {"settings": settings, "worker_id": worker_id},
            "redis_settings": redis,
            "queue_name": QUEUE_NAME,
            "max_jobs": settings.worker_slots,
            "job_timeout": JOB_TIMEOUT_S,
            "job_completion_wait": COMPLETION_WAIT_S,
            "keep_result": 0,
            # Rings are never retried by arq: what is due stays due in Postgres.
            "retry_jobs": False,
            "max_tries": 1_000_000,
            "poll_delay": POLL_DELAY_S,
            "queue_read_limit": QUEUE_READ_LIMIT,
            "health_check_interval": 15,
            "health_check_key": f"{PREFIX}health:{worker_id}",
            "job_serializer": serialize,
            "job_deserializer": deserialize,
            "log_results": False,
        },
    )


def __getattr__(name: str) -> Any:
    """Build WorkerSettings when arq asks for it: importing this module reads no environment."""
    if name != "WorkerSettings":
        raise AttributeError(name)
    try:
        settings = load(PluggySettings)
    except SettingsError as error:
        sys.exit(f"pluggy-sync: {error}")
    logs.configure(settings.log_level, settings.log_format)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return worker_settings(settings)
