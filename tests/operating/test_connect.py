"""/connect without a browser: its policies, its refusals, and what it registers."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq.connections import ArqRedis

from ops.web.installation import Installation
from tests.support.ops import TOKEN, OpsClient, open_ops
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import CLIENT_ID, Stack, fill_budget

ANYWHERE = "0.0.0.0"  # noqa: S104 - its rules only; the test listens on loopback


@asynccontextmanager
async def open_as_with_the_real_pluggy(
    database_url: str, redis_url: str, pluggy_url: str
) -> AsyncIterator[OpsClient]:
    """An ops process that takes the simulator for Pluggy itself."""
    real = Installation(CLIENT_ID, "https://api.pluggy.ai")
    async with open_ops(database_url, redis_url, pluggy_url, installation=real) as opened:
        yield opened


def directives(policy: str) -> dict[str, list[str]]:
    parts = [part.split() for part in policy.split(";")]
    return {name: sources for name, *sources in parts}


async def test_with_a_simulator_the_page_lists_its_banks_and_needs_no_other_site(
    ops: OpsClient,
) -> None:
    reply = await ops.call("GET", "/connect")
    assert reply.status == 200
    assert "Nubank · open finance" in reply.body
    assert "https:" not in reply.body
    policy = directives(reply.headers["Content-Security-Policy"])
    assert policy["script-src"] == policy["connect-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]


async def test_the_widget_s_sites_are_allowed_on_this_page_alone(
    database_url: str, redis_url: str, redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> None:
    await fill_budget(redis)
    async with open_as_with_the_real_pluggy(database_url, redis_url, quiet_simulator.url) as ops:
        page = await ops.call("GET", "/connect")
        policy = directives(page.headers["Content-Security-Policy"])
        assert policy["script-src"] == ["'self'", "https://cdn.pluggy.ai"]
        assert policy["frame-src"] == ["https://connect.pluggy.ai"]
        assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]
        assert not re.search(r"<script(?![^>]* src=)[^>]*>", page.body)
        assert "pluggy" not in (await ops.call("GET", "/")).headers["Content-Security-Policy"]
        refused = await ops.call("POST", "/connect/simulated", json={"connectorId": 612})
        assert (refused.status, refused.body["error"]) == (404, "no_simulator")


async def test_other_machines_are_not_served(database_url: str, redis_url: str) -> None:
    async with open_ops(database_url, redis_url, token=TOKEN, host=ANYWHERE) as ops:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/connect", "/connect.js", f"/connect/items/{uuid.uuid4()}"):
            assert (await ops.call("GET", path, headers=bearer)).status == 404, path
        assert (await ops.call("POST", "/connect/simulated", headers=bearer, json={})).status == 404


async def test_an_item_that_is_registered_has_no_rows_yet(ops: OpsClient) -> None:
    item_id = str(uuid.uuid4())
    page = (await ops.call("GET", "/connect")).body
    token = re.search(r'data-csrf="([^"]+)"', page)
    assert token is not None
    headers = {"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": token[1]}
    reply = await ops.call("POST", "/v1/items", headers=headers, json={"itemId": item_id})
    assert reply.status == 202
    shown = (await ops.call("GET", f"/connect/items/{item_id}")).body
    assert (shown["state"], shown["light"], shown["rows"]) == ("new", "yellow", {})


async def test_what_is_no_id_is_refused(ops: OpsClient) -> None:
    for path in ("/connect?item=<script>", "/connect/items/x"):
        reply = await ops.call("GET", path)
        assert (reply.status, reply.body["error"]) == (400, "malformed_item_id")


async def test_a_simulated_bank_makes_an_item_whose_rows_are_counted(
    ops: OpsClient, stack: Stack
) -> None:
    asked = {"connectorId": 612, "clientUserId": "ana"}
    made = await ops.call("POST", "/connect/simulated", json=asked)
    assert made.status == 201
    item_id = made.body["itemId"]
    await ops.call("POST", "/v1/items", json={"itemId": item_id})
    await stack.quiet()
    shown = (await ops.call("GET", f"/connect/items/{item_id}")).body
    assert (shown["state"], shown["light"]) == ("idle", "green")
    assert shown["rows"]["transactions"] == 300
    again = await ops.call("POST", "/connect/simulated", json={"itemId": item_id})
    assert (again.status, again.body) == (201, {"itemId": item_id})


async def test_a_failure_of_pluggy_is_one_sentence(ops: OpsClient) -> None:
    reply = await ops.call("POST", "/connect/simulated", json={"itemId": str(uuid.uuid4())})
    assert reply.status == 404
    assert reply.body["detail"].startswith("Pluggy does not know the item")
    assert "\n" not in reply.body["detail"]
