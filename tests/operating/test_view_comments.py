"""Comments in the database: every view and column is described, and the docs say the same."""

from __future__ import annotations

import re
from typing import Final

import asyncpg
import pytest

from tests.support.stack import Stack
from tests.support.view_pages import DOCS, HEADS, load_columns, render
from worker.infra.postgres import Pool
from worker.infra.sql_files import SQL_DIR

MONEY: Final = re.compile(r"amount|balance|limit$|minimum_payment|^value$|^taxes")
OPEN_FINANCE: Final = 601
LIVE: Final = {
    "accounts",
    "bills",
    "categories",
    "connectors",
    "consents",
    "identities",
    "investment_transactions",
    "investments",
    "items",
    "loans",
    "transactions",
    "account_lineage",
    "daily_balances",
    "duplicate_accounts",
    "transaction_lineage",
}
OPS: Final = {
    "backlog",
    "contract_drift",
    "dead_letters",
    "deliveries",
    "drift",
    "duplicate_connections",
    "errors_by_connector",
    "findings",
    "flagged_deletions",
    "freshness",
    "lag",
    "missed_webhooks",
    "overview",
    "runs",
    "scaling",
    "subscriptions",
    "worklist",
}


@pytest.fixture
async def columns(db: Pool) -> list[asyncpg.Record]:
    return await load_columns(db)


def test_the_views_are_those_of_the_contract(columns: list[asyncpg.Record]) -> None:
    found = {(column["schema"], column["view"]) for column in columns}
    assert found == {("pluggy_live", v) for v in LIVE} | {("pluggy_ops", v) for v in OPS}


def test_every_view_and_column_has_a_comment(columns: list[asyncpg.Record]) -> None:
    missing = [
        f"{column['schema']}.{column['view']}.{column['name']}"
        for column in columns
        if len(column["comment"] or "") < 4 or len(column["description"] or "") < 4
    ]
    assert missing == []


def test_money_says_its_currency_and_times_their_zone(columns: list[asyncpg.Record]) -> None:
    for column in columns:
        is_money = column["type"] == "numeric" and MONEY.search(column["name"])
        if is_money and column["schema"] == "pluggy_live":
            assert "currency" in column["comment"], column
        if column["type"] == "timestamp with time zone":
            assert "UTC" in column["comment"], column


def test_blocked_on_names_the_four_parties_everywhere(columns: list[asyncpg.Record]) -> None:
    comments = {c["view"]: c["comment"] for c in columns if c["name"] == "blocked_on"}
    assert comments.keys() == {"errors_by_connector", "findings", "freshness", "worklist"}
    for comment in comments.values():
        assert re.findall(r"\b(us|pluggy|bank|user)\b", comment) == ["us", "pluggy", "bank", "user"]


async def test_a_column_that_is_null_says_what_that_means(
    stack: Stack, columns: list[asyncpg.Record]
) -> None:
    item = await stack.synced_item(transactions=30, connectorId=OPEN_FINANCE)
    await stack.collect(item["id"], created=3, updated=2, deleted=2)
    await stack.quiet()
    unexplained = []
    for column in columns:
        view = f"{column['schema']}.{column['view']}"
        query = f'SELECT count(*) FROM {view} WHERE "{column["name"]}" IS NULL'  # noqa: S608 - names of the catalogue
        if "null" not in column["comment"] and await stack.db.fetchval(query):
            unexplained.append(f"{view}.{column['name']}")
    assert unexplained == []


def test_each_view_has_a_file_with_all_that_is_said_of_it() -> None:
    for path in sorted((SQL_DIR / "views").glob("*.sql")):
        sql = path.read_text(encoding="utf-8")
        (view,) = re.findall(r"^CREATE VIEW (\S+) AS$", sql, flags=re.M)
        assert path.stem.partition("_")[2] == view.removeprefix("pluggy_").replace(".", "_")
        commented = re.findall(r"^COMMENT ON (?:VIEW (\S+)|COLUMN (\S+)\.\w+) IS", sql, flags=re.M)
        assert {of_view or of_column for of_view, of_column in commented} == {view}


@pytest.mark.parametrize("schema", HEADS)
def test_the_page_of_a_schema_is_written_from_its_comments(
    columns: list[asyncpg.Record], schema: str
) -> None:
    written = (DOCS / f"{schema}.md").read_text(encoding="utf-8")
    assert written == render(schema, columns), "run: python -m tests.support.view_pages"
