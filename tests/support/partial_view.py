"""A stub of Pluggy that leaves out transactions, in lists and in reads by id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec

from tests.support.altered_pluggy import altered
from tests.support.stack import Stack


@asynccontextmanager
async def hiding(stack: Stack, *ids: str) -> AsyncIterator[set[str]]:
    """Hide these rows during the block; the yielded set may be changed."""
    hidden = set(ids)

    async def leave_out(path: str, body: bytes) -> bytes:
        return without(body, hidden) if path.startswith("/v2/transactions") else body

    async with altered(stack, leave_out):
        yield hidden


def without(body: bytes, hidden: Collection[str]) -> bytes:
    """The page without hidden rows; the others byte for byte, so that no row is written again."""
    page = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    rows = msgspec.json.decode(page["results"], type=list[msgspec.Raw])
    kept = [row for row in rows if msgspec.json.decode(row)["id"] not in hidden]
    return msgspec.json.encode(page | {"results": kept})


async def by_date(stack: Stack, item_id: str) -> list[str]:
    """Live rows of an item, newest first; those of one moment by id."""
    rows = await stack.live(item_id)
    return sorted(rows, key=lambda row_id: (rows[row_id]["date"], row_id), reverse=True)


async def one_account(stack: Stack, rows: int) -> tuple[str, list[str]]:
    """An item with one account and that many rows, one a day, newest first."""
    item = await stack.synced_item(transactions=rows, accounts=1)
    ids = await by_date(stack, item["id"])
    assert len(ids) == rows
    await date_apart(stack, item["id"], ids)
    await stack.shift(timedelta(seconds=1))
    return item["id"], ids


async def date_apart(stack: Stack, item_id: str, newest_first: Sequence[str]) -> None:
    """Set the stored dates a day apart: rows of the same time would be neighbours."""
    await stack.db.execute(
        "UPDATE pluggy.transactions t SET date = now() - n.ord * interval '1 day'"
        " FROM unnest($2::uuid[]) WITH ORDINALITY AS n(id, ord)"
        " WHERE t.item_id = $1 AND t.id = n.id",
        item_id,
        list(newest_first),
    )
