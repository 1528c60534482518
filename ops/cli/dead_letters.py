"""`pluggy-sync dead-letters`: list the events that were given up on, and requeue them."""

from __future__ import annotations

from typing import Any, Final

import click

from ops.cli import console
from ops.cli.wakeup import wake

COLUMNS: Final = ("id", "event", "item_id", "reason", "error_id", "attempts", "died_at")
REQUEUED: Final = ("id", "event", "item_id", "account_id")


@click.group("dead-letters")
def dead_letters() -> None:
    """Events that were given up on."""


@dead_letters.command("list")
@console.item_option
@console.reason_option
@console.connector_option
@console.limit_option
@console.json_option
def list_(as_json: bool, **chosen: Any) -> None:
    """List dead letters with their reason and time; oldest first."""
    from worker.store import operating

    found = console.load_rows(operating.list_dead_letters, ids=None, **chosen)
    console.print_list("dead_letters", found, as_json=as_json, columns=COLUMNS)


@dead_letters.command("requeue")
@click.argument("ids", nargs=-1, type=console.ROW_ID, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@console.reason_option
@console.item_option
@console.connector_option
@click.option("--dry-run", is_flag=True, help="Only list what would be requeued.")
@console.json_option
def requeue(
    ids: tuple[int, ...], everything: bool, dry_run: bool, as_json: bool, **narrowed: Any
) -> None:
    """Send dead letters back to work: by id, all, or those of a reason, an item or a connector.

    Reason, item and connector can be combined.
    """
    is_narrowed = any(value is not None for value in narrowed.values())
    if bool(ids) + everything + is_narrowed != 1:
        raise click.UsageError("name ids; or --all; or --reason, --item, --connector")
    chosen: dict[str, Any] = {"ids": ids or None, **narrowed}
    if dry_run:
        from worker.store import operating

        found = console.load_rows(operating.list_dead_letters, limit=None, **chosen)
    else:
        found = console.run(_requeue(chosen))
    shown = [{column: row[column] for column in REQUEUED} for row in found]
    unknown = sorted(set(ids) - {row["id"] for row in found})
    if as_json:
        console.print_json({"dry_run": dry_run, "requeued": shown, "not_dead": unknown})
    elif shown or not unknown:
        console.print_rows("would be requeued" if dry_run else "requeued", shown)
    if unknown:
        raise console.CommandFailed(f"no dead letters: {', '.join(map(str, unknown))}")


async def _requeue(chosen: dict[str, Any]) -> list[dict[str, Any]]:
    from worker.infra.settings import Environment, load
    from worker.store import operating

    settings = load(Environment)
    async with console.database(settings) as db:
        found = await operating.requeue_dead_letters(db, **chosen)
    due = {row.item_id for row in found if row.item_id is not None and row.made_due}
    await wake(settings, sorted(due))
    return console.as_rows(found)
