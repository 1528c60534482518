"""The ops process: its API, its page, its settings, and its end."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid

import aiohttp
import pytest
from arq.connections import ArqRedis
from click.testing import CliRunner
from structlog.testing import capture_logs

from ops.cli.main import main
from ops.web.page import heading, table
from ops.web.settings import OpsSettings
from tests.support.ops import BEARER, TOKEN, OpsClient, OpsProcess, open_ops, ops_environment
from tests.support.receiver import Client, Reply
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, now
from tests.support.waiting import until
from worker.inbox.accept import accept_events
from worker.inbox.events import registration
from worker.infra.postgres import Pool
from worker.infra.settings import SettingsError, load
from worker.store.waits import register_item

USER = "maria@example.com"
NAMED = {"clientUserId": USER, "avoidDuplicates": True, "oauthRedirectUri": "https://a.example/x"}


def error_of(reply: Reply) -> tuple[int, str]:
    assert set(reply.body) == {"error", "detail"}
    return reply.status, reply.body["error"]


async def test_an_item_is_shown_with_the_freshness_of_its_products(
    ops: OpsClient, stack: Stack
) -> None:
    made = await stack.synced_item(transactions=10, clientUserId=USER)
    reply = await ops.call("GET", f"/v1/items/{made['id']}")
    shown = reply.body
    assert (reply.status, shown["state"], shown["light"]) == (200, "idle", "green")
    of_accounts = [p for p in shown["products"] if p["product"] == "transactions"]
    assert of_accounts
    assert {p["state"] for p in shown["products"]} == {"fresh"}
    assert USER not in json.dumps(shown)


async def test_an_item_is_looked_up_by_a_uuid_that_is_known(ops: OpsClient) -> None:
    unknown = await ops.call("GET", f"/v1/items/{uuid.uuid4()}")
    assert error_of(unknown) == (404, "item_not_found")
    assert error_of(await ops.call("GET", "/v1/items/1")) == (400, "malformed_item_id")


async def test_a_connect_token_is_made_with_our_key_for_the_options_given(
    ops: OpsClient, stack: Stack, quiet_simulator: SimulatorProcess
) -> None:
    made = await stack.item()
    with capture_logs() as logged:
        reply = await ops.call("POST", "/v1/connect-tokens", json=NAMED | {"itemId": made["id"]})
    assert (reply.status, set(reply.body)) == (201, {"accessToken"})
    text = reply.body["accessToken"]
    assert [line["event"] for line in logged] == ["connect_token_created"]
    assert not [secret for secret in (text, USER) if secret in str(logged)]
    # The browser can read all that a token says: nothing of ours is in it.
    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    assert (claims["itemId"], claims["options"]) == (made["id"], NAMED)
    token = {"X-API-KEY": text}
    assert quiet_simulator.call("GET", f"/items/{made['id']}", headers=token)[0] == 200
    # It reads this item, and none of what our key reads.
    path = f"/v2/transactions?accountId={uuid.uuid4()}"
    assert quiet_simulator.call("GET", path, headers=token)[0] == 403


async def test_a_connect_token_for_an_item_that_pluggy_does_not_know_is_not_made(
    ops: OpsClient,
) -> None:
    body = NAMED | {"itemId": str(uuid.uuid4())}
    reply = await ops.call("POST", "/v1/connect-tokens", json=body)
    assert error_of(reply) == (404, "item_not_found")


@pytest.mark.parametrize(
    ("data", "headers", "refused"),
    [
        (b"{", {}, (400, "malformed_body")),
        (b"[]", {}, (400, "malformed_body")),
        (b"\xff", {}, (400, "malformed_body")),
        (b"{}", {}, (400, "malformed_request")),
        (b'{"clientUserId": ""}', {}, (400, "malformed_request")),
        (b'{"clientUserId": 7}', {}, (400, "malformed_request")),
        (b'{"clientUserId": "u", "itemId": "x"}', {}, (400, "malformed_request")),
        (
            b'{"clientUserId": "u", "webhookUrl": "https://x.example"}',
            {},
            (400, "malformed_request"),
        ),
        *(
            (
                b'{"clientUserId": "u", "oauthRedirectUri": "%b"}' % uri,
                {},
                (400, "malformed_request"),
            )
            for uri in (
                b"javascript:1",
                b"https://",
                b"https://[::1",
                b"https://:80",
                b"//x.example",
            )
        ),
        *(
            (
                b'{"clientUserId": "u", "oauthRedirectUri": "https://x%b"}' % odd,
                {},
                (400, "malformed_request"),
            )
            for odd in (b" y", b"\\n", b"\\u0000", b":port")
        ),
        (b'{"clientUserId": "\xff"}', {}, (400, "malformed_body")),
        (b" " * 70_000, {}, (413, "payload_too_large")),
        (b"{}", {"Content-Encoding": "gzip"}, (415, "unsupported_media_type")),
        (b"{}", {"Content-Type": "application/xml"}, (415, "unsupported_media_type")),
    ],
)
async def test_a_body_that_is_wrong_is_refused_by_name(
    ops: OpsClient, data: bytes, headers: dict[str, str], refused: tuple[int, str]
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    reply = await ops.call("POST", "/v1/connect-tokens", data=data, headers=sent)
    assert error_of(reply) == refused


@pytest.mark.parametrize(
    ("method", "path", "refused"),
    [
        ("GET", "/nowhere", (404, "not_found")),
        ("GET", "/v1/connect-tokens", (405, "method_not_allowed")),
        ("DELETE", f"/v1/items/{uuid.UUID(int=1)}", (405, "method_not_allowed")),
        ("POST", "/v1/dead-letters/x/requeue", (400, "malformed_id")),
        ("POST", f"/v1/dead-letters/{2**63}/requeue", (400, "malformed_id")),
        ("POST", f"/v1/dead-letters/{'1' * 5000}/requeue", (400, "malformed_id")),
        ("POST", "/v1/dead-letters/1/requeue", (404, "dead_letter_not_found")),
    ],
)
async def test_every_error_is_json(
    ops: OpsClient, method: str, path: str, refused: tuple[int, str]
) -> None:
    assert error_of(await ops.call(method, path)) == refused


async def test_a_dead_letter_is_requeued_once(ops: OpsClient, db: Pool, redis: ArqRedis) -> None:
    item = uuid.uuid4()
    await accept_events(db, [registration(item, now())])
    await db.execute("UPDATE pluggy_sync.webhook_events SET state = 'dead', reason = '404:X'")
    await db.execute("UPDATE pluggy_sync.item_sync SET run_at = NULL")
    event = await db.fetchval("SELECT id FROM pluggy_sync.webhook_events")
    path = f"/v1/dead-letters/{event}/requeue"
    reply = await ops.call("POST", path)
    assert reply.body == {
        "id": event,
        "event": "sync/register",
        "item_id": str(item),
        "status": "requeued",
    }
    assert await db.fetchval("SELECT run_at <= now() FROM pluggy_sync.item_sync")
    assert error_of(await ops.call("POST", path)) == (404, "dead_letter_not_found")


async def test_registering_stores_the_same_event_as_the_receiver(db: Pool) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    registered = [await register_item(db, first) for _ in range(2)]
    assert [(r.is_new, r.made_due) for r in registered] == [(True, True), (False, False)]
    [accepted] = await accept_events(db, [registration(first, now())])
    assert not accepted.is_new  # type: ignore[union-attr]
    await accept_events(db, [registration(second, now())])
    assert not (await register_item(db, second)).is_new
    stored = (
        "SELECT DISTINCT event, lane, state, reason, settled_at FROM pluggy_sync.webhook_events"
    )
    assert [tuple(row) for row in await db.fetch(stored)] == [
        ("sync/register", 0, "pending", None, None)
    ]
    assert await db.fetchval(
        "SELECT array_agg(DISTINCT generation) FROM pluggy_sync.item_sync"
    ) == [1]
    await db.execute("UPDATE pluggy_sync.webhook_events SET state = 'dead'")
    assert (await register_item(db, first)).is_new


async def test_an_item_is_registered_once(ops: OpsClient) -> None:
    item = {"itemId": str(uuid.uuid4())}
    for status in ("accepted", "duplicate"):
        reply = await ops.call("POST", "/v1/items", json=item)
        assert (reply.status, reply.body) == (202, {"status": status})
    refused = await ops.call("POST", "/v1/items", json={"itemId": "x"})
    assert error_of(refused) == (400, "malformed_request")


async def test_the_page_says_what_is_wrong_and_which_command_helps(ops: OpsClient) -> None:
    reply = await ops.call("GET", "/")
    assert reply.status == 200
    assert '<h1 class="red">' in reply.body  # no worker is alive
    assert "worker" in reply.body
    assert "<script" not in reply.body
    assert not re.search(r"\son\w+=|style=", reply.body)


async def test_the_page_finds_items_by_client_user_and_leads_to_connect(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    made = await stack.synced_item(transactions=5, clientUserId=USER)
    async with open_ops(database_url, redis_url, token=TOKEN) as ops:
        start = (await ops.call("GET", "/")).body
        assert '<form action="/">' in start
        assert '<a href="/connect">' in start
        found = await ops.call("GET", "/", params={"user": USER}, headers=BEARER)
        other = await ops.call("GET", "/", params={"user": f"{USER}\0"}, headers=BEARER)
    assert (found.status, other.status) == (200, 200)
    assert made["id"] in found.body
    assert "fresh" in found.body
    assert made["id"] not in other.body
    assert USER not in found.body + other.body
    assert "<script" not in found.body


async def test_without_a_token_the_page_names_the_command_that_finds_items(ops: OpsClient) -> None:
    shown = (await ops.call("GET", "/")).body
    assert "<form" not in shown
    assert "pluggy-sync items list --user" in shown


def test_what_a_page_shows_is_text() -> None:
    shown = heading("red", "<b>") + table(["<i>"], [['"><script>alert(1)</script>', None]])
    assert not re.search(r"<(?!/?(?:h1|table|tr|th|td)[ >])", shown)


async def test_probes_answer_and_figures_are_served(ops: OpsClient) -> None:
    for path in ("/livez", "/readyz"):
        assert (await ops.call("GET", path)).body == {"status": "ok"}
    assert await ops.metric("pluggy_sync_waits") == 0


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        # Addresses of documentation, which no machine has.
        ({"OPS_HOST": "192.0.2.1"}, "OPS_TOKEN: is needed, because OPS_HOST is not on loopback"),
        ({"OPS_HOST": "2001:db8::1", "OPS_TOKEN": ""}, "OPS_TOKEN: is needed, because OPS_HOST"),
        ({"OPS_TOKEN": "short"}, "OPS_TOKEN: at least 16 visible ASCII characters, no spaces"),
        ({"OPS_TOKEN": "with a blank in it all"}, "OPS_TOKEN: at least 16 visible"),
        ({"OPS_PORT": "65536"}, "OPS_PORT: "),
        ({"PLUGGY_CLIENT_ID": ""}, "PLUGGY_CLIENT_ID is not set"),
        (
            {"OPS_HOST": "192.0.2.1", "OPS_TOKEN": TOKEN},
            "OPS_HOST, OPS_PORT: 192.0.2.1:8090 cannot",
        ),
    ],
)
def test_it_refuses_to_start_with_one_line(environment: dict[str, str], said: str) -> None:
    ours = ops_environment(
        "postgresql://127.0.0.1:9/x", "redis://127.0.0.1:9/0", "http://127.0.0.1:9"
    )
    result = CliRunner().invoke(main, ["ops"], env=ours | environment)
    assert result.exit_code == 1
    line = result.stderr.removeprefix("pluggy-sync: ")
    assert line.startswith(said), line
    assert line.count("\n") == 1
    assert TOKEN not in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ops.example", "localhost.x"])  # noqa: S104 - refused
def test_only_loopback_needs_no_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ops_environment("postgresql:///x", "redis://127.0.0.1:9/0", "http://127.0.0.1:9")
    for name, value in (ours | {"OPS_HOST": host}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="OPS_TOKEN: is needed"):
        load(OpsSettings)
    for own in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        monkeypatch.setenv("OPS_HOST", own)
        assert load(OpsSettings).is_local


async def test_sigterm_ends_its_waits_and_itself(
    database_url: str, redis_url: str, db: Pool, quiet_simulator: SimulatorProcess
) -> None:
    item = uuid.uuid4()
    await register_item(db, item)
    given = ops_environment(database_url, redis_url, quiet_simulator.url)
    async with OpsProcess(**given, OPS_TOKEN=TOKEN) as process, aiohttp.ClientSession() as session:
        client = Client(f"http://127.0.0.1:{await process.port()}", session)
        wait = asyncio.create_task(client.call("GET", f"/v1/items/{item}/wait"))

        async def waits() -> bool:
            return await client.metric("pluggy_sync_waits") == 1

        await until(waits)
        process.stop()
        assert error_of(await wait) == (503, "stopping")
        assert await process.ended() == 0
        assert [line["event"] for line in map(json.loads, process.lines)] == [
            "ops_started",
            "ops_stopped",
        ]
