"""`pluggy-sync items list` and `export`: the items that are mirrored, and how fresh they are."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import click

from ops.cli import console

if TYPE_CHECKING:
    from worker.infra.postgres import Pool

STATES: Final = ("fresh", "stale", "incomplete", "unread", "walking")
PARTIES: Final = ("us", "pluggy", "bank", "user")
FIRST: Final = uuid.UUID(int=0)
GROUP: Final = 1000

user_option = click.option("--user", "client_user_id", help="Of this clientUserId only.")


@click.command("list")
@user_option
@console.connector_option
@click.option("--state", type=click.Choice(STATES), help="In this state only.")
@click.option("--stale", is_flag=True, help="Only what is not fresh, whatever the reason.")
@click.option("--blocked-on", type=click.Choice(PARTIES), help="Only what waits for this party.")
@console.limit_option
@console.json_option
def list_(as_json: bool, **chosen: Any) -> None:
    """List items with the worst state of their products, its reason, and who has to act."""
    from worker.store import operating

    found = console.load_rows(operating.list_items, **chosen)
    console.print_list("items", found, as_json=as_json)


@click.command("export")
@user_option
@console.connector_option
@console.json_option
def export(client_user_id: str | None, connector_id: int | None, as_json: bool) -> None:
    """Print the ids of mirrored items, as `items import` reads them: CSV, or JSON with --json."""
    ids = console.call(_ids, client_user_id=client_user_id, connector_id=connector_id)
    if as_json:
        console.print_json({"items": [{"itemId": item_id} for item_id in ids]})
        return
    click.echo("\n".join(["itemId", *map(str, ids)]))


async def _ids(db: Pool, **chosen: Any) -> list[uuid.UUID]:
    return [item_id async for item_id in _each(db, chosen)]


async def _each(db: Pool, chosen: dict[str, Any]) -> AsyncIterator[uuid.UUID]:
    from worker.store import resync as resync_store

    after = FIRST
    while found := await resync_store.mirrored_items(db, after=after, limit=GROUP, **chosen):
        for after in found:
            yield after
