"""What workers do beside the items that they are rung for: one chore after the other, each on its
own schedule, and apart from the sweep, so that a slow one never delays a ring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError, ResponseError

from worker.infra.outage_log import ServerOutage
from worker.infra.postgres import POSTGRES_AWAY, POSTGRES_NOT_MIGRATED

log = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0


@dataclass(slots=True)
class Chore:
    """Work in bounded portions, safe on all workers at once; it says whether there is more.

    due_at and refused are of this process: when it looks again, and whether Redis refused the last
    look.
    """

    name: str
    every_s: float
    work: Callable[[], Awaitable[bool]]
    due_at: float = 0.0
    refused: bool = False


@dataclass(slots=True)
class Chores:
    """A background task of every worker."""

    chores: Sequence[Chore]
    postgres: ServerOutage = field(default_factory=partial(ServerOutage, "postgres"))
    ticked_at: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            for chore in self.chores:
                if chore.due_at <= time.monotonic():
                    await self._do(chore)
            self.ticked_at = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _do(self, chore: Chore) -> None:
        more = False
        try:
            more = await chore.work()
            chore.refused = False
        except (*POSTGRES_AWAY, *POSTGRES_NOT_MIGRATED) as error:
            self.postgres.failed(error)
        except RedisError as error:
            # That Redis is away its client has told; a refusal is told once.
            if isinstance(error, ResponseError) and not chore.refused:
                log.warning("chore_failed", chore=chore.name, error=type(error).__name__)
                chore.refused = True
        except Exception:
            log.exception("chore_crashed", chore=chore.name)
        chore.due_at = time.monotonic() + (0.0 if more else chore.every_s)
