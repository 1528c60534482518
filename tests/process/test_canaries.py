"""A full run with marked secrets and personal data: none of them appears in any output."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest

import embedded
from embedded.ports import free_port
from ops.demo.processes import ARQ_WORKER, ChildEnded, children
from ops.migrations import migrate
from ops.roles import RECEIVER, WORKER, as_role
from tests.support.kept_database import execute, with_database
from tests.support.receiver import HEADER, Client, ReceiverProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import CLIENT_ID
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess

PERSONAL = {
    *("fullName", "document", "taxNumber", "fullAddress", "number", "transferNumber", "owner"),
    *("description", "descriptionRaw", "accountNumber", "value", "clientUserId", "name"),
}
PUBLIC = {"connector", "merchant", "creditCardMetadata"}
SAYS_MORE_FOR_S = 4.0
MONEY = {"balance", "closingBalance", "amount"}


def canary(name: str) -> str:
    return f"canary-{name}-{secrets.token_hex(8)}"


@dataclass(slots=True)
class Marks:
    """Marks that must not appear, by name, and all output, by source."""

    needles: dict[str, str] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str) -> str:
        return self.add(name, canary(name))

    def add(self, name: str, value: str) -> str:
        self.needles[f"{len(self.needles)} {name}"] = value
        return value

    def hear(self, where: str, said: str | Iterable[str]) -> None:
        text = said if isinstance(said, str) else "\n".join(said)
        self.heard[where] = self.heard.get(where, "") + text + "\n"

    def hits(self) -> list[tuple[str, str]]:
        """Marks found in the output, by source: plain, URL-encoded, or in JSON."""
        return [
            (where, name)
            for where, text in self.heard.items()
            for name, needle in self.needles.items()
            if any(form in text for form in forms(needle))
        ]


def forms(needle: str) -> set[str]:
    return {needle, quote(needle, safe=""), json.dumps(needle)[1:-1], needle.encode().hex()}


def people(value: object, key: str = "") -> Iterable[str]:
    """Names, documents, numbers, texts and amounts of a person's data."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in PUBLIC:
                yield from people(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from people(inner, key)
    elif (key in PERSONAL and isinstance(value, str) and len(value) >= 8) or (
        key in MONEY and isinstance(value, float) and len(str(value)) >= 7
    ):
        yield str(value)


@dataclass(frozen=True, slots=True)
class Site:
    """Servers that ask for passwords, and the roles of the processes with theirs."""

    owner_url: str
    receiver_url: str
    worker_url: str
    redis_url: str


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
async def site(marks: Marks) -> AsyncIterator[Site]:
    with embedded.database(None, tcp=True) as server, embedded.redis(None, tcp=True) as redis_url:
        owner_url = with_database(server, "canaries")
        await execute(server, "CREATE DATABASE canaries")
        await migrate(owner_url, roles=True)
        urls = {}
        for role in (RECEIVER, WORKER):
            password = marks.secret(f"password of {role}")
            await execute(server, f"ALTER ROLE {role} PASSWORD '{password}'")
            urls[role] = as_role(owner_url, role, quote(password))
        marks.add("password of the owner", urlsplit(server).password or "")
        marks.add("password of Redis", urlsplit(redis_url).password or "")
        yield Site(owner_url, urls[RECEIVER], urls[WORKER], redis_url)


async def command(marks: Marks, *arguments: str, **environment: str) -> None:
    """Run pluggy-sync and collect its output, with any exit status."""
    with children() as started:
        child = started.start("ops", ["ops", *arguments], **environment)
        await child.ended()
        marks.hear(f"pluggy-sync {' '.join(arguments)}", child.log.read_text())


async def commands(marks: Marks, item_id: str, **environment: str) -> None:
    spoken = (
        ["status"],
        ["items", "show", item_id],
        ["items", "register", item_id, "no-uuid"],
        ["dead-letters", "list"],
        ["dead-letters", "requeue", "--all", "--dry-run"],
        ["deletions", "list"],
        ["resync", "--all", "--dry-run"],
    )
    await asyncio.gather(*[command(marks, *arguments, **environment) for arguments in spoken])


def title(pid: int) -> str:
    """What `ps` shows of a process and of its threads."""
    if not Path("/proc").exists():
        shown = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=True
        )
        return shown.stdout
    files = [Path(f"/proc/{pid}/cmdline"), *Path(f"/proc/{pid}/task").glob("*/comm")]
    return "\n".join(file.read_text(errors="replace").replace("\0", " ") for file in files)


async def hear_postgres(marks: Marks, owner_url: str) -> None:
    """Every view of operators, and what the server shows of its sessions."""
    conn = await asyncpg.connect(owner_url)
    views = await conn.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'pluggy_ops'")
    assert len(views) >= 10
    for view in views:
        rows = await conn.fetch(f"SELECT v::text AS row FROM pluggy_ops.{view['viewname']} v")  # noqa: S608 - of pg_views
        marks.hear(f"pluggy_ops.{view['viewname']}", [row["row"] for row in rows])
    sessions = await conn.fetch("SELECT a::text AS row FROM pg_stat_activity a")
    marks.hear("pg_stat_activity", [row["row"] for row in sessions])
    await conn.close()


async def test_no_secret_and_nothing_personal_comes_out_of_a_full_run(
    site: Site, marks: Marks, quiet_simulator: SimulatorProcess
) -> None:
    await quiet_simulator.adelete("/_simulator/faults")
    secret, older = marks.secret("webhook secret"), marks.secret("secret while rotating")
    client_secret = marks.secret("client secret")
    person = marks.secret("client user")
    item = await quiet_simulator.apost(
        "/_simulator/items", {"connectorId": 600, "transactions": 60, "clientUserId": person}
    )
    truth = await quiet_simulator.aget(f"/_simulator/truth/{item['id']}")
    for text in sorted(set(people(truth))):
        marks.add(f"of the person: {text}", text)
    assert len(marks.needles) > 60
    async with (
        ReceiverProcess(
            DATABASE_URL=site.receiver_url,
            REDIS_URL=site.redis_url,
            WEBHOOK_SECRET=f"{secret},{older}",
            PYTHONDEVMODE="1",
        ) as receiver,
        WorkerProcess(
            site.worker_url,
            site.redis_url,
            quiet_simulator.url,
            PLUGGY_CLIENT_SECRET=client_secret,
            WEBHOOK_SECRET=f"{secret},{older}",
            WEBHOOK_URL=f"https://hooks.example/webhooks/pluggy/{secret}",
            LOG_LEVEL="DEBUG",
        ) as worker,
        aiohttp.ClientSession() as session,
    ):
        receiver_client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        await play(receiver_client, quiet_simulator, item, truth, secret, older, person)
        await settled(site.owner_url)
        marks.hear("title of the receiver", title(receiver.child.pid))
        marks.hear("title of the worker", title(worker.child.pid))
        marks.hear("receiver /metrics", str((await receiver_client.call("GET", "/metrics")).body))
        [started] = worker.said("health_server_started")
        answer = await Client(f"http://127.0.0.1:{started['port']}", session).call(
            "GET", "/metrics"
        )
        marks.hear("worker /metrics", str(answer.body))
        await hear_postgres(marks, site.owner_url)
        ours = {"DATABASE_URL": site.owner_url, "REDIS_URL": site.redis_url}
        await commands(marks, item["id"], **ours, LOG_LEVEL="DEBUG")
        await command(marks, "items", "show", item["id"], "--json", **ours)
        await refuse_everything(receiver_client, quiet_simulator, item, secret)
        receiver.stop()
        worker.stop()
        await receiver.ended()
        await worker.ended()
    marks.hear("receiver", receiver.lines)
    marks.hear("worker", worker.lines)
    await quiet_simulator.adelete("/_simulator/faults")
    assert await passed_through(site.owner_url, marks) > 30
    assert all(len(marks.heard[name]) > 200 for name in ("receiver", "worker", "worker /metrics"))
    assert "step_failed" in marks.heard["worker"]
    assert "event_kept" in marks.heard["receiver"]
    assert marks.hits() == []


async def play(
    receiver_client: Client,
    simulator: SimulatorProcess,
    item: dict[str, Any],
    truth: dict[str, Any],
    secret: str,
    older: str,
    person: str,
) -> None:
    """Deliver webhooks by both paths, unreadable ones too, while Pluggy fails in every way."""
    for match, kind in (
        ("GET /loans", "wrong_type"),
        ("GET /investments", "garbage"),
        ("GET /identity", "truncate"),
        ("GET /v2/transactions", "wrong_type"),
        ("GET /bills", "status"),
        ("GET /consents", "novelty"),
    ):
        await simulator.apost("/_simulator/faults", {"match": match, "kind": kind, "times": 1})

    def reported(event: str, /, **fields: Any) -> dict[str, Any]:
        known = {"event": event, "eventId": str(uuid.uuid4()), "itemId": item["id"]}
        return known | {"clientUserId": person} | fields

    name = truth["identities"][0]["fullName"]
    account = truth["accounts"][0]["id"]
    ids = [row["id"] for row in truth["transactions"][:3]]
    assert (await receiver_client.deliver(reported("item/created"), secret=secret)).status == 202
    by_path = await receiver_client.deliver(reported("item/updated"), secret=None, path=f"/{older}")
    assert by_path.status == 202
    await receiver_client.deliver(
        reported("transactions/updated", accountId=account, transactionIds=ids), secret=secret
    )
    kept = await receiver_client.deliver(reported("person/renamed", name=name), secret=secret)
    assert kept.body == {"status": "kept"}
    await receiver_client.deliver(reported("item/updated", itemId=name), secret=secret)
    await receiver_client.deliver(
        f'{{"event": "item/updated", "owner": "{name}"'.encode(), secret=secret
    )
    await receiver_client.deliver(json.dumps([name]).encode(), secret=secret)
    await receiver_client.deliver(reported("item/updated"), secret=secret + "x")
    for path in (f"/{secret}/", f"/{secret}/more", f"/{secret}x"):
        await receiver_client.deliver(reported("item/updated"), secret=None, path=path)
    await receiver_client.call("GET", f"/webhooks/pluggy/{secret}")
    await receiver_client.call("POST", f"/{secret}", headers={HEADER: secret})
    await receiver_client.speak(b"POST /webhooks/pluggy/%s\x01 HTTP/1.1\r\n\r\n" % secret.encode())


async def settled(owner_url: str) -> None:
    """Wait until the item is mirrored as far as possible."""
    conn = await asyncpg.connect(owner_url)

    async def enough() -> bool:
        return bool(
            await conn.fetchval(
                "SELECT (SELECT count(*) FROM pluggy.transactions) >= 55"
                " AND (SELECT count(*) FROM pluggy.identities) > 0"
                " AND EXISTS (SELECT FROM pluggy_sync.subscriptions)"
                " AND EXISTS (SELECT FROM pluggy_sync.delivery_counts)"
            )
        )

    await until(enough, "the item is mirrored and the subscriptions are looked at")
    await conn.close()


async def refuse_everything(
    receiver_client: Client, simulator: SimulatorProcess, item: dict[str, Any], secret: str
) -> None:
    """Pluggy refuses the credentials from now on: the worker halts and says why."""
    for match in ("POST /auth", "GET /"):
        await simulator.apost(
            "/_simulator/faults", {"match": match, "kind": "status", "status": 401, "rate": 1.0}
        )
    body = {"event": "item/updated", "eventId": str(uuid.uuid4()), "itemId": item["id"]}
    assert (await receiver_client.deliver(body, secret=secret)).status == 202

    async def asked() -> bool:
        log = await simulator.aget("/_simulator/requests")
        return bool(log["endpoints"].get("POST /auth", 0) > 1)

    await until(asked, "a fresh key is asked for")


async def passed_through(owner_url: str, marks: Marks) -> int:
    """Number of marks in the database: others cannot appear in its output."""
    conn = await asyncpg.connect(owner_url)
    stored = ""
    for table in ("pluggy.transactions", "pluggy.identities", "pluggy.accounts", "pluggy.items"):
        rows = await conn.fetch(f"SELECT t::text AS row FROM {table} t")  # noqa: S608 - constants
        stored += "".join(row["row"] for row in rows)
    await conn.close()
    return sum(needle in stored for needle in marks.needles.values())


async def test_no_password_comes_out_where_nothing_works(site: Site, marks: Marks) -> None:
    """Wrong passwords, servers that are not there, and URLs that are none."""
    wrong = marks.secret("wrong password")
    address = urlsplit(site.owner_url).netloc.rpartition("@")[2]
    refused = urlunsplit(urlsplit(site.owner_url)._replace(netloc=f"{WORKER}:{wrong}@{address}"))
    queue = urlsplit(site.redis_url).netloc.rpartition("@")[2]
    locked = urlunsplit(urlsplit(site.redis_url)._replace(netloc=f":{wrong}@{queue}"))
    await asyncio.gather(
        nothing_works(marks, refused, site.redis_url),
        nothing_works(marks, f"postgresql://x:{wrong}@127.0.0.1:1/x", locked),
        nothing_works(marks, f"postgresql://x:{wrong}@[::1/x", f"no-url:{wrong}@"),
    )
    assert "pluggy-sync: " in marks.heard["pluggy-sync status"]
    assert all(len(marks.heard[name]) > 100 for name in ("receiver", "worker"))
    assert marks.hits() == []


async def nothing_works(marks: Marks, database_url: str, redis_url: str) -> None:
    """Start everything anyway, and collect the output."""
    secret, client_secret = marks.secret("webhook secret"), marks.secret("client secret")
    ours = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    await command(marks, "status", **ours)
    await command(marks, "items", "register", str(uuid.uuid4()), **ours, LOG_LEVEL="DEBUG")
    await command(marks, "migrate", "--roles", **ours)
    async with (
        ReceiverProcess(**ours, WEBHOOK_SECRET=secret, PYTHONDEVMODE="1") as receiver,
        aiohttp.ClientSession() as session,
    ):
        # With a URL that is none it does not start.
        with suppress(ChildEnded):
            receiver_client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
            answer = await receiver_client.deliver({"event": "x"}, secret=secret)
            marks.hear("answers", json.dumps(answer.body))
            await receiver_client.call("GET", "/readyz")
            receiver.stop()
    marks.hear("receiver", receiver.lines)
    said = await worker_that_cannot_start(ours | {"PLUGGY_CLIENT_SECRET": client_secret})
    marks.hear("worker", said)


async def worker_that_cannot_start(environment: dict[str, str]) -> str:
    """Output of arq's command; it is ended if it waits for Redis."""
    ours = {
        "PLUGGY_CLIENT_ID": CLIENT_ID,
        "PLUGGY_BASE_URL": "http://127.0.0.1:1",
        "LOG_LEVEL": "DEBUG",
        "METRICS_PORT": str(free_port()),
    }
    with children() as started:
        worker = started.start("worker", ARQ_WORKER, **environment | ours)
        await worker.wait_for_log(lambda child: child.lines() or None)
        # It may try again for a minute, saying the same.
        with suppress(subprocess.TimeoutExpired):
            await worker.ended(SAYS_MORE_FOR_S)
        return worker.log.read_text()
