"""`pluggy-sync webhooks test` and `rotate-secret`: the public address is tried as Pluggy does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from ops.cli import webhook_trial
from tests.maintaining.test_subscriptions import Hooks, hooks
from tests.operating.test_cli import CommandLine, complaint, with_pluggy
from tests.support.receiver import Doorway, open_receiver
from tests.support.stack import Stack
from worker.inbox.events import PING

__all__ = ["hooks"]
NEW, OLD = "the-new-secret-of-the-tests", "the-old-secret-of-the-tests"


@pytest.fixture
async def receiver(database_url: str, redis_url: str) -> AsyncIterator[Doorway]:
    both = (NEW, OLD)
    async with open_receiver(database_url, redis_url, secrets=both, patient=True) as opened:
        yield opened


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers at once that no host is named so, however slow the network's own is."""
    ask = socket.getaddrinfo

    def answer(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.fixture
def cli(stack: Stack, database_url: str, redis_url: str, receiver: Doorway) -> CommandLine:
    url = f"{receiver.url}/webhooks/pluggy"
    return with_pluggy(stack, database_url, redis_url, WEBHOOK_URL=url, WEBHOOK_SECRET=NEW)


async def test_a_ping_arrives_in_the_database_and_leads_to_nothing(
    cli: CommandLine, stack: Stack
) -> None:
    tried = await cli.json("webhooks", "test")
    assert [each["state"] for each in tried["deliveries"]] == ["arrived"]
    [stored] = await stack.db.fetch("SELECT * FROM pluggy_sync.webhook_events")
    assert (stored["event"], stored["state"], stored["reason"]) == (PING, "ignored", "ping")
    assert not await stack.db.fetch("SELECT FROM pluggy_sync.item_sync")
    assert not await stack.db.fetch("SELECT FROM pluggy_ops.worklist WHERE kind = 'events_kept'")


async def test_each_secret_is_tried(cli: CommandLine) -> None:
    tried = await cli("webhooks", "test", WEBHOOK_SECRET=f"{NEW},a-secret-of-nobody")
    assert tried.exit_code == 1
    assert "refuses the secret" in tried.stderr
    assert NEW not in tried.output
    assert "arrived" in tried.stdout


async def answering(status: int) -> tuple[web.AppRunner, str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/webhooks/pluggy", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/pluggy"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (202, "the receiver writes to another"),
        (302, "it redirects (302)"),
        (404, "a proxy has to pass on /webhooks/pluggy"),
        (503, "its GET /readyz says why"),
        (200, "this is no receiver of ours (status 200)"),
    ],
)
async def test_what_is_wrong_with_an_answer_is_said(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.setattr(webhook_trial, "ARRIVAL_TIMEOUT_S", 0)
    runner, url = await answering(status)
    failed = await cli("webhooks", "test", WEBHOOK_URL=url)
    await runner.cleanup()
    assert failed.exit_code == 1
    assert said in failed.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/webhooks/pluggy", "nothing listens there"),
        ("https://no-such-host.invalid/webhooks/pluggy", "its host name has no address"),
    ],
)
async def test_an_address_that_cannot_be_reached_is_said_so(
    cli: CommandLine, hooks: Hooks, name_server: None, url: str, said: str
) -> None:
    assert said in (await cli("webhooks", "test", WEBHOOK_URL=url)).stderr
    refused = complaint(await cli("webhooks", "register", WEBHOOK_URL=url))
    assert "nothing was changed" in refused
    assert said in refused
    assert hooks.call("GET", "/webhooks")["results"] == []


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the connection and what is sent, until the other side closes it."""
    with suppress(OSError):
        await reader.read()
    writer.close()


async def answers_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin an answer that never comes to its end."""
    writer.write(b"HTTP/1.1 202 Accepted\r\n")
    await says_nothing(reader, writer)


@pytest.mark.parametrize(
    ("scheme", "serve"),
    [("http", says_nothing), ("http", answers_slowly), ("https", says_nothing)],
)
async def test_an_address_that_does_not_answer_in_time_is_said_so(
    cli: CommandLine,
    hooks: Hooks,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    monkeypatch.setattr(webhook_trial, "DELIVERY_TIMEOUT_S", 0.2)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"{scheme}://127.0.0.1:{port}/webhooks/pluggy"
        tried = await cli("webhooks", "test", WEBHOOK_URL=url)
        refused = complaint(await cli("webhooks", "register", WEBHOOK_URL=url))
    assert complaint(tried) == (
        "no delivery to WEBHOOK_URL would do: no answer within 0.2 s, Pluggy's limit"
    )
    assert "timeout" in tried.stdout
    assert refused.startswith("nothing was changed: no delivery to WEBHOOK_URL would do: no answer")
    assert hooks.call("GET", "/webhooks")["results"] == []


async def test_a_receiver_without_tls_is_said_so(cli: CommandLine, receiver: Doorway) -> None:
    url = f"https://127.0.0.1:{receiver.port}/webhooks/pluggy"
    assert "TLS fails" in (await cli("webhooks", "test", WEBHOOK_URL=url)).stderr


async def test_a_secret_is_rotated_in_steps(cli: CommandLine, hooks: Hooks, stack: Stack) -> None:
    url = cli.environment["WEBHOOK_URL"]
    first = await cli.json("webhooks", "rotate-secret")
    assert first["step"] == "new_secret"
    assert len(first["new_secret"]) >= 32
    hooks.add("all", url, {"X-Webhook-Secret": OLD, "X-More": "1"})
    both = CommandLine(cli.environment | {"WEBHOOK_SECRET": f"{NEW},{OLD}"})
    done = await both.json("webhooks", "rotate-secret")
    assert done["step"] == "exchanged"
    [hook] = hooks.call("GET", "/webhooks")["results"]
    assert hook["headers"] == {"X-Webhook-Secret": NEW, "X-More": "1"}
    item = await stack.item()
    await both("items", "set-webhook", item["id"], "--url", f"{url}/{OLD}")
    await stack.process("item/created", item["id"])
    assert (await both.json("webhooks", "rotate-secret"))["step"] == "items"


async def test_nothing_is_exchanged_before_the_receiver_knows_the_new_secret(
    cli: CommandLine, hooks: Hooks
) -> None:
    hooks.add("all", cli.environment["WEBHOOK_URL"], {"X-Webhook-Secret": OLD})
    early = await cli("webhooks", "rotate-secret", WEBHOOK_SECRET=f"a-secret-of-nobody,{OLD}")
    assert "nothing is changed: a delivery with the new secret fails" in complaint(early)
    [hook] = hooks.call("GET", "/webhooks")["results"]
    assert hook["headers"] == {"X-Webhook-Secret": OLD}
