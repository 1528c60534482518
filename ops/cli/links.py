"""`pluggy-sync links`: accounts that go on under a new connection, and a person's decisions."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import click

from ops.cli import console

if TYPE_CHECKING:
    from worker.infra.postgres import Pool


@click.group("links")
def links() -> None:
    """Accounts of items that Pluggy ends, and the accounts of new items that go on with them.

    Bank accounts are linked by number and tax number, cards by matching rows; a card with too few
    of them is `proposed` and waits for a decision. Linked rows count once in pluggy_live.
    """


@links.command("list")
@console.item_option
@console.limit_option
@console.json_option
def list_(as_json: bool, **chosen: Any) -> None:
    """List pairs of accounts, first those that wait for a decision."""
    from worker.store.reconnections import list_account_links

    console.print_list(
        "links", console.load_rows(list_account_links, **chosen), as_json=as_json, title="links"
    )


@links.command("accept")
@click.argument("account_id", type=click.UUID)
@click.argument("superseded_by", type=click.UUID)
@console.json_option
def accept(account_id: uuid.UUID, superseded_by: uuid.UUID, as_json: bool) -> None:
    """Say that both are the same account; a worker links their rows."""
    _decide(account_id, superseded_by, accepts=True, as_json=as_json)


@links.command("refuse")
@click.argument("account_id", type=click.UUID)
@click.argument("superseded_by", type=click.UUID)
@console.json_option
def refuse(account_id: uuid.UUID, superseded_by: uuid.UUID, as_json: bool) -> None:
    """Say that they are two accounts: their rows count apart, also if they were linked."""
    _decide(account_id, superseded_by, accepts=False, as_json=as_json)


def _decide(
    account_id: uuid.UUID, superseded_by: uuid.UUID, *, accepts: bool, as_json: bool
) -> None:
    pair = {"account_id": account_id, "superseded_by": superseded_by}
    if not console.call(_decide_link, **pair, accepts=accepts):
        raise console.CommandFailed(f"no such pair: {account_id} {superseded_by}; see: links list")
    decision = "accepted" if accepts else "refused"
    if as_json:
        console.print_json(pair | {"decision": decision})
    else:
        console.say(f"{account_id} {superseded_by}: {decision}")


async def _decide_link(db: Pool, **decision: Any) -> bool:
    import asyncpg

    from worker.maintenance.reconnections import decide_link

    try:
        return await decide_link(db, **decision)
    except asyncpg.UniqueViolationError:
        raise console.CommandFailed(
            "it is linked to another account; refuse that pair first"
        ) from None
