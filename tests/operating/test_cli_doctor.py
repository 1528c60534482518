"""`pluggy-sync doctor`: each fault is named with its command, whichever server is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ops.cli.doctor.check import ERROR, OK, WARNING
from ops.cli.doctor.postgres import _clock, _pooler, _role, _server
from ops.cli.doctor.redis import _server as redis_server
from tests.maintaining.test_subscriptions import Hooks, hooks
from tests.operating.test_cli import NOWHERE, CommandLine, with_pluggy
from tests.support.receiver import Doorway, open_receiver
from tests.support.stack import Stack
from worker.infra.settings import Environment, load
from worker.store.doctor import PostgresFacts

__all__ = ["hooks"]
SECRET = "the-secret-of-the-tests"  # noqa: S105 - nobody else listens for it
AWAY = "redis://127.0.0.1:1"


@pytest.fixture
async def receiver(database_url: str, redis_url: str) -> AsyncIterator[Doorway]:
    async with open_receiver(database_url, redis_url, secrets=(SECRET,)) as opened:
        yield opened


@pytest.fixture
def cli(stack: Stack, database_url: str, redis_url: str, receiver: Doorway) -> CommandLine:
    url = f"{receiver.url}/webhooks/pluggy"
    return with_pluggy(stack, database_url, redis_url, WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET)


async def checks(cli: CommandLine, status: int, **changes: str) -> list[dict[str, Any]]:
    result = await cli("doctor", "--json", **changes)
    assert result.exit_code == status, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["checks"]
    return found


def texts(found: list[dict[str, Any]], state: str) -> str:
    return "\n".join(
        f"{check['what']} -> {check['command']}" for check in found if check["state"] == state
    )


async def test_what_is_well_is_said_too(cli: CommandLine, hooks: Hooks) -> None:
    hooks.add("all", cli.environment["WEBHOOK_URL"], {"X-Webhook-Secret": SECRET})
    found = await checks(cli, 2)
    # The Postgres of the tests is not durable, and their role a superuser.
    errors = texts(found, ERROR).splitlines()
    assert [error.partition(" ")[0] for error in errors] == [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
    ]
    well = texts(found, OK)
    for said in (
        "the keys are accepted",
        "every event is announced, once and with the secret",
        "delivered, accepted and stored",
        "Postgres and this machine agree",
        "pluggy-sync 0.",
    ):
        assert said in well
    assert "pluggy-sync migrate --roles" in texts(found, WARNING)
    assert SECRET not in json.dumps(found)


async def test_each_fault_of_the_webhook_is_named(cli: CommandLine, hooks: Hooks) -> None:
    url = cli.environment["WEBHOOK_URL"]
    assert "all: no webhook announces it -> pluggy-sync webhooks register" in texts(
        await checks(cli, 2), ERROR
    )
    hooks.add("all", url, {"X-Webhook-Secret": "a-secret-of-nobody"})
    found = texts(await checks(cli, 2), ERROR)
    assert "all: it carries another secret -> pluggy-sync webhooks register" in found
    other = {"WEBHOOK_SECRET": "a-secret-of-nobody"}
    wrong = texts(await checks(cli, 2, **other), ERROR)
    assert "the receiver refuses the secret" in wrong


async def test_refused_deliveries_of_the_last_hour_are_counted(
    cli: CommandLine, stack: Stack
) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.delivery_counts (minute, event, answer, deliveries) VALUES"
        " (date_trunc('minute', now()), '', 'unauthorized', 7),"
        " (date_trunc('minute', now()) - interval '2 hours', '', 'malformed', 9)"
    )
    found = texts(await checks(cli, 2), WARNING)
    assert "7 deliveries were refused within the last hour: unauthorized" in found
    assert "malformed" not in found


async def test_a_setting_that_no_process_reads_is_named(cli: CommandLine) -> None:
    typos = {"WEBHOOK_SECRETS": "x", "REDIS_URI": "x", "PLUGGY_TOKEN": "hunter2", "REDIS_HOST": "x"}
    found = texts(await checks(cli, 2, **typos), WARNING)
    assert "no process reads WEBHOOK_SECRETS: WEBHOOK_SECRET is meant?" in found
    assert "no process reads REDIS_URI: REDIS_URL is meant? -> unset REDIS_URI" in found
    assert "no process reads PLUGGY_TOKEN -> unset PLUGGY_TOKEN" in found
    assert "REDIS_HOST" not in found
    assert "hunter2" not in found


async def test_what_can_be_checked_is_checked_while_a_server_is_away(
    cli: CommandLine, stack: Stack
) -> None:
    without_postgres = await checks(cli, 2, DATABASE_URL=NOWHERE)
    assert "Postgres does not answer at DATABASE_URL" in texts(without_postgres, ERROR)
    assert "the keys are accepted" in texts(without_postgres, OK)
    without_redis = await checks(cli, 2, REDIS_URL=AWAY)
    assert "Redis does not answer at REDIS_URL" in texts(without_redis, ERROR)
    assert "Postgres and this machine agree" in texts(without_redis, OK)
    without_pluggy = await checks(cli, 2, PLUGGY_BASE_URL="http://127.0.0.1:1")
    assert "Pluggy does not answer at PLUGGY_BASE_URL" in texts(without_pluggy, ERROR)
    await stack.refuse("POST /auth", 401)
    assert "Pluggy refuses PLUGGY_CLIENT_ID" in texts(await checks(cli, 2), ERROR)


async def test_without_any_setting_each_missing_one_is_named(cli: CommandLine) -> None:
    nothing = {name: "" for name in cli.environment}
    found = texts(await checks(cli, 2, **nothing), ERROR)
    for name in ("DATABASE_URL", "PLUGGY_CLIENT_ID", "PLUGGY_CLIENT_SECRET", "WEBHOOK_SECRET"):
        assert f"{name} is not set" in found


async def test_the_wrong_application_and_an_unmigrated_database_are_errors(
    cli: CommandLine, stack: Stack, empty_database_url: str
) -> None:
    await cli("migrate", "--adopt", PLUGGY_CLIENT_ID="another")
    found = texts(await checks(cli, 2), ERROR)
    assert "mirrors another application" in found
    assert "pluggy-sync migrate --adopt" in found
    found = texts(await checks(cli, 2, DATABASE_URL=empty_database_url), ERROR)
    assert "the database is not migrated" in found
    assert "-> pluggy-sync migrate" in found
    await stack.db.execute("UPDATE pluggy_sync.migrations SET sha256 = '' WHERE name LIKE '0001%'")
    found = texts(await checks(cli, 2), ERROR)
    assert "create a new one" in found
    assert "-> pluggy-sync migrate" not in found


FACTS = PostgresFacts(
    version=160_004,
    role="pluggy_worker",
    is_superuser=False,
    is_standby=False,
    backend_pid=7,
    now=datetime.now(UTC),
    fsync="on",
    full_page_writes="on",
    synchronous_commit="on",
    max_connections=100,
    isolation="read committed",
    may_accept=True,
    may_write=True,
    may_read_ops=False,
)


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({}, OK, "version 16"),
        ({"version": 140_010}, ERROR, "15 or newer is needed"),
        ({"is_standby": True}, ERROR, "standby"),
        ({"fsync": "off"}, ERROR, "fsync is off"),
        ({"synchronous_commit": "off"}, ERROR, "synchronous_commit is off"),
        ({"max_connections": 10}, WARNING, "max_connections is 10"),
        ({"isolation": "serializable"}, ERROR, "read committed is needed"),
        ({"now": datetime(2020, 1, 1, tzinfo=UTC)}, WARNING, "one of them is wrong"),
        ({"is_superuser": True}, WARNING, "is a superuser"),
        ({"may_accept": False, "may_write": False}, ERROR, "may do nothing here"),
    ],
)
def test_each_fault_of_postgres_is_named(changed: dict[str, Any], state: str, said: str) -> None:
    facts = msgspec.structs.replace(FACTS, **changed)
    found = [*_server(facts), *_role(facts)]
    assert [check for check in found if check.state == state and said in check.what], found
    assert _clock(datetime.now(UTC) - timedelta(seconds=1)).state == OK


def test_a_pooler_is_recognised_and_its_settings_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@localhost/x")
    monkeypatch.delenv("DATABASE_DIRECT_URL", raising=False)
    settings = load(Environment)
    commands = [check.command or "" for check in _pooler(settings, is_pooled=True)]
    assert [command.split("=")[0] for command in commands] == [
        "export DATABASE_STATEMENT_CACHE",
        "export DATABASE_DIRECT_URL",
    ]
    assert list(_pooler(settings, is_pooled=False)) == []


@pytest.mark.parametrize(
    ("server", "state", "said"),
    [
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, OK, "Valkey 8.1.0"),
        ({"redis_version": "6.2.1"}, WARNING, "from 7.2 on"),
        (
            {"redis_version": "7.4.0", "used_memory": 90, "maxmemory": 100},
            WARNING,
            "90% of maxmemory",
        ),
    ],
)
def test_each_fault_of_redis_is_named(server: dict[str, Any], state: str, said: str) -> None:
    found = list(redis_server(server))
    assert [check for check in found if check.state == state and said in check.what], found
