"""`pluggy-sync items delete`: erase an item at Pluggy and here, at once."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from ops.cli.console import json_option, print_json, run, say
from ops.cli.pluggy import pluggy
from ops.cli.wakeup import wake
from worker.infra.lanes import Lane
from worker.pluggy_api.errors import ITEM_NOT_FOUND, PluggyError, PluggyNotFound, classify

if TYPE_CHECKING:
    from worker.infra.postgres import Pool
    from worker.pluggy_api.client import PluggyClient

POLL_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was done about an item. receipt: of pluggy_sync.purge_receipts; None: not purged yet."""

    item_id: uuid.UUID
    deleted_at_pluggy: bool
    stored: bool
    receipt: int | None = None


@click.command("delete")
@click.argument("item_id", type=click.UUID, metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", default=90, type=click.IntRange(0), help="Seconds to wait for the purge.")
@json_option
def delete(item_id: uuid.UUID, yes: bool, wait: int, as_json: bool) -> None:
    """Erase an item: delete it at Pluggy if it is there, and purge all that is stored of it.

    Also for an item that Pluggy has deleted already, above all one that is kept as ended. A worker
    purges it as soon as Pluggy has answered 404 once more, whatever PURGE_AFTER_DAYS says.
    """
    if not yes:
        click.confirm(
            f"Delete item {item_id} at Pluggy and everything stored of it, for good?", abort=True
        )
    done = run(_delete(item_id, wait))
    if as_json:
        print_json(asdict(done))
    else:
        say(_summary(done))


def _summary(done: Erasure) -> str:
    pluggys = "deleted at Pluggy" if done.deleted_at_pluggy else "Pluggy did not have it"
    if not done.stored:
        return f"item {done.item_id}: {pluggys}; nothing is stored of it"
    if done.receipt is None:
        return f"item {done.item_id}: {pluggys}; a worker purges it, see: pluggy-sync worklist"
    return f"item {done.item_id}: {pluggys}; purged, receipt {done.receipt}"


async def _delete(item_id: uuid.UUID, wait_s: float) -> Erasure:
    from worker.infra.settings import PluggySettings, load

    settings = load(PluggySettings)
    async with pluggy(settings, _explain) as (db, client):
        done = await order_erasure(db, client, item_id)
        await wake(settings, [item_id])
        if not done.stored:
            return done
        receipt = await _await_receipt(db, item_id, wait_s)
        return Erasure(item_id, done.deleted_at_pluggy, stored=True, receipt=receipt)


async def order_erasure(db: Pool, client: PluggyClient, item_id: uuid.UUID) -> Erasure:
    """Delete the item at Pluggy, then order its purge. Raises PluggyError before the order."""
    from worker.inbox.accept import accept_events
    from worker.inbox.events import parse_webhook
    from worker.store import operating

    deleted = await _delete_at_pluggy(client, item_id)
    stored = await operating.order_erasure(db, item_id=item_id)
    # Also where nothing is stored but events, such as dead ones of a typo: a worker settles them.
    if stored or await operating.show_item(db, item_id) is not None:
        # As the webhook does it: a worker reads the item, and only a 404 makes it a tombstone.
        body = json.dumps({"event": "item/deleted", "itemId": str(item_id)}).encode()
        await accept_events(db, [parse_webhook(body, datetime.now(UTC))])
    return Erasure(item_id, deleted, stored=stored)


async def _delete_at_pluggy(client: PluggyClient, item_id: uuid.UUID) -> bool:
    """Whether Pluggy had the item. https://docs.pluggy.ai/reference/items-delete"""
    from worker.pluggy_api.http import Change

    try:
        await client.call(
            f"/items/{item_id}", lane=Lane.LIVE, count=lambda: None, change=Change("DELETE", {})
        )
    except PluggyNotFound as error:
        if error.code != ITEM_NOT_FOUND:
            raise
        return False
    return True


async def _await_receipt(db: Pool, item_id: uuid.UUID, wait_s: float) -> int | None:
    import asyncio

    from worker.store import operating

    clock = asyncio.get_running_loop().time
    until = clock() + wait_s
    while (receipt := await operating.load_receipt(db, item_id=item_id)) is None:
        if clock() > until:
            return None
        await asyncio.sleep(POLL_INTERVAL_S)
    return receipt


def _explain(error: PluggyError) -> str:
    return f"nothing was deleted here: the request to Pluggy failed ({classify(error).code})"
