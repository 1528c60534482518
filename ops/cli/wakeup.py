"""Wake-ups after a command; if Redis fails, the workers' sweep finds the stored events."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worker.infra.settings import Environment


async def wake(settings: Environment, item_ids: Sequence[uuid.UUID]) -> None:
    """Wake workers for items that are due now; warns if Redis is away."""
    if not item_ids:
        return
    from redis.exceptions import RedisError

    from worker.infra.redis_client import connect
    from worker.wakeup.queue import ArqWaker

    redis = connect(settings.redis_url.get_secret_value())
    try:
        await ArqWaker(redis).wake(item_ids)
    except (RedisError, OSError) as error:
        click.echo(
            f"pluggy-sync: warning: Redis does not answer ({type(error).__name__});"
            " the events are stored, and the sweep of the workers finds them",
            err=True,
        )
    finally:
        await redis.aclose()
