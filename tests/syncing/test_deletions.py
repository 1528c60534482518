"""Deletions: absence makes a candidate, and a request with witnesses decides."""

from __future__ import annotations

import uuid
from datetime import timedelta

import asyncpg
import pytest

from tests.support.stack import Stack
from tests.syncing.test_transactions import changed, watermarks
from worker.entities.accounts import ENTITY as ACCOUNTS
from worker.infra.lanes import Lane
from worker.pluggy_api.endpoints import PluggyReader
from worker.sync import full_list as listings

LEFT_OF_THE_LEASE = (
    "SELECT until - clock_timestamp() FROM pluggy_sync.item_leases WHERE item_id = $1"
)
SHORTEN_THE_LEASE = (
    "UPDATE pluggy_sync.item_leases SET until = until - interval '25 s' WHERE item_id = $1"
)


async def tombstones(stack: Stack, item_id: str) -> int:
    found: int = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy.transactions WHERE item_id = $1 AND deleted_at IS NOT NULL",
        item_id,
    )
    return found


async def flagged(stack: Stack, item_id: str) -> list[asyncpg.Record]:
    return await stack.db.fetch(
        "SELECT * FROM pluggy_ops.flagged_deletions WHERE item_id = $1", item_id
    )


async def freshness(stack: Stack, item_id: str) -> list[asyncpg.Record]:
    return await stack.db.fetch("SELECT * FROM pluggy_ops.freshness WHERE item_id = $1", item_id)


async def test_a_revoked_consent_tombstones_nothing_and_shows_stale(stack: Stack) -> None:
    item = await stack.synced_item(transactions=90)
    before = await watermarks(stack, item["id"])
    rows = await stack.live(item["id"])
    [account, *_] = before
    ids = [i for i, row in rows.items() if str(row["account_id"]) == account][:3]
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    await stack.collect(item["id"], consent="revoked")
    await stack.tell("item/updated", item["id"])
    await stack.tell("transactions/updated", item["id"], accountId=account, transactionIds=ids)
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=ids)
    assert await tombstones(stack, item["id"]) == 0
    assert await flagged(stack, item["id"]) == []
    assert await stack.live(item["id"]) == rows
    assert len(await stack.live(item["id"], "accounts")) == len(before)
    assert await watermarks(stack, item["id"]) == before
    shown = await freshness(stack, item["id"])
    assert {(r["state"], r["reason"]) for r in shown} == {("stale", "consent_revoked")}
    assert (await stack.states(item["id"]))[2:] == ["pending"] * 2


async def test_after_renewal_what_waited_is_applied(stack: Stack) -> None:
    item = await stack.synced_item(transactions=90)
    await stack.update(item["id"], consent="revoked")
    answer = await stack.collect(item["id"], consent="renewed", created=4)
    await stack.tell_all(answer)
    await stack.after(timedelta(hours=2))
    await stack.assert_equal(item["id"])
    assert set(await stack.states(item["id"])) == {"applied"}


async def test_a_named_row_that_is_hidden_stays_without_a_witness(stack: Stack) -> None:
    """Answers that leave everything out prove nothing, also about ids that were named."""
    item = await stack.synced_item(transactions=60, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    ids = list(await stack.live(item["id"]))[:2]
    await stack.fault("GET /v2/transactions", kind="empty", times=1)
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=ids)
    assert await tombstones(stack, item["id"]) == 0
    assert (await stack.states(item["id"]))[-1] == "pending"


async def test_an_account_without_possible_witness_is_flagged_not_tombstoned(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    ids = list(await stack.live(item["id"]))
    answer = await stack.collect(item["id"], deleted=len(ids))
    assert changed(answer, "deleted")
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=ids)
    assert await tombstones(stack, item["id"]) == 0
    assert {r["reason"] for r in await flagged(stack, item["id"])} == {"no_witness"}
    assert len(await flagged(stack, item["id"])) == len(ids)


async def test_more_than_a_fifth_of_an_account_at_once_is_flagged(stack: Stack) -> None:
    item = await stack.synced_item(transactions=100, accounts=1)
    [account] = await stack.live(item["id"], "accounts")
    answer = await stack.collect(item["id"], deleted=30)
    gone = changed(answer, "deleted")[account]
    await stack.process("transactions/deleted", item["id"], accountId=account, transactionIds=gone)
    assert await tombstones(stack, item["id"]) == 0
    assert {str(r["transaction_id"]) for r in await flagged(stack, item["id"])} == set(gone)
    assert {r["reason"] for r in await flagged(stack, item["id"])} == {"too_many_at_once"}


async def test_a_flagged_row_that_is_seen_again_loses_its_flag(stack: Stack) -> None:
    item = await stack.synced_item(transactions=40)
    [row_id, *_] = await stack.live(item["id"])
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deletion_flagged_at = now(), deletion_flag = 'no_witness'"
        " WHERE item_id = $1 AND id = $2",
        item["id"],
        uuid.UUID(row_id),
    )
    await stack.process_order("sync/verify", item["id"])
    assert await flagged(stack, item["id"]) == []


async def test_a_walk_tombstones_what_was_deleted_without_webhook(stack: Stack) -> None:
    item = await stack.synced_item(transactions=300)
    await stack.collect(item["id"], deleted=8)
    await stack.shift(timedelta(seconds=1))
    await stack.process_order("sync/verify", item["id"])
    assert await tombstones(stack, item["id"]) > 0
    await stack.assert_equal(item["id"])


async def test_a_row_that_moves_between_two_pages_of_a_walk_is_not_tombstoned(stack: Stack) -> None:
    item = await stack.synced_item(transactions=1500, accounts=1)
    await stack.shift(timedelta(seconds=1))
    await stack.fault("GET /v2/transactions", kind="redate", times=3)
    await stack.process_order("sync/verify", item["id"])
    assert await tombstones(stack, item["id"]) == 0
    await stack.assert_equal(item["id"], ["transactions"])


async def test_a_deleted_id_that_still_comes_back_is_asked_once_more(stack: Stack) -> None:
    item = await stack.synced_item(transactions=50)
    [row] = list((await stack.live(item["id"])).values())[:1]
    await stack.process(
        "transactions/deleted",
        item["id"],
        accountId=str(row["account_id"]),
        transactionIds=[str(row["id"])],
    )
    assert (await stack.states(item["id"]))[-1] == "pending"
    await stack.reset_requests()
    await stack.quiet()
    assert await stack.requests() == {}
    await stack.after(timedelta(minutes=6))
    assert (await stack.requests())["GET /v2/transactions"] == 1
    assert (await stack.states(item["id"]))[-1] == "applied"
    assert await tombstones(stack, item["id"]) == 0


async def test_a_consent_revoked_between_two_pages_tombstones_nothing(stack: Stack) -> None:
    item = await stack.synced_item(transactions=1200, accounts=1)
    before = await watermarks(stack, item["id"])
    await stack.shift(timedelta(seconds=1))
    await stack.fault("GET /v2/transactions", kind="empty", skip=1, times=100)
    await stack.process_order("sync/verify", item["id"])
    assert await tombstones(stack, item["id"]) == 0
    assert await watermarks(stack, item["id"]) == before
    assert {r["reason"] for r in await freshness(stack, item["id"]) if r["scope_id"]} >= {
        "empty_answer"
    }


async def test_closed_accounts_are_tombstoned_when_a_404_proves_it(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=2)
    [closing, staying] = await stack.live(item["id"], "accounts")
    await stack.update(item["id"], close=[closing])
    assert set(await stack.live(item["id"], "accounts")) == {staying}
    await stack.assert_equal(item["id"])


async def test_an_account_missing_from_one_list_but_answering_by_id_stays(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    accounts = await stack.live(item["id"], "accounts")
    await stack.collect(item["id"], created=1)
    await stack.fault("GET /accounts", kind="empty", times=1)
    await stack.process("item/updated", item["id"])
    assert set(await stack.live(item["id"], "accounts")) == set(accounts)
    await stack.assert_equal(item["id"])


async def test_many_absent_rows_are_asked_for_in_portions(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await stack.synced_item(transactions=60, accounts=4)
    [staying, *closing] = await stack.live(item["id"], "accounts")
    await stack.collect(item["id"], close=closing)
    monkeypatch.setattr(listings, "ASK_TIMEOUT_S", -1.0)
    await stack.tell("item/updated", item["id"])
    for left in (3, 2, 1):
        await stack.quiet()
        assert len(await stack.live(item["id"], "accounts")) == left
        assert (await stack.states(item["id"]))[-1] == ("pending" if left > 1 else "applied")
        await stack.shift(timedelta(hours=1))
    assert set(await stack.live(item["id"], "accounts")) == {staying}
    await stack.assert_equal(item["id"])


async def test_every_question_prolongs_the_lease(stack: Stack) -> None:
    item = await stack.synced_item(transactions=60, accounts=4)
    closing = list(await stack.live(item["id"], "accounts"))[1:]
    await stack.collect(item["id"], close=closing)
    await stack.tell("item/updated", item["id"])
    lease = await stack.claim()
    left: list[timedelta] = []

    class SlowReader(PluggyReader):
        async def row(self, path: str) -> bytes:
            left.append(await stack.db.fetchval(LEFT_OF_THE_LEASE, lease.item_id))
            await stack.db.execute(SHORTEN_THE_LEASE, lease.item_id)
            return await super().row(path)

    claim = await stack.worker.engine._begin(lease)
    await claim.open_run("sync")
    claim.pluggy = SlowReader(stack.client, Lane.LIVE)
    await listings.sync_listing(claim, ACCOUNTS, source_updated_at=None)
    assert len(left) == 3
    assert min(left) > timedelta(seconds=5)
