"""`pluggy-sync dead-letters`: list the events that were given up on, and requeue them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

import click

from ops.cli.console import (
    CONNECTOR_ID,
    LIMIT,
    ROW_ID,
    CommandFailed,
    as_rows,
    database,
    json_option,
    print_json,
    print_rows,
    run,
)
from ops.cli.wakeup import wake
from worker.infra.settings import Environment, load
from worker.store import operating

LISTED: Final = 100
FOR_PEOPLE: Final = ("id", "event", "item_id", "reason", "error_id", "attempts", "died_at")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters; None: whichever."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None
    item_id: uuid.UUID | None = None
    connector: int | None = None


@click.group("dead-letters")
def dead_letters() -> None:
    """Events that were given up on."""


@dead_letters.command("list")
@click.option("--item", "item_id", type=click.UUID, help="Of this item only.")
@click.option("--reason", help="With this reason only.")
@click.option("--connector", type=CONNECTOR_ID, help="Of items of this connector only.")
@click.option("--limit", type=LIMIT, default=LISTED, help="At most so many.")
@json_option
def list_(
    item_id: uuid.UUID | None,
    reason: str | None,
    connector: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """What died, of what, and when; oldest first."""
    found = run(_list(Choice(None, reason, item_id, connector), limit))
    if as_json:
        print_json({"dead_letters": found})
    else:
        print_rows("dead letters", [{name: row[name] for name in FOR_PEOPLE} for row in found])


@dead_letters.command("requeue")
@click.argument("ids", nargs=-1, type=ROW_ID, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--reason", help="Those with this reason.")
@click.option("--item", "item_id", type=click.UUID, help="Those of this item.")
@click.option("--connector", type=CONNECTOR_ID, help="Those of items of this connector.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@json_option
def requeue(
    ids: tuple[int, ...],
    everything: bool,
    reason: str | None,
    item_id: uuid.UUID | None,
    connector: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send dead letters back to work: by id, all, or those of a reason, an item or a connector.

    Reason, item and connector narrow each other down.
    """
    narrowed = any(value is not None for value in (reason, item_id, connector))
    if bool(ids) + everything + narrowed != 1:
        raise click.UsageError("name ids; or --all; or --reason, --item, --connector")
    choice = Choice(ids or None, reason, item_id, connector)
    found = run(_list(choice, None)) if dry_run else run(_requeue(choice))
    shown = [{key: row[key] for key in ("id", "event", "item_id", "account_id")} for row in found]
    unknown = sorted(set(ids) - {row["id"] for row in found})
    if as_json:
        print_json({"dry_run": dry_run, "requeued": shown, "not_dead": unknown})
    else:
        print_rows("would be requeued" if dry_run else "requeued", shown)
    if unknown:
        raise CommandFailed(f"no dead letters: {', '.join(map(str, unknown))}")


async def _list(choice: Choice, limit: int | None) -> list[dict[str, Any]]:
    async with database(load(Environment)) as db:
        found = await operating.list_dead_letters(
            db,
            ids=choice.ids,
            reason=choice.reason,
            item_id=choice.item_id,
            connector_id=choice.connector,
            limit=limit,
        )
    return as_rows(found)


async def _requeue(choice: Choice) -> list[dict[str, Any]]:
    settings = load(Environment)
    async with database(settings) as db:
        found = await operating.requeue_dead_letters(
            db,
            ids=choice.ids,
            reason=choice.reason,
            item_id=choice.item_id,
            connector_id=choice.connector,
        )
    due = {row.item_id for row in found if row.item_id is not None and row.made_due}
    await wake(settings, sorted(due))
    return as_rows(found)
