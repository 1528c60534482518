"""Views for applications: signs, currencies, days, and rows that are flagged for deletion."""

from __future__ import annotations

import re
import uuid
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from arq.connections import ArqRedis

from bench.consumers import QUERIES_OF_CONSUMERS
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import now
from tests.support.statements import STATEMENTS
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.infra.postgres import Pool
from worker.maintenance.installation import remember_settings

ITEM, BANK, CARD = uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)
SAO_PAULO = ZoneInfo("America/Sao_Paulo")


@pytest.fixture
async def accounts(db: Pool) -> Pool:
    """A bank account with 100 and a card with a debt of 40, both in BRL."""
    await db.executemany(
        "INSERT INTO pluggy.accounts (item_id, id, type, currency_code, balance, payload, row_hash,"
        " row_version, run_id) VALUES ($1, $2, $3, 'BRL', $4, '{}', '', 1, 1)",
        [(ITEM, BANK, "BANK", 100), (ITEM, CARD, "CREDIT", 40)],
    )
    return db


async def transaction(db: Pool, account: uuid.UUID = BANK, **columns: Any) -> Any:
    """Insert a row; returns it as the view shows it."""
    row = {
        "item_id": ITEM,
        "id": uuid.uuid4(),
        "account_id": account,
        "amount": Decimal(-10),
        "date": now(),
        "posted_on": datetime.now(SAO_PAULO).date(),
        "payload": "{}",
        "row_hash": b"",
        "row_version": 1,
        "run_id": 1,
    } | columns
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await db.execute(
        f"INSERT INTO pluggy.transactions ({', '.join(row)}) VALUES ({marks})",  # noqa: S608 - constants
        *row.values(),
    )
    return await db.fetchrow("SELECT * FROM pluggy_live.transactions WHERE id = $1", row["id"])


async def test_a_cards_debt_is_negative_in_signed_balance(accounts: Pool) -> None:
    found = await accounts.fetch("SELECT id, balance, signed_balance FROM pluggy_live.accounts")
    assert {r["id"]: (r["balance"], r["signed_balance"]) for r in found} == {
        BANK: (100, 100),
        CARD: (40, -40),
    }


@pytest.mark.parametrize(
    ("account", "columns", "amount", "currency"),
    [
        (BANK, {"currency_code": "BRL"}, -10, "BRL"),
        (CARD, {"currency_code": "BRL", "amount": 10}, -10, "BRL"),
        (
            CARD,
            {"currency_code": "USD", "amount": 10, "amount_in_account_currency": 55},
            -55,
            "BRL",
        ),
        # Nobody has converted it: it is no sum of the account's currency.
        (CARD, {"currency_code": "USD", "amount": 10}, -10, "USD"),
        (BANK, {}, -10, "BRL"),
        (uuid.UUID(int=9), {"currency_code": "USD"}, -10, "USD"),
        (uuid.UUID(int=9), {"amount_in_account_currency": -55}, -55, None),
    ],
)
@pytest.mark.parametrize("view", ["transactions", "transaction_lineage"])
async def test_a_signed_amount_says_its_currency(
    accounts: Pool,
    view: str,
    account: uuid.UUID,
    columns: dict[str, Any],
    amount: int,
    currency: str | None,
) -> None:
    row = await transaction(accounts, account, **columns)
    shown = await accounts.fetchrow(
        f"SELECT signed_amount, signed_currency_code FROM pluggy_live.{view} WHERE id = $1",  # noqa: S608 - constants
        row["id"],
    )
    assert shown is not None
    assert tuple(shown) == (amount, currency)


@pytest.mark.parametrize(("days", "is_future"), [(-1, False), (0, False), (1, True)])
@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Pacific/Kiritimati", "Etc/GMT+12"])
async def test_a_row_is_future_by_its_day_in_the_zone(
    accounts: Pool, zone: str, days: int, is_future: bool
) -> None:
    """The instant of a bare date, midnight UTC, says nothing of it."""
    await remember_settings(accounts, zone, 360)
    day = datetime.now(ZoneInfo(zone)).date() + timedelta(days=days)
    bare = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    assert (await transaction(accounts, date=bare, posted_on=day))["is_future"] is is_future


async def test_a_zone_that_postgres_does_not_know_breaks_no_view(accounts: Pool) -> None:
    await remember_settings(accounts, "Nowhere/Land", 600)
    assert (await transaction(accounts))["is_future"] is False
    said = await accounts.fetchrow("SELECT * FROM pluggy_sync.worker_settings")
    assert said is not None
    assert (said["posted_on_zone"], said["requests_per_minute"]) == ("America/Sao_Paulo", 600)


async def test_a_worker_records_its_zone_and_its_limit(
    db: Pool,
    database_url: str,
    redis: ArqRedis,
    redis_url: str,
    quiet_simulator: SimulatorProcess,
) -> None:
    async def said() -> bool:
        row = await db.fetchrow("SELECT * FROM pluggy_sync.worker_settings")
        assert row is not None
        return (row["posted_on_zone"], row["requests_per_minute"]) == ("America/Manaus", 777)

    settings = {"POSTED_ON_ZONE": "America/Manaus", "PLUGGY_REQUESTS_PER_MINUTE": "777"}
    async with WorkerProcess(database_url, redis_url, quiet_simulator.url, **settings) as worker:
        await until(said, "the worker has recorded its settings")
        worker.stop()
        assert await worker.ended() == 0


async def test_a_flagged_row_is_marked(accounts: Pool) -> None:
    at = now()
    assert (await transaction(accounts))["deletion_flagged_at"] is None
    row = await transaction(accounts, deletion_flagged_at=at)
    assert row["deletion_flagged_at"] == at


def readme_query() -> str:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [query] = re.findall(r"```sql\n(.*?)```", readme, re.DOTALL)
    return str(query)


@pytest.mark.parametrize("query", ["README", "demo"])
async def test_spending_keeps_rows_without_category_and_currencies_apart(
    accounts: Pool, query: str
) -> None:
    await transaction(accounts)
    await transaction(accounts, CARD, amount=7, currency_code="USD", category="Food")
    await transaction(accounts, category="Transfers", category_id="04000000")
    await transaction(accounts, category="Card payment", category_id="05100000")
    await transaction(accounts, deletion_flagged_at=now())
    await transaction(accounts, posted_on=date(2999, 1, 1))
    statement = readme_query() if query == "README" else STATEMENTS["spending_by_category"]
    found = await accounts.fetch(statement)
    assert [(r["currency"], r["category"], r["spent"]) for r in found] == [
        ("BRL", None, 10),
        ("USD", "Food", 7),
    ]


BY_INDEX = {
    "by id": "transactions_id",
    "by bill": "transactions_bill",
    "account, last 30 days": "transactions_by_account",
    "all of a day": "transactions_posted_on",
    "a month by category": "transactions_posted_on",
    "changed since": "transactions_changed",
}


@pytest.mark.parametrize(("name", "query"), QUERIES_OF_CONSUMERS.items())
async def test_what_applications_ask_by_has_an_index(db: Pool, name: str, query: str) -> None:
    """Without sequential scans, since no index is worth anything on a table this small."""
    arguments = [uuid.uuid4(), *([now()] if "$2" in query else [])]
    async with db.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        # Nor by an index that has the column further behind.
        await conn.execute("SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(r[0] for r in await conn.fetch(f"EXPLAIN {query}", *arguments))
    assert re.search(rf"Index .*Scan.* using {BY_INDEX[name]} on", plan), plan
