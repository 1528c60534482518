"""A mirror by four threads and psycopg; what is read by comes from the peer's own module.

Warm connections, one transaction a page, batched upserts into the same table with the same columns
and indexes. A delta lists what was created since the newest row of each account less an hour.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final, Protocol

from psycopg_pool import ConnectionPool

from bench.peers.rows import ACCOUNT, ITEM, NEWEST, SCHEMA, UPSERT, of_psycopg

AT_ONCE: Final = 4
Rows = list[tuple[Any, ...]]


class Source(Protocol):
    """What a mirror reads: items and accounts as JSON text, rows in the order of COLUMNS."""

    def item(self, item_id: str) -> str: ...

    def accounts(self, item_id: str) -> list[tuple[str, str]]: ...

    def pages(self, item_id: str, account_id: str, newest: datetime | None) -> Iterator[Rows]: ...


def mirror(source: Source, db: ConnectionPool[Any], item_id: str, *, delta: bool) -> None:
    """The item, its accounts, and their transactions."""
    with db.connection() as conn:
        conn.execute(of_psycopg(ITEM), (item_id, source.item(item_id)))
        conn.commit()
        accounts = source.accounts(item_id)
        rows = [(item_id, *account) for account in accounts]
        conn.cursor().executemany(of_psycopg(ACCOUNT), rows)
        conn.commit()
        for account_id, _ in accounts:
            newest = None
            if delta:
                found = conn.execute(of_psycopg(NEWEST), (item_id, account_id)).fetchone()
                newest = found[0] if found else None
            for page in source.pages(item_id, account_id, newest):
                conn.cursor().executemany(of_psycopg(UPSERT), page)
                conn.commit()


def run(opened: Callable[[], Source], kind: str, items: Sequence[str]) -> None:
    """Mirror the items, AT_ONCE at a time; prints seconds and CPU, the start left out."""
    began = time.perf_counter(), time.process_time()
    url = os.environ["DATABASE_URL"]
    with ConnectionPool(url, min_size=AT_ONCE, max_size=AT_ONCE) as db:
        with db.connection() as conn:
            conn.execute(SCHEMA)
        source = opened()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            work = [
                threads.submit(mirror, source, db, item, delta=kind == "delta") for item in items
            ]
        for done in work:
            done.result()
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    print(json.dumps({"wall_s": took[0], "cpu_s": took[1]}))


def main(opened: Callable[[], Source]) -> None:
    """`backfill|delta ITEM...`."""
    kind, *items = sys.argv[1:]
    run(opened, kind, [str(uuid.UUID(item)) for item in items])
