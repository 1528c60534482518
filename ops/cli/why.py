"""`pluggy-sync why`: one transaction from its delivery to its row, with the ids of requests."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import click

from ops.cli import console

if TYPE_CHECKING:
    from worker.infra.postgres import Pool
    from worker.store.why import WhyRejected, WhyRow

MAX_EVENTS: Final = 50
SECTIONS: Final = ("runs", "events", "rejected")


@click.command("why")
@click.argument("transaction_id", type=click.UUID)
@console.json_option
def why(transaction_id: uuid.UUID, as_json: bool) -> None:
    """Show why a transaction is stored as it is, or why it is not.

    The row, the run that wrote it with its requests and Pluggy's error id, the webhooks that led to
    that run or that name the row (latest first), and the row it replaces or that counts instead.
    """
    shown = console.call(_load, transaction_id=transaction_id)
    if as_json:
        console.print_json(shown)
        return
    for row in shown["rows"]:
        console.print_fields({name: value for name, value in row.items() if value is not None})
    for title in SECTIONS:
        console.print_rows(title, shown[title])
    for row in shown["rows"]:
        if row["state"] == "deletion_pending":
            click.echo(
                f"decide: pluggy-sync deletions accept {transaction_id}, or deletions refuse"
            )


async def _load(db: Pool, transaction_id: uuid.UUID) -> dict[str, Any]:
    from worker.store import why as statements

    rows = await statements.why_rows(db, transaction_id=transaction_id)
    rejected = await statements.why_rejected(db, row_id=str(transaction_id))
    found = await _runs_and_events(db, transaction_id, rows, rejected)
    if not (rows or rejected or found["events"]):
        raise console.CommandFailed(
            f"no row, rejected row or webhook names transaction {transaction_id}:"
            " Pluggy has not shown it here, or it is purged"
        )
    return {
        "transaction_id": transaction_id,
        "rows": console.as_rows(rows),
        **found,
        "rejected": console.as_rows(rejected),
    }


async def _runs_and_events(
    db: Pool, transaction_id: uuid.UUID, rows: list[WhyRow], rejected: list[WhyRejected]
) -> dict[str, Any]:
    from worker.store import why as statements

    named: list[WhyRow | WhyRejected] = [*rows, *rejected]
    runs = await statements.why_runs(db, run_ids=sorted({each.run_id for each in named}))
    events = await statements.why_events(
        db,
        event_ids=sorted({event_id for each in runs for event_id in each.event_ids}),
        transaction_id=transaction_id,
        item_ids=sorted({each.item_id for each in named}) or None,
        limit=MAX_EVENTS,
    )
    return {"runs": console.as_rows(runs), "events": console.as_rows(events)}
