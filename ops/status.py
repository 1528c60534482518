"""`pluggy-sync status`: is anything wrong, what waits, and how far behind is it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from redis.exceptions import RedisError

from ops.console import database, json_option, print_fields, print_json, print_rows, run
from worker.queries import QUERIES
from worker.queue import connect
from worker.settings import Environment, load
from worker.spool import Figures, Spool


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Is anything wrong, what waits, and how far behind is it."""
    spool = run(_load_spool())
    # First: when Postgres is away, it is all that can be told.
    if spool and spool.entries and not as_json:
        print_rows("spooled in Redis until Postgres takes it", [asdict(spool)])
    found = run(_load())
    if spool is None:
        warning = "Redis does not answer at REDIS_URL; workers take what is due from Postgres"
        click.echo(f"pluggy-sync: warning: {warning}, more slowly", err=True)
    if as_json:
        print_json(found | {"spool": spool})
        return
    print_fields(found["overview"])
    print_rows("backlog", found["backlog"])
    print_rows("from webhook to row, last hour", found["lag"])


async def _load_spool() -> Figures | None:
    """None if Redis does not answer."""
    redis = connect(load(Environment).redis_url.get_secret_value())
    try:
        return await Spool(redis).figures()
    except (RedisError, OSError):
        return None
    finally:
        await redis.aclose()


async def _load() -> dict[str, Any]:
    async with database(load(Environment)) as db:
        overview = await db.fetchrow(QUERIES["overview"])
        return {
            "overview": dict(overview) if overview else {},
            "backlog": [dict(record) for record in await db.fetch(QUERIES["backlog"])],
            "lag": [dict(record) for record in await db.fetch(QUERIES["lag"])],
        }
