"""`pluggy-sync deletions`: list deletions that are not proven, and accept or refuse them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import click

from ops.cli import console

Decide = Callable[..., Awaitable[list[Any]]]

waiting_option = click.option(
    "--item", "item_id", type=click.UUID, help="All pending deletions of this item."
)


@click.group("deletions")
def deletions() -> None:
    """Rows that Pluggy no longer returns and whose deletion is not proven: pending deletions.

    Rows with the reason `no_witness` are asked for again automatically; `too_many_at_once` and
    `last_account` wait for a decision. The id of an account stands for it and all it owns.
    """


@deletions.command("list")
@console.item_option
@console.limit_option
@console.json_option
def list_(as_json: bool, **chosen: Any) -> None:
    """List pending deletions and the reason of each; oldest first."""
    from worker.store.deletions import list_deletions

    found = console.load_rows(list_deletions, **chosen)
    console.print_list("deletions", found, as_json=as_json, title="pending deletions")


@deletions.command("accept")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@waiting_option
@console.json_option
def accept(ids: tuple[uuid.UUID, ...], item_id: uuid.UUID | None, as_json: bool) -> None:
    """Tombstone these rows; rows that Pluggy has returned since are left alone."""
    from worker.maintenance.deletion_review import accept_deletions

    _decide(accept_deletions, "tombstoned", ids, item_id, as_json=as_json)


@deletions.command("refuse")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@waiting_option
@console.json_option
def refuse(ids: tuple[uuid.UUID, ...], item_id: uuid.UUID | None, as_json: bool) -> None:
    """Keep these rows; they do not wait again until Pluggy has returned them once."""
    from worker.maintenance.deletion_review import refuse_deletions

    _decide(refuse_deletions, "kept", ids, item_id, as_json=as_json)


def _decide(
    decide: Decide,
    word: str,
    ids: tuple[uuid.UUID, ...],
    item_id: uuid.UUID | None,
    *,
    as_json: bool,
) -> None:
    if not ids and item_id is None:
        raise click.UsageError("name transactions, or --item")
    decided = console.call(decide, item_id=item_id, transaction_ids=ids or None)
    rows: list[dict[str, Any]] = [
        {"item_id": of_item.item_id, name: row_id, "run_id": of_item.run_id}
        for name in ("transaction_id", "account_id")
        for of_item in decided
        for row_id in getattr(of_item, f"{name}s")
    ]
    done = {row_id for d in decided for row_id in (*d.transaction_ids, *d.account_ids)}
    others = sorted(set(ids) - done)
    if as_json:
        console.print_json({word: rows, "not_pending": others})
    elif rows or not others:
        console.print_rows(word, rows)
    if others:
        raise console.CommandFailed(f"no pending deletion: {', '.join(map(str, others))}")
