"""The schedule of a worker's periodic tasks, run one after the other, each at its own interval.

They run apart from the sweep, so that a slow task delays no wake-up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError, ResponseError

from worker.infra.outage_log import Failing, ServerOutage
from worker.infra.postgres import POSTGRES_AWAY, POSTGRES_NOT_MIGRATED

log = structlog.get_logger()

POLL_INTERVAL_S: Final = 1.0


@dataclass(slots=True)
class PeriodicTask:
    """Work in bounded portions, safe on all workers at once; it returns whether there is more.

    due_at is of this process: the time of its next run.
    """

    name: str
    every_s: float
    work: Callable[[], Awaitable[bool]]
    due_at: float = 0.0
    failing: Failing = field(default_factory=Failing)


@dataclass(slots=True)
class PeriodicTasks:
    """A background task of every worker."""

    periodic_tasks: Sequence[PeriodicTask]
    postgres: ServerOutage = field(default_factory=partial(ServerOutage, "postgres"))
    ticked_at: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Run all tasks when they are due, until cancelled."""
        while True:
            for periodic_task in self.periodic_tasks:
                if periodic_task.due_at <= time.monotonic():
                    await self._do(periodic_task)
            self.ticked_at = time.monotonic()
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _do(self, periodic_task: PeriodicTask) -> None:
        more = False
        try:
            more = await periodic_task.work()
            periodic_task.failing.succeeded()
        except (*POSTGRES_AWAY, *POSTGRES_NOT_MIGRATED) as error:
            self.postgres.failed(error)
        except RedisError as error:
            # An outage is logged by the client of Redis; a refusal is logged here, once.
            if isinstance(error, ResponseError) and periodic_task.failing.is_new("refused"):
                log.warning(
                    "periodic_task_failed",
                    periodic_task=periodic_task.name,
                    error=type(error).__name__,
                )
        except Exception:
            log.exception("periodic_task_crashed", periodic_task=periodic_task.name)
        periodic_task.due_at = time.monotonic() + (0.0 if more else periodic_task.every_s)
