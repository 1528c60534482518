"""`pluggy-sync items show`: what is stored of an item, its progress, or the rows of one product."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from ops.cli import console
from ops.cli.terminal_text import counted, neutral_json
from worker.infra.sql_files import PRODUCTS

if TYPE_CHECKING:
    from worker.infra.postgres import Pool

OPEN_EVENTS_SHOWN: Final = 50
POLL_INTERVAL_S: Final = 1.0
ROWS_AT_ONCE: Final = 1000
FIRST: Final = uuid.UUID(int=0)
NOT_KNOWN: Final = "nothing is known of item {}; register it first"
TABLES: Final = ("rows", "freshness", "walks", "open_events", "dead_letters")


@click.command("show")
@click.argument("item_id", type=click.UUID, metavar="ID")
@click.option("--wait", is_flag=True, help="Show the progress until everything is read.")
@click.option("--timeout", type=click.IntRange(0), default=600, help="Seconds to wait with --wait.")
@click.option("--product", type=click.Choice(PRODUCTS), help="Print the rows of this product.")
@console.json_option
def show(item_id: uuid.UUID, wait: bool, timeout: int, product: str | None, as_json: bool) -> None:
    """Show how many rows of an item are stored, their freshness and the open work.

    With --product its rows, which are personal data: one JSON object a line, or one document with
    --json. With --wait exit status 1 if a product is not fresh in the end.
    """
    if wait:
        console.call(_wait, item_id=item_id, timeout_s=timeout)
    if product is not None:
        console.call(_print_product, item_id=item_id, product=product, as_json=as_json)
        return
    shown = console.call(_load, item_id=item_id)
    if as_json:
        console.print_json(shown)
    else:
        console.print_fields(shown["item"])
        for title in TABLES:
            console.print_rows(title.replace("_", " "), shown[title])
    if wait and (late := [f"{row['product']} {row['reason']}" for row in _not_fresh(shown)]):
        raise console.CommandFailed(f"not fresh: {', '.join(sorted(set(late)))}")


def _not_fresh(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in shown["freshness"] if row["state"] != "fresh"]


async def _load(db: Pool, item_id: uuid.UUID) -> dict[str, Any]:
    import msgspec

    from worker.store import operating

    item = await operating.show_item(db, item_id)
    if item is None:
        raise console.CommandFailed(NOT_KNOWN.format(item_id))
    return {
        "item": msgspec.structs.asdict(item) | {"webhook_url": await _webhook(db, item_id)},
        "rows": console.as_rows(await operating.count_item_rows(db, item_id)),
        "freshness": console.as_rows(await operating.item_freshness(db, item_id)),
        "walks": console.as_rows(await operating.item_walks(db, item_id)),
        "open_events": console.as_rows(
            await operating.item_open_events(db, item_id, limit=OPEN_EVENTS_SHOWN)
        ),
        "dead_letters": console.as_rows(
            await operating.list_dead_letters(
                db, ids=None, reason=None, item_id=item_id, connector_id=None, limit=None
            )
        ),
    }


async def _webhook(db: Pool, item_id: uuid.UUID) -> str | None:
    """The item's own webhookUrl without its secret; None: it has none, or this role may not see."""
    import asyncpg

    from worker.store import operating

    try:
        url = await operating.load_item_webhook(db, item_id)
    except asyncpg.InsufficientPrivilegeError:
        return None
    if not url:
        return None
    from worker.maintenance.subscriptions import shown_url

    return shown_url(url, whole_path=True)


async def _wait(db: Pool, item_id: uuid.UUID, timeout_s: float) -> None:
    """Say how far the item is until nothing of it is open. Raises CommandFailed at the time-out."""
    import asyncio

    clock = asyncio.get_running_loop().time
    begun, said = clock(), ""
    while line := _progress(await _load(db, item_id), clock() - begun):
        if line != said:
            click.echo(line, err=True)
            said = line
        if clock() - begun > timeout_s:
            raise console.CommandFailed(f"still under way after {timeout_s:.0f} s: {line}")
        await asyncio.sleep(POLL_INTERVAL_S)


def _progress(shown: dict[str, Any], elapsed_s: float) -> str:
    """Progress in one line; empty: nothing is open, or only what waits for later."""
    states = [row["state"] for row in shown["freshness"]]
    unread = sum(state in ("unread", "walking") for state in states)
    item = shown["item"]
    is_due = item["run_at"] is not None and item["run_at"] <= datetime.now(UTC)
    if not (is_due or item["is_running"] or unread or _has_new_events(item)):
        return ""
    done = len(states) - unread
    rows = counted(_rows(shown), "row", "rows")
    parts = [f"{done} of {len(states) or '?'} lists read", f"{rows} stored"]
    if pages := sum(walk["pages"] for walk in shown["walks"]):
        parts.append(counted(pages, "page", "pages") + " of running reads")
    if done and unread and elapsed_s > 1:
        parts.append(f"about {elapsed_s / done * unread:.0f} s left")
    if not item["is_running"]:
        parts.append("waits for a worker")
    return ", ".join(parts)


def _has_new_events(item: dict[str, Any]) -> bool:
    return bool((item["generation"] or 0) > (item["done_generation"] or 0))


def _rows(shown: dict[str, Any]) -> int:
    return sum(row["live"] for row in shown["rows"])


async def _print_product(db: Pool, item_id: uuid.UUID, product: str, *, as_json: bool) -> None:
    """Rows as pluggy_live has them, without loading all of them at once. Raises CommandFailed."""
    from worker.store import operating

    if await operating.show_item(db, item_id) is None:
        raise console.CommandFailed(NOT_KNOWN.format(item_id))
    before, between, after = (f'{{"{product}":[', ",", "]}\n") if as_json else ("", "\n", "\n")
    click.echo(before, nl=False)
    first = True
    async for row in _product_rows(db, item_id, product):
        click.echo(("" if first else between) + neutral_json(row), nl=False)
        first = False
    click.echo("" if first and not as_json else after, nl=False)


async def _product_rows(db: Pool, item_id: uuid.UUID, product: str) -> AsyncIterator[str]:
    column = "id" if product == "items" else "item_id"
    # Names of our own constants; values go as parameters.
    query = (
        f"SELECT v.id, row_to_json(v)::text AS row FROM pluggy_live.{product} v"  # noqa: S608
        f" WHERE v.{column} = $1 AND v.id > $2 ORDER BY v.id LIMIT $3"
    )
    after = FIRST
    while found := await db.fetch(query, item_id, after, ROWS_AT_ONCE):
        for record in found:
            yield record["row"]
        after = found[-1]["id"]
