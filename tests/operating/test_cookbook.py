"""The cookbook: each query against what Pluggy holds, and the report that is made of them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from ops.cli.report import COOKBOOK, SECTIONS, first_day, query
from tests.operating.test_cli import CommandLine, complaint
from tests.support.cookbook_page import ORDER, written
from tests.support.cookbook_truth import EXPECTED, Row, spending_by_category
from tests.support.mirrored_people import ANA, BRUNO, People


@pytest.fixture
async def today(people: People) -> date:
    day: date = await people.db.fetchval("SELECT max(day) FROM pluggy_live.daily_balances")
    return day


async def ask(people: People, name: str, user: str | None, since: date) -> list[Row]:
    """The rows of a query, ids as texts."""
    statement = query(name)
    arguments = [user, since] if "$2" in statement else [user]
    found = await people.db.fetch(statement, *arguments)
    return [tuple(str(v) if type(v).__name__ == "UUID" else v for v in row) for row in found]


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_query_of_the_cookbook_answers_what_pluggy_s_rows_say(
    people: People, today: date, name: str
) -> None:
    """Of everybody, and of each person alone."""
    since = first_day(today, 13) if name != "upcoming_bills" else today
    assert EXPECTED[name](people, None, since, today), "there is nothing to find"
    for user in (None, ANA, BRUNO):
        found = await ask(people, name, user, since)
        expected = EXPECTED[name](people, user, since, today)
        width = len(expected[0]) if expected else 0
        assert Counter(row[:width] for row in found) == Counter(expected)
    assert await ask(people, name, "nobody", since) == []


def test_the_page_shows_each_query_of_the_cookbook() -> None:
    files = {path.stem for path in COOKBOOK.glob("*.sql")}
    assert files == set(EXPECTED) == set(ORDER)
    found, expected = written()
    assert found == expected, "run: python -m tests.support.cookbook_page"


def test_people_spend_in_several_currencies(people: People, today: date) -> None:
    found = spending_by_category(people, BRUNO, first_day(today, 13), today)
    assert len({currency for _, currency, *_ in found}) > 1


async def test_the_balances_of_today_are_those_of_the_accounts(people: People, today: date) -> None:
    found = await people.db.fetch(
        "SELECT currency_code, sum(signed_balance) FROM pluggy_live.accounts GROUP BY 1"
        " EXCEPT SELECT currency_code, sum(signed_balance) FROM pluggy_live.daily_balances"
        " WHERE day = $1 GROUP BY 1",
        today,
    )
    assert found == []


@pytest.fixture
def cli(people: People) -> CommandLine:
    return CommandLine({"DATABASE_URL": people.url})


async def test_a_report_has_the_rows_of_the_cookbook(
    people: People, today: date, cli: CommandLine
) -> None:
    shown = await cli.json("report", "--user", ANA, "--months", "4")
    assert shown.keys() == {*SECTIONS, "notes"}
    for section, name in SECTIONS.items():
        since = today if section == "bills" else first_day(today, 4)
        expected = await ask(people, name, ANA, since)
        assert [tuple(row.values()) for row in shown[section]] == [
            tuple(map(_as_json, row)) for row in expected
        ]
    assert [note.partition(" ")[2][:28] for note in shown["notes"]] == [
        "transactions have no categor",
        "accounts are connected twice",
        "and loans have no history: t",
    ]


def _as_json(value: Any) -> Any:
    return str(value) if isinstance(value, date) else _as_float(value)


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


async def test_a_report_is_a_table_or_values_with_commas(cli: CommandLine) -> None:
    said = await cli("report", "net-worth", "bills", "--user", BRUNO)
    assert said.exit_code == 0
    assert "day\tcurrency\tassets\tdebts\tnet_worth" in said.stdout
    assert "category" not in said.stdout
    written = await cli("report", "cash-flow", "--csv", "--user", BRUNO, "--months", "2")
    rows = list(csv.DictReader(io.StringIO(written.stdout)))
    assert rows
    for row in rows:
        assert Decimal(row["net"]) == Decimal(row["money_in"]) - Decimal(row["money_out"])
    assert "have no category" in written.stderr


async def test_a_report_without_rows_has_the_header_alone(cli: CommandLine) -> None:
    written = await cli("report", "bills", "--csv", "--user", ANA, "--months", "1")
    assert (
        written.stdout.splitlines()[0] == "due_date,state,card,digits,currency,amount,paid,minimum"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--user", "nobody"], 1, "no stored item has this clientUserId"),
        (["--csv"], 2, "--csv writes one section"),
        (["bills", "--csv", "--json"], 2, "--csv writes one section"),
        (["weather"], 2, "'weather'"),
        (["--months", "0"], 2, "--months"),
    ],
)
async def test_a_report_that_cannot_be_made_says_why(
    cli: CommandLine, arguments: list[str], status: int, said: str
) -> None:
    result = await cli("report", *arguments)
    assert result.exit_code == status
    assert said in result.stderr
    assert result.stdout == ""
    if status == 1:
        assert complaint(result) == said


@pytest.mark.parametrize(
    ("months", "day"),
    [(1, date(2026, 1, 1)), (2, date(2025, 12, 1)), (13, date(2025, 1, 1)), (10**5, date(1, 1, 1))],
)
def test_months_are_counted_from_this_one(months: int, day: date) -> None:
    assert first_day(date(2026, 1, 31), months) == day
