"""Items of withdrawn connectors: announced in time, kept as ended, erased only by order."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from ops.cli.item_deletion import order_erasure
from tests.maintaining.test_purge import RETENTION, personal, purge, receipts, wait, where_found
from tests.maintaining.test_reference_data import MINUTE, refresh, shift
from tests.support.stack import TABLES, Stack, now
from worker.maintenance.installation import remember_settings

BRADESCO, BRADESCO_OPEN = 203, 603
DAY = timedelta(days=1)
CONTROL = f"/_simulator/connectors/{BRADESCO}"


@pytest.fixture(autouse=True)
async def offered(stack: Stack) -> AsyncIterator[None]:
    """The simulator is shared: the connector is offered before and after each test."""
    yield
    await stack.simulator.apost(CONTROL, {"withdrawn": False})
    await stack.clear_faults()


async def look(stack: Stack) -> None:
    """The daily refresh of connectors, whatever day it is."""
    await shift(stack, DAY + MINUTE)
    await refresh(stack)


async def withdraw(stack: Stack) -> None:
    """Pluggy withdraws the connector, and a refresh finds that."""
    await stack.simulator.apost(CONTROL, {"withdrawn": True})
    await look(stack)


async def kept_item(stack: Stack, **options: Any) -> dict[str, Any]:
    """A mirrored item of the connector, with the reference data read."""
    await refresh(stack)
    wanted = {"connectorId": BRADESCO, "transactions": 40, "clientUserId": "ana"} | options
    return await stack.synced_item(**wanted)


async def deleted_by_pluggy(stack: Stack, item_id: str) -> None:
    await stack.simulator.adelete(f"/_simulator/items/{item_id}")
    await stack.process("item/deleted", item_id)


async def item_row(stack: Stack, item_id: str) -> asyncpg.Record:
    found = await stack.db.fetchrow("SELECT * FROM pluggy.items WHERE id = $1", item_id)
    assert found is not None
    return found


async def withdrawals(stack: Stack) -> list[asyncpg.Record]:
    return await stack.db.fetch("SELECT * FROM pluggy_sync.withdrawn_connectors")


async def everything_live(stack: Stack, item_id: str) -> dict[str, set[str]]:
    return {table: set(await stack.live(item_id, table)) for table in TABLES}


async def kinds(stack: Stack) -> list[str]:
    found = await stack.db.fetch("SELECT kind FROM pluggy_ops.worklist")
    return [record["kind"] for record in found]


async def test_items_of_a_withdrawn_connector_are_on_the_worklist_and_the_light_stays_green(
    stack: Stack,
) -> None:
    item = await kept_item(stack)
    assert await kinds(stack) == []
    await withdraw(stack)
    [row] = await stack.db.fetch("SELECT * FROM pluggy_ops.worklist")
    assert (row["kind"], row["severity"], row["blocked_on"]) == (
        "connector_withdrawn",
        "info",
        "user",
    )
    assert (str(row["item_id"]), row["connector_name"]) == (item["id"], "Bradesco")
    assert "Conecte-o de novo pelo Open Finance" in row["what"]
    assert row["command"] == f"pluggy-sync items show {item['id']}"
    assert row["since"] is not None
    colours = await stack.db.fetchval(
        "SELECT count(*) FROM pluggy_ops.findings"
        " WHERE kind = 'connector_withdrawn' AND severity <> 'info'"
    )
    assert colours == 0


async def test_a_connector_that_is_offered_again_is_forgotten_with_its_row(stack: Stack) -> None:
    await kept_item(stack)
    await withdraw(stack)
    await stack.simulator.apost(CONTROL, {"withdrawn": False})
    await look(stack)
    assert await withdrawals(stack) == []
    assert await kinds(stack) == []


async def test_an_unlisted_connector_that_answers_by_id_is_announced_and_not_withdrawn(
    stack: Stack,
) -> None:
    """Some applications still get it by id: the person is asked, but nothing is kept for it."""
    item = await kept_item(stack)
    body = await stack.simulator.aget("/_simulator/truth")
    listed = [c for c in body["connectors"] if c["id"] != BRADESCO]
    await stack.simulator.apost(CONTROL, {"unlisted": True})
    await look(stack)
    [record] = await withdrawals(stack)
    assert (record["connector_id"], record["withdrawn_at"]) == (BRADESCO, None)
    assert len(listed) == len(body["connectors"]) - 1
    assert await kinds(stack) == ["connector_withdrawn"]
    await deleted_by_pluggy(stack, item["id"])
    assert (await item_row(stack, item["id"]))["ended_at"] is None


async def test_a_list_that_may_go_on_withdraws_nothing(stack: Stack) -> None:
    await kept_item(stack)
    await stack.fault("GET /connectors", kind="no_paging", rate=1.0)
    await withdraw(stack)
    assert await withdrawals(stack) == []
    assert "connector_withdrawn" not in await kinds(stack)


async def test_the_time_of_the_first_read_without_it_stays(stack: Stack) -> None:
    await kept_item(stack)
    await withdraw(stack)
    [first] = await withdrawals(stack)
    await look(stack)
    assert await withdrawals(stack) == [first]


async def test_a_connector_withdrawn_before_the_start_is_recorded_for_its_items(
    stack: Stack,
) -> None:
    await stack.simulator.apost(CONTROL, {"withdrawn": True})
    item = await kept_item(stack)
    await look(stack)
    [record] = await withdrawals(stack)
    assert record["connector_id"] == BRADESCO
    assert record["withdrawn_at"] is not None
    await deleted_by_pluggy(stack, item["id"])
    assert (await item_row(stack, item["id"]))["ended_at"] is not None


async def test_an_item_deleted_after_its_connector_was_withdrawn_is_kept_and_never_purged(
    stack: Stack,
) -> None:
    item = await kept_item(stack)
    before = await everything_live(stack, item["id"])
    await withdraw(stack)
    await deleted_by_pluggy(stack, item["id"])
    row = await item_row(stack, item["id"])
    assert row["ended_at"] == row["deleted_at"] is not None
    assert await everything_live(stack, item["id"]) == before
    assert len(before["transactions"]) == 40
    for table in TABLES:
        for live in (await stack.live(item["id"], table)).values():
            assert live["ended_at"] == row["ended_at"]
    shown = await stack.db.fetchval("SELECT ended_at FROM pluggy_live.items")
    assert shown == row["ended_at"]
    await wait(stack, 400 * DAY)
    assert await purge(stack) == 0
    assert await everything_live(stack, item["id"]) == before
    assert await kinds(stack) == []
    assert set(await stack.states(item["id"])) == {"applied"}


@pytest.mark.parametrize("event", ["item/updated", "item/deleted", "item/created"])
async def test_later_events_of_an_ended_item_change_nothing(stack: Stack, event: str) -> None:
    item = await kept_item(stack)
    await withdraw(stack)
    await deleted_by_pluggy(stack, item["id"])
    before = await everything_live(stack, item["id"])
    await stack.process(event, item["id"])
    assert await everything_live(stack, item["id"]) == before
    assert (await item_row(stack, item["id"]))["ended_at"] is not None


async def test_a_withdrawal_recorded_after_the_deletion_was_announced_keeps_nothing(
    stack: Stack,
) -> None:
    item = await kept_item(stack)
    await stack.simulator.adelete(f"/_simulator/items/{item['id']}")
    await stack.tell("item/deleted", item["id"])
    await stack.simulator.apost(CONTROL, {"withdrawn": True})
    # The event stays where it is in time, and the refresh comes after it.
    await stack.db.execute(
        "UPDATE pluggy_sync.reference_data_sync SET complete_read_at = NULL, started_at = NULL,"
        " absences_asked_at = NULL"
    )
    await refresh(stack)
    [record] = await withdrawals(stack)
    assert record["withdrawn_at"] is not None
    await stack.quiet()
    assert (await item_row(stack, item["id"]))["ended_at"] is None
    assert await everything_live(stack, item["id"]) == {table: set() for table in TABLES}
    await wait(stack, RETENTION)
    assert await purge(stack) > 0
    assert len(await receipts(stack, item["id"])) == 1


async def test_no_payload_makes_an_item_ended(stack: Stack) -> None:
    """What an event, the item or its connector's JSON says of an end counts for nothing."""
    item = await kept_item(stack)
    forged = {
        "connectorId": BRADESCO,
        "data": {"status": "WITHDRAWN"},
        "reason": "CONNECTOR_WITHDRAWN",
        "endedAt": "2026-01-01T00:00:00.000Z",
        "connector": {"id": BRADESCO, "withdrawn": True},
    }
    await stack.simulator.adelete(f"/_simulator/items/{item['id']}")
    await stack.tell("connector/status_updated", item["id"], id=str(BRADESCO), **forged)
    await stack.process("item/deleted", item["id"], **forged)
    assert await withdrawals(stack) == []
    assert (await item_row(stack, item["id"]))["ended_at"] is None
    assert await stack.live(item["id"]) == {}


async def test_an_earlier_false_deletion_does_not_count_as_the_announcement(stack: Stack) -> None:
    item = await kept_item(stack)
    await stack.process("item/deleted", item["id"])
    await stack.after(timedelta(minutes=6))
    assert (await item_row(stack, item["id"]))["deleted_at"] is None
    await withdraw(stack)
    await deleted_by_pluggy(stack, item["id"])
    assert (await item_row(stack, item["id"]))["ended_at"] is not None


async def test_an_item_of_an_offered_connector_is_purged_as_ever(stack: Stack) -> None:
    other = await stack.synced_item(transactions=5)
    await kept_item(stack)
    await withdraw(stack)
    await deleted_by_pluggy(stack, other["id"])
    assert (await item_row(stack, other["id"]))["ended_at"] is None
    await wait(stack, RETENTION)
    assert await purge(stack) > 0
    assert len(await receipts(stack, other["id"])) == 1


async def test_with_keep_ended_off_nothing_is_kept(stack: Stack) -> None:
    first, second = await kept_item(stack), await kept_item(stack)
    await withdraw(stack)
    await deleted_by_pluggy(stack, first["id"])
    await remember_settings(stack.db, "America/Sao_Paulo", 360, keep_ended=False)
    await deleted_by_pluggy(stack, second["id"])
    assert (await item_row(stack, first["id"]))["ended_at"] is not None
    assert (await item_row(stack, second["id"]))["ended_at"] is None
    await wait(stack, RETENTION)
    await purge(stack)
    assert len(await receipts(stack, first["id"])) == 1
    assert len(await receipts(stack, second["id"])) == 1


async def test_an_ended_item_that_answers_again_is_live_again(stack: Stack) -> None:
    item = await kept_item(stack)
    await withdraw(stack)
    await stack.fault(
        "GET /items", kind="status", status=404, codeDescription="ITEM_NOT_FOUND", times=1
    )
    await stack.process("item/deleted", item["id"])
    assert (await item_row(stack, item["id"]))["ended_at"] is not None
    await stack.process("item/updated", item["id"])
    row = await item_row(stack, item["id"])
    assert (row["ended_at"], row["deleted_at"]) == (None, None)
    await stack.assert_equal(item["id"])


async def test_items_delete_erases_an_ended_item_with_a_receipt(stack: Stack) -> None:
    item = await kept_item(stack)
    truth = json.loads(await stack.simulator.truth(item["id"]))
    needles = {
        name: text
        for name, text in personal(item | {"person": "ana", "truth": truth}).items()
        if name not in ("clientUserId", "consent")
    }
    await withdraw(stack)
    await deleted_by_pluggy(stack, item["id"])
    assert await where_found(stack, needles) != {}
    done = await order_erasure(stack.db, stack.client, uuid.UUID(item["id"]))
    assert (done.stored, done.deleted_at_pluggy) == (True, False)
    await stack.quiet()
    assert await purge(stack) > 0
    [receipt] = await receipts(stack, item["id"])
    deleted = json.loads(receipt["deleted"])
    assert (deleted["transactions"], deleted["items"]) == (40, 1)
    assert receipt["erasure_ordered_at"] is not None
    assert await where_found(stack, needles) == {}
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.erasures") == 0


async def test_items_delete_of_a_live_item_deletes_it_at_pluggy_and_purges_at_once(
    stack: Stack,
) -> None:
    """Also on a withdrawn connector: an order of a person is no removal by Pluggy."""
    item = await kept_item(stack)
    await withdraw(stack)
    done = await order_erasure(stack.db, stack.client, uuid.UUID(item["id"]))
    assert (done.stored, done.deleted_at_pluggy) == (True, True)
    await stack.quiet()
    assert (await item_row(stack, item["id"]))["ended_at"] is None
    assert await purge(stack) > 0
    assert len(await receipts(stack, item["id"])) == 1
    listed = await stack.simulator.aget("/_simulator/truth")
    assert item["id"] in listed["deleted"]


async def test_items_delete_of_an_item_that_is_not_stored_deletes_it_at_pluggy_alone(
    stack: Stack,
) -> None:
    item = await stack.item(transactions=5)
    done = await order_erasure(stack.db, stack.client, uuid.UUID(item["id"]))
    assert (done.stored, done.deleted_at_pluggy) == (False, True)
    nobody = await order_erasure(stack.db, stack.client, uuid.uuid4())
    assert (nobody.stored, nobody.deleted_at_pluggy) == (False, False)
    assert await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.erasures") == 0


async def test_an_erasure_that_pluggy_does_not_confirm_is_on_the_worklist(stack: Stack) -> None:
    item = await kept_item(stack)
    await order_erasure(stack.db, stack.client, uuid.UUID(item["id"]))
    await stack.db.execute(
        "UPDATE pluggy_sync.erasures SET ordered_at = $1", now() - timedelta(days=2)
    )
    assert await kinds(stack) == ["purge_late"]
