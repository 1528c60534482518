"""`pluggy-sync flags`: list rows flagged as deleted, and accept or refuse their deletion."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import click

from ops.cli.console import (
    LIMIT,
    CommandFailed,
    as_rows,
    database,
    json_option,
    print_json,
    print_rows,
    run,
)
from worker.infra.settings import Environment, load
from worker.maintenance.deletion_review import (
    Decided,
    accept_deletions,
    list_deletions,
    refuse_deletions,
)

LISTED: Final = 100
Decide = Callable[..., Awaitable[list[Decided]]]


@click.group("flags")
def flags() -> None:
    """Rows that Pluggy no longer shows, where that proves too little to tombstone them.

    `no_witness` is asked again by itself; `too_many_at_once` and `last_account` wait for a
    decision. The id of an account stands for it and all it owns.
    """


@flags.command("list")
@click.option("--item", "item_id", type=click.UUID, help="Of this item only.")
@click.option("--limit", type=LIMIT, default=LISTED, help="At most so many.")
@json_option
def list_(item_id: uuid.UUID | None, limit: int, as_json: bool) -> None:
    """What is flagged, and why; oldest first."""
    found = run(_list(item_id, limit))
    if as_json:
        print_json({"flagged": found})
    else:
        print_rows("flagged rows", found)


@flags.command("accept")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option("--item", "item_id", type=click.UUID, help="All that are flagged of this item.")
@json_option
def accept(ids: tuple[uuid.UUID, ...], item_id: uuid.UUID | None, as_json: bool) -> None:
    """Tombstone flagged rows: they are gone at the bank. What was shown since is left alone."""
    _decide(accept_deletions, "tombstoned", ids, item_id, as_json=as_json)


@flags.command("refuse")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option("--item", "item_id", type=click.UUID, help="All that are flagged of this item.")
@json_option
def refuse(ids: tuple[uuid.UUID, ...], item_id: uuid.UUID | None, as_json: bool) -> None:
    """Keep flagged rows: their absence counts for nothing until Pluggy has shown them again."""
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
    decided = run(_run(decide, ids, item_id))
    rows = [
        {"item_id": d.item_id, "transaction_id": i, "run_id": d.run_id}
        for d in decided
        for i in d.transaction_ids
    ]
    rows += [
        {"item_id": d.item_id, "account_id": i, "run_id": d.run_id}
        for d in decided
        for i in d.account_ids
    ]
    done = {i for d in decided for i in (*d.transaction_ids, *d.account_ids)}
    others = sorted(set(ids) - done)
    if as_json:
        print_json({word: rows, "not_flagged": others})
    else:
        print_rows(word, rows)
    if others:
        raise CommandFailed(f"not flagged: {', '.join(map(str, others))}")


async def _run(
    decide: Decide, ids: Sequence[uuid.UUID], item_id: uuid.UUID | None
) -> list[Decided]:
    async with database(load(Environment)) as db:
        return await decide(db, item_id=item_id, transaction_ids=ids or None)


async def _list(item_id: uuid.UUID | None, limit: int) -> list[dict[str, Any]]:
    async with database(load(Environment)) as db:
        return as_rows(await list_deletions(db, item_id=item_id, limit=limit))
