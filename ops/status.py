"""`pluggy-sync status`: is anything wrong, what waits, and how far behind is it."""

from __future__ import annotations

from typing import Any

import click

from ops.console import database, json_option, print_fields, print_json, print_rows, run
from worker.queries import QUERIES
from worker.settings import Environment, load


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Is anything wrong, what waits, and how far behind is it."""
    found = run(_load())
    if as_json:
        print_json(found)
        return
    print_fields(found["overview"])
    print_rows("backlog", found["backlog"])
    print_rows("from webhook to row, last hour", found["lag"])


async def _load() -> dict[str, Any]:
    async with database(load(Environment)) as db:
        overview = await db.fetchrow(QUERIES["overview"])
        return {
            "overview": dict(overview) if overview else {},
            "backlog": [dict(record) for record in await db.fetch(QUERIES["backlog"])],
            "lag": [dict(record) for record in await db.fetch(QUERIES["lag"])],
        }
