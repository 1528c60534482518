"""`pluggy-sync verify`: read items again from beginning to end now, and show what differed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import click

from ops.cli import console
from ops.cli.pluggy import UNKNOWN_TO_PLUGGY, unknown_at_pluggy
from ops.cli.terminal_text import counted
from ops.cli.wakeup import wake

if TYPE_CHECKING:
    from worker.infra.postgres import Pool

POLL_INTERVAL_S: Final = 1.0
OPEN: Final = ("pending", "walking")


@click.command("verify")
@click.argument("item_ids", nargs=-1, required=True, type=click.UUID, metavar="ID...")
@click.option(
    "--timeout", type=click.IntRange(0), default=600, help="Seconds to wait for the reads."
)
@console.json_option
def verify(item_ids: tuple[uuid.UUID, ...], timeout: int, as_json: bool) -> None:
    """Read items again from beginning to end at once, and show what differed from Pluggy.

    Differences are repaired by the read. Exit status 1 if an item could not be read in time. Many
    items are verified behind all other work by `resync`.
    """
    done = console.run(_verify(tuple(dict.fromkeys(item_ids)), timeout))
    if as_json:
        console.print_json(done)
    else:
        console.print_rows("verified", done["items"])
        console.print_rows("differences, repaired", done["drift"])
    if late := [str(row["item_id"]) for row in done["items"] if row["state"] != "applied"]:
        raise console.CommandFailed(f"not verified: {', '.join(late)}; see: items show")


async def _verify(item_ids: tuple[uuid.UUID, ...], timeout_s: float) -> dict[str, Any]:
    import secrets
    from datetime import UTC, datetime

    from worker.infra.lanes import Lane
    from worker.infra.settings import Environment, load
    from worker.maintenance.reconciliation import event_id_of, order_verify
    from worker.store import operating

    settings = load(Environment)
    async with console.database(settings) as db:
        stored = set(await operating.known_items(db, item_ids=item_ids))
        if unknown := await unknown_at_pluggy(i for i in item_ids if i not in stored):
            names = ", ".join(sorted(map(str, unknown)))
            raise console.CommandFailed(f"{UNKNOWN_TO_PLUGGY}: {names}; nothing is ordered")
        since = await operating.database_time(db)
        order_id = f"verify:{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        await order_verify(db, item_ids, order_id=order_id, lane=Lane.LIVE)
        await wake(settings, item_ids)
        events = [event_id_of(order_id, item_id) for item_id in item_ids]
        states = await _await_states(db, events, timeout_s)
        drift = await operating.drift_of_items(db, item_ids=item_ids, since=since)
        found = [{"item_id": i, "state": states.get(i)} for i in item_ids]
        return {"items": found, "drift": console.as_rows(drift)}


async def _await_states(
    db: Pool, event_ids: list[str], timeout_s: float
) -> dict[uuid.UUID | None, str]:
    """State of each item's order, once none is open or the time is over."""
    import asyncio

    from worker.store.resync import load_resynced

    clock = asyncio.get_running_loop().time
    until, said = clock() + timeout_s, -1
    while True:
        states = {row.item_id: row.state for row in await load_resynced(db, event_ids=event_ids)}
        still = sum(state in OPEN for state in states.values())
        if still != said:
            ordered = counted(len(states), "item", "items")
            click.echo(f"{len(states) - still} of {ordered} verified", err=True)
            said = still
        if not still or clock() > until:
            return states
        await asyncio.sleep(POLL_INTERVAL_S)
