"""`pluggy-sync resync`: read items again from beginning to end, in the lowest lane."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Final, TextIO

import click

from ops.cli import console
from ops.cli.item_ids import read_ids

NAME: Final = re.compile(r"[\w.-]{1,60}", re.ASCII)
TIMES: Final = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S")


def _known(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None and not NAME.fullmatch(name):
        raise click.BadParameter("letters, digits, dots, hyphens and underscores, at most 60")
    return name


@click.command()
@click.argument("item_ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option(
    "--file",
    "file",
    type=click.File(encoding="utf-8-sig", errors="replace"),
    help="Items of a list: one id a line, or a CSV with an itemId column; - is standard input.",
)
@click.option("--connector", type=console.CONNECTOR_ID, help="Items of this connector.")
@click.option("--client-user", help="Items of this clientUserId.")
@click.option("--since", type=click.DateTime(TIMES), help="Items that webhooks named since (UTC).")
@click.option("--until", type=click.DateTime(TIMES), help="And before this time.")
@click.option("--all", "everything", is_flag=True, help="All that are mirrored.")
@click.option("--name", callback=_known, help="Name of this resync; the same name continues it.")
@click.option(
    "--product",
    type=click.Choice(["accounts"]),
    help="Only this list: one request an item, at once for items that are named.",
)
@click.option("--dry-run", is_flag=True, help="Only estimate the work and show the progress.")
@console.json_option
def resync(
    item_ids: tuple[uuid.UUID, ...],
    file: TextIO | None,
    connector: int | None,
    client_user: str | None,
    since: datetime | None,
    until: datetime | None,
    everything: bool,
    name: str | None,
    product: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read items again from beginning to end: every product and all transactions.

    It runs behind all other work and repairs differences, which pluggy_ops.drift lists. Connector,
    client user and time can be combined.
    """
    narrowed = any(value is not None for value in (connector, client_user, since, until))
    if bool(item_ids or file) + narrowed + everything != 1:
        raise click.UsageError(
            "name items, or --file; or --connector, --client-user, --since; or --all"
        )
    since, until = _period(since, until)
    from ops.cli.resync_order import Choice, Tally, order_resync

    listed = (*item_ids, *_listed(file)) if item_ids or file else None
    choice = Choice(listed, connector, client_user, since, until)
    name = name or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    tally = Tally(name, dry_run, accounts_alone=product is not None)
    summary = console.run(order_resync(choice, tally))
    if as_json:
        console.print_json(summary)
    else:
        console.print_fields(summary)


def _listed(file: TextIO | None) -> list[uuid.UUID]:
    """Ids of a list, each once. Raises CommandFailed at a line that has none."""
    lines = list(read_ids(file)) if file is not None else []
    if bad := [line.number for line in lines if line.item_id is None]:
        raise console.CommandFailed(
            f"no UUID in line {', '.join(map(str, bad[:10]))}; nothing is ordered"
        )
    return list(dict.fromkeys(line.item_id for line in lines if line.item_id is not None))


def _period(
    since: datetime | None, until: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """Both in UTC. Raises click.UsageError where no time lies between them."""
    if since is None:
        if until is not None:
            raise click.UsageError("--until needs --since")
        return None, None
    since, until = _utc(since), until and _utc(until)
    if until is not None and until < since:
        raise click.UsageError("--until is before --since")
    if since > datetime.now(UTC):
        raise click.UsageError("--since lies in the future")
    return since, until


def _utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise click.UsageError("--since and --until lie between the years 1 and 9999") from error
