"""Pluggy's id of a request: kept where its answer has no errorId, and where an answer was odd."""

from __future__ import annotations

from typing import Any

import pytest
from arq.connections import ArqRedis

from tests.support.pluggy_stub import PluggyStub, Said, give_up_after, reading
from tests.support.stack import Stack
from worker.pluggy_api.errors import PluggyError

ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
HEADERS = {"x-request-id": ID}


@pytest.mark.parametrize(
    "said",
    [
        Said(429, {"code": 429}, HEADERS | {"RateLimit-Reset": "1"}),
        Said(429, {"code": 429, "codeDescription": "OWN_LIMIT"}, HEADERS),
        Said(502, b"<html><body>Bad gateway</body></html>", HEADERS),
        Said(400, {"code": 400, "message": "itemId must be a UUID"}, HEADERS),
        Said(403, {"code": 403, "codeDescription": "NOT_YOURS"}, HEADERS),
        Said(404, {"code": 404, "codeDescription": "ITEM_NOT_FOUND"}, HEADERS),
        Said(200, b"<html>maintenance</html>", HEADERS),
        Said(200, {"data": []}, HEADERS),
    ],
    ids=["429", "own limit", "html", "400", "403", "404", "odd 200", "no list"],
)
async def test_an_answer_without_an_error_id_is_named_by_its_request(
    redis: ArqRedis, said: Said
) -> None:
    async with PluggyStub(said) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyError) as raised:
            await reader.rows("/loans?itemId=1")
        assert ID in (raised.value.error_id, reader.request_id)


async def test_the_error_id_of_an_answer_goes_before_the_id_of_its_request(redis: ArqRedis) -> None:
    said = Said(500, {"code": 500, "errorId": "e-1"}, HEADERS)
    async with PluggyStub(said) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyError) as raised:
            await reader.row("/items/1")
        assert raised.value.error_id == "e-1"


@pytest.mark.parametrize("odd", ["", "a b", "x" * 121, "<script>"])
async def test_what_is_no_plain_id_is_not_kept(redis: ArqRedis, odd: str) -> None:
    said = Said(502, b"", {"x-request-id": odd})
    async with PluggyStub(said) as pluggy, reading(pluggy.url, redis) as reader:
        with pytest.raises(PluggyError) as raised:
            await reader.row("/items/1")
        assert raised.value.error_id is None


async def test_a_time_out_is_not_named_by_the_request_before_it(redis: ArqRedis) -> None:
    answers = Said(200, {"id": 1}, HEADERS), Said(200, {}, wait_s=3)
    async with PluggyStub(*answers) as pluggy, reading(pluggy.url, redis) as reader:
        await reader.row("/items/1")
        assert reader.request_id == ID
        give_up_after(reader.client, 0.5)
        with pytest.raises(PluggyError, match="timeout"):
            await reader.row("/items/1")
        assert reader.request_id is None


# Stored


async def ids_of(stack: Stack, item_id: str, path: str) -> set[str]:
    """The ids of the requests for a path of an item, as Pluggy's own log has them."""
    log = (await stack.simulator.aget("/_simulator/requests?last=500"))["log"]
    return {
        entry["requestId"]
        for entry in log
        if entry["item"] == item_id and entry["path"].startswith(path)
    }


async def last_run(stack: Stack, item_id: str) -> Any:
    return await stack.db.fetchrow(
        "SELECT * FROM pluggy_ops.runs WHERE item_id = $1 ORDER BY id DESC LIMIT 1", item_id
    )


async def step_id(stack: Stack, item_id: str, product: str) -> str | None:
    error_id: str | None = await stack.db.fetchval(
        "SELECT error_id FROM pluggy_ops.freshness WHERE item_id = $1 AND product = $2",
        item_id,
        product,
    )
    return error_id


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 502, "body": {"message": "Bad gateway"}},
        {"kind": "status", "status": 200, "body": {"data": []}},
        {"kind": "garbage"},
    ],
    ids=["502", "no list", "html"],
)
async def test_a_failure_without_an_error_id_is_shown_with_the_id_of_its_request(
    stack: Stack, fault: dict[str, Any]
) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.fault("GET /loans", query="itemId=", rate=1, **fault)
    await stack.reset_requests()
    await stack.update(item["id"], products={"loans": {"created": 1}})
    asked = await ids_of(stack, item["id"], "/loans")
    assert await step_id(stack, item["id"], "loans") in asked
    assert (await last_run(stack, item["id"]))["error_id"] in asked


async def test_a_limit_is_kept_on_its_run(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    body = {"message": "Too many", "code": 429, "codeDescription": "TOO_MANY_REQUESTS_OF_LOANS"}
    await stack.fault("GET /loans", kind="status", status=429, rate=1, body=body)
    await stack.reset_requests()
    await stack.update(item["id"], products={"loans": {"created": 1}})
    runs = await stack.db.fetch(
        "SELECT error_id FROM pluggy_ops.runs WHERE item_id = $1 AND failure_code LIKE '429:%'",
        item["id"],
    )
    asked = await ids_of(stack, item["id"], "/loans")
    assert {run["error_id"] for run in runs} <= asked
    assert runs
    assert await step_id(stack, item["id"], "loans") in asked


async def test_a_dead_letter_has_the_id_of_the_request_that_killed_it(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    body = {"message": "itemId must be a UUID", "code": 400}
    await stack.fault("GET /loans", kind="status", status=400, rate=1, body=body)
    await stack.reset_requests()
    await stack.update(item["id"], products={"loans": {"created": 1}})
    [letter] = await stack.db.fetch(
        "SELECT * FROM pluggy_ops.dead_letters WHERE item_id = $1", item["id"]
    )
    assert letter["error_id"] in await ids_of(stack, item["id"], "/loans")


async def test_a_run_that_was_well_keeps_the_id_of_its_odd_answer(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.update(item["id"], created=1)
    assert (await last_run(stack, item["id"]))["error_id"] is None
    await stack.reset_requests()
    await stack.fault("GET /loans", kind="novelty", times=1, query="itemId=")
    await stack.update(item["id"], products={"loans": {"updated": 1}})
    run = await last_run(stack, item["id"])
    assert (run["outcome"], run["failure_code"]) == ("done", None)
    assert run["error_id"] in await ids_of(stack, item["id"], "/loans")


async def test_rejected_rows_leave_the_id_of_their_answer_on_the_run(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.reset_requests()
    await stack.fault("GET /loans", kind="fields", rate=1, query="itemId=", fields={"id": "no id"})
    await stack.update(item["id"], products={"loans": {"updated": 1}})
    run = await last_run(stack, item["id"])
    assert run["rejected"] > 0
    assert run["error_id"] in await ids_of(stack, item["id"], "/loans")


async def test_drift_that_a_verify_finds_leaves_the_id_of_its_answer(stack: Stack) -> None:
    item = await stack.synced_item(transactions=10)
    await stack.db.execute("DELETE FROM pluggy.loans WHERE item_id = $1", item["id"])
    await stack.reset_requests()
    await stack.process_order("sync/verify", item["id"])
    found = await stack.db.fetch(
        "SELECT r.error_id FROM pluggy_ops.runs r"
        " JOIN pluggy_ops.drift d ON d.run_id = r.id WHERE r.item_id = $1",
        item["id"],
    )
    assert {row["error_id"] for row in found} <= await ids_of(stack, item["id"], "/loans")
    assert found
