"""`pluggy-sync report`: spending, cash flow, net worth and bills to come, by the cookbook's SQL."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import click

from ops.cli import console
from ops.cli.terminal_text import counted, neutral
from worker.infra.sql_files import SQL_DIR

if TYPE_CHECKING:
    from worker.infra.postgres import Pool

COOKBOOK: Final = SQL_DIR / "cookbook"
SECTIONS: Final[Mapping[str, str]] = {
    "spending": "spending_by_category",
    "cash-flow": "cash_flow",
    "net-worth": "net_worth",
    "bills": "upcoming_bills",
}
"""Sections and their queries. All take a clientUserId or null, and a day."""
TWICE: Final = "accounts_connected_twice"
NO_CATEGORY: Final = (
    " no category: own transfers and card payments among them count as money in and out"
)
INEXACT: Final = " not known, or without an amount in another currency"
CONNECTED_TWICE: Final = " connected twice and count twice: pluggy_live.duplicate_accounts"
NO_HISTORY: Final = (
    "investments and loans have no history: they are shown, and in total, of today alone;"
    " net_worth is of accounts and cards"
)
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of each section; columns: of each, also where it has no row."""

    rows: dict[str, Rows]
    columns: dict[str, list[str]]
    notes: list[str]


@click.command("report")
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option("--user", help="Of the items with this clientUserId only.")
@click.option(
    "--months", type=click.IntRange(1, 1200), default=6, help="This month and those before it."
)
@click.option("--csv", "as_csv", is_flag=True, help="One section as comma-separated values.")
@console.json_option
def report(
    sections: tuple[str, ...], user: str | None, months: int, as_csv: bool, as_json: bool
) -> None:
    """Show spending, cash flow, net worth and the bills of cards that are to be paid.

    All sections, or those that are named. Amounts of different currencies are never added.
    """
    if as_csv and (as_json or len(sections) != 1):
        raise click.UsageError("--csv writes one section: name it, without --json")
    wanted = tuple(dict.fromkeys(sections)) or tuple(SECTIONS)
    made = console.call(load_report, sections=wanted, user=user, months=months)
    if as_json:
        console.print_json(made.rows | {"notes": made.notes})
        return
    for section in wanted:
        if as_csv:
            write_csv(made.columns[section], made.rows[section])
        else:
            console.print_rows(section.replace("-", " "), made.rows[section])
    for note in made.notes:
        click.echo(neutral(f"note: {note}"), err=True)


async def load_report(
    db: Pool, *, sections: Sequence[str], user: str | None, months: int
) -> Report:
    """Run the sections' queries. Raises CommandFailed if no item is of the user."""
    from worker.store.operating import load_today

    if user is not None and not await db.fetchval(OF_USER, user):
        raise console.CommandFailed("no stored item has this clientUserId")
    today = await load_today(db)
    since = first_day(today, months)
    made = Report({}, {}, [])
    for section in sections:
        day = today if section == "bills" else since
        async with db.acquire() as conn:
            prepared = await conn.prepare(query(SECTIONS[section]))
            made.columns[section] = [column.name for column in prepared.get_attributes()]
            made.rows[section] = [dict(row) for row in await prepared.fetch(user, day)]
    twice = len(await db.fetch(query(TWICE), user))
    made.notes.extend(notes(made.rows, twice))
    return made


OF_USER: Final = "SELECT EXISTS (SELECT FROM pluggy_live.items WHERE client_user_id = $1)"


def query(name: str) -> str:
    """A query of the cookbook."""
    return (COOKBOOK / f"{name}.sql").read_text(encoding="utf-8")


def first_day(today: date, months: int) -> date:
    """The first day of the month that is so many months back, this one included."""
    month = max(12, today.year * 12 + today.month - months)
    return date(month // 12, month % 12 + 1, 1)


def notes(rows: Mapping[str, Rows], twice: int) -> list[str]:
    """What makes the figures say less than they seem to."""
    uncategorized = sum(row["without_category"] for row in rows.get("cash-flow", ())) or sum(
        row["transactions"] for row in rows.get("spending", ()) if row["category"] is None
    )
    worth = rows.get("net-worth", ())
    found = [
        counted(number, one, many) + rest
        for number, one, many, rest in (
            (uncategorized, "transaction has", "transactions have", NO_CATEGORY),
            (sum(row["inexact"] for row in worth), "balance is", "balances are", INEXACT),
            (twice, "account is", "accounts are", CONNECTED_TWICE),
        )
        if number
    ]
    if any(row["investments"] or row["loans"] for row in worth):
        found.append(NO_HISTORY)
    return found


def write_csv(columns: Sequence[str], rows: Rows) -> None:
    """A header and the rows; what is null is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if v is None else neutral(str(v)) for v in row.values()])
