"""The work of each kind of event, counted: the table of docs/performance.md, row by row."""

from __future__ import annotations

from bench.postgres_counter import PostgresCounter
from bench.results import PAGE
from bench.work import announced, counted, differences, measure
from worker.infra.postgres import close_pool, open_pool


async def test_each_event_takes_the_work_that_the_page_says(
    database_url: str, own_redis_url: str
) -> None:
    async with counted(database_url, own_redis_url) as service:
        found = await measure(service)
    said = announced(PAGE.read_text(encoding="utf-8"))
    assert not list(differences(said, found)), "see docs/performance.md"


async def test_round_trips_and_transactions_are_counted_on_the_wire(database_url: str) -> None:
    async with PostgresCounter(database_url) as postgres:
        db = await open_pool(postgres.url, max_size=1, statement_cache=100)
        async with db.acquire() as conn:
            await conn.execute("CREATE TEMPORARY TABLE counted (id integer)")
            assert (postgres.round_trips, postgres.transactions) == (1, 1)
            async with conn.transaction():
                for number in range(3):
                    await conn.fetch("INSERT INTO counted VALUES ($1)", number)
            assert (postgres.round_trips, postgres.transactions) == (6, 2)
            await conn.copy_records_to_table("counted", records=[(4,)], columns=["id"])
            before = postgres.round_trips
            await conn.executemany("INSERT INTO counted VALUES ($1)", [(5,), (6,)])
            assert postgres.round_trips == before + 1
        await close_pool(db)
