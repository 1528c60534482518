"""The arq worker process: opens its connections and starts its tasks. No logic of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
import uuid
from datetime import timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg
import structlog
import uvloop
from arq import func
from redis.asyncio import Redis

from worker.engine.job import Worker, sync_item
from worker.engine.polling import PolledWork
from worker.engine.sync_item import BulkSlots, Engine
from worker.health import TICK_TIMEOUT_S, Heartbeat, start_health_server, sweep_heartbeat
from worker.inbox.drain import drain
from worker.inbox.spool import Spool
from worker.infra import log as logs
from worker.infra.baseline import UnreleasedDatabase, check_baseline
from worker.infra.outage_log import ServerOutage, ignore_lost_connections
from worker.infra.postgres import (
    POSTGRES_AWAY,
    POSTGRES_REFUSES_US,
    Pool,
    close_pool,
    connection_within,
    open_pool,
    why_refused,
)
from worker.infra.redis_client import connect
from worker.infra.redis_keys import PREFIX
from worker.infra.redis_settings import RedisSafety
from worker.infra.settings import PluggySettings, SettingsError, load
from worker.infra.tasks import end, insist
from worker.infra.time_slices import collect_rarely
from worker.lease.halt import probe_halt
from worker.lease.parked_products import tend_parks
from worker.maintenance.first_use import use_sessions
from worker.maintenance.installation import (
    ForeignInstallation,
    check_installation,
    remember_settings,
)
from worker.maintenance.items_list import ItemsList
from worker.maintenance.purge import Purger
from worker.maintenance.reconciliation import order_confirmations, run_reconciliations
from worker.maintenance.reconnections import link_reconnections
from worker.maintenance.redis_settings import record_redis_settings
from worker.maintenance.reference_data import refresh_reference_data
from worker.maintenance.restatements import link_restatements
from worker.maintenance.retention import delete_expired
from worker.maintenance.schedule import PeriodicTask, PeriodicTasks
from worker.maintenance.stalled_copies import end_stalled_copies
from worker.maintenance.subscriptions import Expected, watch_subscriptions
from worker.maintenance.sweep import Sweep
from worker.pluggy_api.circuit_breaker import CallLedger
from worker.pluggy_api.client import PluggyClient
from worker.store import halts
from worker.store.sweep import remove_worker
from worker.wakeup.queue import (
    QUEUE_NAME,
    SYNC_ITEM,
    ArqWaker,
    QueueClient,
    deserialize,
    queue_client,
)

log = structlog.get_logger()

JOB_TIMEOUT_S: Final = 60
COMPLETION_WAIT_S: Final = 30
POLL_DELAY_S: Final = 0.005
"""Pause between two wake-ups, and while all slots are taken; a read waits for a wake-up itself."""
QUEUE_READ_TIMEOUT_S: Final = 2.0 * JOB_TIMEOUT_S
"""arq does not read its queue while all slots are taken, at most for the time-out of a job."""
PERIODIC_TASKS_TIMEOUT_S: Final = 600.0
POSTGRES_PAUSE_S: Final = 1.0
REMOVE_TIMEOUT_S: Final = 3.0


async def startup(ctx: dict[str, Any]) -> None:
    """Open connections and start background tasks, once Postgres answers.

    Exits with a message if the database belongs to another application or is not migrated by
    these files.
    """
    settings: PluggySettings = ctx["settings"]
    queue: QueueClient = ctx["redis"]
    collect_rarely()
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connections)
    postgres = ServerOutage("postgres")
    db = await open_pool(
        settings.database_url.get_secret_value(),
        max_size=settings.worker_slots + 4,
        statement_cache=settings.database_statement_cache,
    )
    redis = connect(settings.redis_url.get_secret_value(), queue.outage)
    client = PluggyClient.of(settings, redis)
    await client.__aenter__()
    slots = settings.worker_slots
    bulk = BulkSlots(max(1, slots - max(1, slots // 4)))
    ledger = CallLedger(redis)
    engine = Engine(db, client, ledger, ZoneInfo(settings.posted_on_zone), settings.products, bulk)
    waker = ArqWaker(redis)
    worker = Worker(db, engine, waker, postgres)
    polled = PolledWork(worker, slots)
    sweep = Sweep(db, waker, ctx["worker_id"], slots, polled, postgres, queue.outage)
    periodic_tasks = PeriodicTasks(
        [
            PeriodicTask("halt", 1.0, partial(probe_halt, db, client, ledger)),
            PeriodicTask("parks", 20.0, partial(tend_parks, db, client, settings.products)),
            *_periodic_tasks(db, redis, client, settings),
        ],
        postgres,
    )
    heartbeats = [_start_heartbeat(postgres)]
    ctx |= {"db": db, "client": client, "redis_client": redis, "worker": worker, "polled": polled}
    ctx["background"] = [asyncio.create_task(insist(_arqs_loop()))]
    ctx["health"] = await start_health_server(sweep, settings.metrics_port, heartbeats)
    await _check_installation(db, settings, postgres)
    with contextlib.suppress(*POSTGRES_AWAY):  # it becomes due by itself
        await halts.probe_soon(db)
    ctx["background"] += [
        asyncio.create_task(sweep.run()),
        asyncio.create_task(periodic_tasks.run()),
        asyncio.create_task(ledger.run()),
        asyncio.create_task(use_sessions(db)),
    ]
    sweep.ticked_at = periodic_tasks.ticked_at = queue.read_at = time.monotonic()
    heartbeats[:] = _heartbeats(sweep, queue, periodic_tasks)
    log.info("worker_started", worker_id=ctx["worker_id"], slots=slots)


def _arqs_loop() -> asyncio.Task[Any]:
    """The task of arq's main loop, which runs startup()."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("startup() runs in arq's loop")
    return task


async def _check_installation(db: Pool, settings: PluggySettings, postgres: ServerOutage) -> None:
    """Wait until Postgres answers.

    Exits if it refuses the login, is not migrated, is migrated by another baseline, or mirrors
    another application.
    """
    while True:
        try:
            await check_baseline(db)
            await check_installation(db, settings.pluggy_client_id, settings.pluggy_base_url)
            await remember_settings(
                db,
                settings.posted_on_zone,
                settings.pluggy_requests_per_minute,
                keep_ended=bool(settings.keep_ended),
            )
        except POSTGRES_REFUSES_US as error:
            raise SystemExit(f"pluggy-sync: {why_refused(error)}") from None
        except POSTGRES_AWAY as error:
            postgres.failed(error)
            await asyncio.sleep(POSTGRES_PAUSE_S)
        except (ForeignInstallation, UnreleasedDatabase) as error:
            raise SystemExit(f"pluggy-sync: {error}") from None
        except asyncpg.PostgresError as error:
            advice = why_refused(error) or f"Postgres refuses: {error.sqlstate}"
            raise SystemExit(f"pluggy-sync: {advice}") from None
        else:
            return


def _start_heartbeat(postgres: ServerOutage) -> Heartbeat:
    """Heartbeat of a worker that waits for Postgres: its last try."""
    began = time.monotonic()
    return Heartbeat("start", TICK_TIMEOUT_S, lambda: max(began, postgres.failed_at))


def _heartbeats(sweep: Sweep, queue: QueueClient, periodic_tasks: PeriodicTasks) -> list[Heartbeat]:
    """Heartbeats of a worker that has started."""
    return [
        sweep_heartbeat(sweep),
        Heartbeat("queue", QUEUE_READ_TIMEOUT_S, lambda: queue.read_at),
        Heartbeat("periodic_tasks", PERIODIC_TASKS_TIMEOUT_S, lambda: periodic_tasks.ticked_at),
    ]


def _periodic_tasks(
    db: Pool, redis: Redis, client: PluggyClient, settings: PluggySettings
) -> list[PeriodicTask]:
    """Periodic tasks of a worker, beside the sync of items."""
    keep = timedelta(days=settings.retention_days)
    listed = ItemsList(db, client, adopts=bool(settings.adopt_unknown_items))
    purger = Purger(db, client, after=timedelta(days=settings.purge_after_days))
    return [
        PeriodicTask("spool", 1.0, partial(_drain, db, Spool(redis))),
        PeriodicTask(
            "redis settings", 60.0, partial(record_redis_settings, db, RedisSafety(redis))
        ),
        PeriodicTask("reference_data", 5.0, partial(refresh_reference_data, db, client)),
        PeriodicTask("reconciliations", 5.0, partial(run_reconciliations, db)),
        PeriodicTask("items list", 5.0, listed.compare),
        PeriodicTask("stalled copies", 5.0, partial(end_stalled_copies, db)),
        PeriodicTask("first lists", 2.0, partial(order_confirmations, db)),
        *_watch(db, client, settings),
        PeriodicTask("purge", 60.0, purger.purge),
        PeriodicTask("restatements", 30.0, partial(link_restatements, db)),
        PeriodicTask("reconnections", 30.0, partial(link_reconnections, db)),
        PeriodicTask("retention", 60.0, partial(delete_expired, db, keep)),
    ]


async def _drain(db: Pool, spool: Spool) -> bool:
    """Drain one batch of the spool; the sweep wakes workers for it. Returns whether more waits."""
    return (await drain(db, spool)).entries > 0


def _watch(db: Pool, client: PluggyClient, settings: PluggySettings) -> list[PeriodicTask]:
    """The subscription watch, if settings name the expected subscription."""
    expected = Expected.of(settings)
    if expected is None:
        return []
    return [PeriodicTask("subscriptions", 20.0, partial(watch_subscriptions, db, client, expected))]


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close everything that startup opened, in reverse order."""
    if "health" not in ctx:
        return
    await ctx["health"].cleanup()
    await end(*ctx["background"])
    await ctx["polled"].stop()
    # Retention deletes the row after a day; where Postgres refuses the login there is none.
    with contextlib.suppress(*POSTGRES_AWAY, asyncpg.PostgresError):
        async with connection_within(ctx["db"], REMOVE_TIMEOUT_S) as conn:
            await remove_worker(conn, worker_id=ctx["worker_id"])
    await ctx["client"].__aexit__(None, None, None)
    await ctx["redis_client"].aclose()
    await close_pool(ctx["db"])
    log.info("worker_stopped", worker_id=ctx["worker_id"])


def worker_settings(settings: PluggySettings) -> type:
    """Build arq's settings class from the environment."""
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    queue = queue_client(settings.redis_url.get_secret_value(), ServerOutage("redis"))
    return type(
        "WorkerSettings",
        (),
        {
            "functions": [func(sync_item, name=SYNC_ITEM)],
            "on_startup": startup,
            "on_shutdown": shutdown,
            "ctx": {"settings": settings, "worker_id": worker_id},
            "redis_pool": queue,
            "queue_name": QUEUE_NAME,
            "max_jobs": settings.worker_slots,
            "job_timeout": JOB_TIMEOUT_S,
            "job_completion_wait": COMPLETION_WAIT_S,
            "keep_result": 0,
            # arq never retries a job: due items stay due in Postgres.
            "retry_jobs": False,
            "max_tries": 1_000_000,
            "poll_delay": POLL_DELAY_S,
            "health_check_interval": 15,
            "health_check_key": f"{PREFIX}health:{worker_id}",
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
