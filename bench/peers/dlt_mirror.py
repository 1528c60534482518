"""`python -m bench.peers.dlt_mirror backfill|delta ITEM...`: dlt, merging into Postgres.

dlt makes its own tables: the same columns as the others in `mirror.transactions`, merged by id. It
loads at the end of a run, from files that it writes meanwhile. A delta lists what was created since
the newest row of each account less an hour, from dlt's own state.
"""
# dlt is not installed where types are checked.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dlt
import msgspec
from dlt.destinations import postgres
from dlt.sources.helpers import requests

from bench.peers.rows import COLUMNS, mapped, since

JSON: Any = {"data_type": "json"}
TEXTS = ("item_id", "id", "account_id", "bill_id", "operation_type", "provider_id", "row_hash")
TYPES: dict[str, Any] = {"payload": JSON, **{name: {"data_type": "text"} for name in TEXTS}}


class Mirror:
    """Pluggy over one warm session."""

    def __init__(self) -> None:
        self.base_url = os.environ["PLUGGY_BASE_URL"]
        self.session = requests.Client().session
        key = {"clientId": os.environ["PLUGGY_CLIENT_ID"]}
        key["clientSecret"] = os.environ["PLUGGY_CLIENT_SECRET"]
        answer = self.session.post(self.base_url + "/auth", json=key)
        self.session.headers["X-API-KEY"] = answer.json()["apiKey"]

    def get(self, path: str) -> bytes:
        """The body of an answer. Raises requests' errors."""
        answer = self.session.get(self.base_url + path)
        answer.raise_for_status()
        return bytes(answer.content)

    def transactions(self, item: str, account: str, newest: datetime | None) -> Iterator[Any]:
        """Pages of rows as dicts."""
        query = f"?accountId={account}" + (f"&createdAtFrom={since(newest)}" if newest else "")
        while query:
            body = self.get(f"/v2/transactions{query}")
            yield [_named(row) for row in mapped(uuid.UUID(item), body)]
            following = msgspec.json.decode(body)["next"]
            query = following and "?" + following.lstrip("?")


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(COLUMNS, row, strict=True))
    ids = {name: str(named[name]) for name in ("item_id", "id", "account_id")}
    bill = named["bill_id"] and str(named["bill_id"])
    digest, payload = named["row_hash"].hex(), json.loads(named["payload"])
    return named | ids | {"bill_id": bill, "row_hash": digest, "payload": payload}


@dlt.source(max_table_nesting=0)
def pluggy(kind: str, ids: list[str]) -> Any:
    """Items, accounts, and the accounts' transactions."""
    mirror = Mirror()

    @dlt.resource(primary_key="id", write_disposition="merge")
    def items() -> Iterator[Any]:
        for item in ids:
            yield {"id": item, "payload": mirror.get(f"/items/{item}").decode()}

    @dlt.resource(primary_key="id", write_disposition="merge", columns={"payload": JSON})
    def accounts() -> Iterator[Any]:
        for item in ids:
            for row in msgspec.json.decode(mirror.get(f"/accounts?itemId={item}"))["results"]:
                yield {"item_id": item, "id": row["id"], "payload": row}

    @dlt.transformer(data_from=accounts, primary_key="id", write_disposition="merge", columns=TYPES)
    def transactions(account: dict[str, Any]) -> Iterator[Any]:
        newest = dlt.current.resource_state().setdefault("newest", {})
        last = newest.get(account["id"]) if kind == "delta" else None
        start = last and datetime.fromisoformat(last)
        for page in mirror.transactions(account["item_id"], account["id"], start):
            created = [row["source_created_at"].isoformat() for row in page]
            newest[account["id"]] = max([*created, newest.get(account["id"]) or ""])
            yield page

    return items, accounts, transactions


def run(kind: str, items: list[str]) -> None:
    """Mirror the items in one load; the state of the last run is in the database."""
    with tempfile.TemporaryDirectory() as directory:
        pipeline = dlt.pipeline(
            "mirror",
            pipelines_dir=directory,
            destination=postgres(os.environ["DATABASE_URL"]),
            dataset_name="mirror",
        )
        pipeline.run(pluggy(kind, items))


def main() -> None:
    """Mirror once; prints seconds and CPU, the start left out."""
    began = time.perf_counter(), time.process_time()
    run(sys.argv[1], sys.argv[2:])
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    print(json.dumps({"wall_s": took[0], "cpu_s": took[1]}))


if __name__ == "__main__":
    main()
