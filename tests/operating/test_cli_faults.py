"""Every command with wrong arguments, missing settings, servers away and wrong credentials."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from ops.cli.main import main
from tests.operating.test_cli import NOWHERE, UNKNOWN, CommandLine, with_pluggy
from tests.operating.test_cli_help import ALL
from tests.support.stack import Stack

RUN_ON = {"demo", "ops", "up"}
"""They start processes: their own tests have their faults."""
ASKS_NOTHING = {"completion"}
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "connect-token": (),
    "connectors list": (),
    "dead-letters list": (),
    "dead-letters requeue": ("--all",),
    "deletions accept": (UNKNOWN,),
    "deletions list": (),
    "deletions refuse": (UNKNOWN,),
    "doctor": (),
    "items delete": (UNKNOWN, "--yes"),
    "items deleted": (UNKNOWN,),
    "items disable-auto-sync": (UNKNOWN, "--yes"),
    "items export": (),
    "items import": ("--from-pluggy",),
    "items list": (),
    "items register": (UNKNOWN,),
    "items set-webhook": (UNKNOWN,),
    "items show": (UNKNOWN,),
    "items update": (UNKNOWN,),
    "links accept": (UNKNOWN, UNKNOWN),
    "links list": (),
    "links refuse": (UNKNOWN, UNKNOWN),
    "migrate": (),
    "report": (),
    "resync": (UNKNOWN,),
    "status": (),
    "verify": (UNKNOWN,),
    "webhooks list": (),
    "webhooks register": ("--no-test",),
    "webhooks rotate-secret": (),
    "webhooks test": (),
    "why": (UNKNOWN,),
    "worklist": (),
}
OF_PLUGGY = (
    "connect-token",
    "connectors list",
    "items delete",
    "items disable-auto-sync",
    "items import",
    "items set-webhook",
    "items update",
    "webhooks list",
    "webhooks register",
)
"""Commands that can do nothing without Pluggy."""
SETTINGS = {
    "DATABASE_URL": NOWHERE,
    "REDIS_URL": "redis://127.0.0.1:1",
    "PLUGGY_CLIENT_ID": "someone",
    "PLUGGY_CLIENT_SECRET": "hunter2",
    "PLUGGY_BASE_URL": "http://127.0.0.1:1",
    "WEBHOOK_URL": "https://hooks.example.com/webhooks/pluggy",
    "WEBHOOK_SECRET": "hunter2-and-more-of-it,hunter2-of-last-year",
    "LOG_LEVEL": "",
    "LOG_FORMAT": "",
}


def ask(command: str, arguments: Sequence[str], settings: dict[str, str]) -> Result:
    return CliRunner().invoke(main, [*command.split(), *arguments], env=settings)


def assert_one_message(result: Result, *, lines: int = 1) -> str:
    """It failed, and said so in a line without a secret and without a traceback."""
    assert result.exit_code != 0, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    said = [line for line in result.stderr.splitlines() if "warning:" not in line]
    assert len(said) == lines, result.stderr
    assert "Traceback" not in result.output
    assert "hunter2" not in result.output
    return said[-1].removeprefix("pluggy-sync: ")


def test_every_command_stands_in_the_table() -> None:
    leaves = {name for name, command in ALL.items() if not hasattr(command, "list_commands")}
    assert leaves - RUN_ON - ASKS_NOTHING == set(ARGUMENTS)
    assert set(OF_PLUGGY) < set(ARGUMENTS)


@pytest.mark.parametrize("command", sorted(ALL))
def test_an_unknown_option_is_a_usage_error(command: str) -> None:
    result = ask(command, ["--no-such-option"], SETTINGS)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "Usage:" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: No such option")


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
@pytest.mark.parametrize(
    ("command", "option"),
    [("items show", "--timeout"), ("items delete", "--wait"), ("verify", "--timeout")],
)
def test_a_wait_that_is_no_number_of_seconds_is_refused(
    command: str, option: str, seconds: str
) -> None:
    result = ask(command, [*ARGUMENTS[command], option, seconds], SETTINGS)
    assert (result.exit_code, seconds in result.stderr) == (2, True), result.output


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("items set-webhook", (UNKNOWN, "--url", "http://hooks.example.com"), "https://"),
        ("items set-webhook", (UNKNOWN, "--url", "http://["), "https://"),
        ("connect-token", ("--webhook-url", "hooks.example.com"), "https://"),
        ("resync", ("--since", "9999-12-31"), "--since lies in the future"),
        ("items show", ("nope",), "'nope' is not a valid UUID"),
        ("items import", ("/no/such/file",), "No such file"),
    ],
)
def test_an_argument_that_cannot_be_right_is_refused_before_any_server_is_asked(
    command: str, arguments: tuple[str, ...], said: str
) -> None:
    result = ask(command, arguments, SETTINGS)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("items show", (UNKNOWN, "--product", "bills"), "nothing is known of item"),
        ("resync", ("--client-user", "nobody"), "no mirrored item is chosen by it"),
        ("resync", ("--connector", "99999", "--json"), "no mirrored item is chosen by it"),
        ("report", ("--user", "nobody", "--json"), "no stored item has this clientUserId"),
    ],
)
async def test_something_that_is_not_there_is_no_success(
    command: str, arguments: tuple[str, ...], said: str, database_url: str
) -> None:
    cli = CommandLine({"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"})
    result = await cli(*command.split(), *arguments)
    assert result.stderr.splitlines()[-1].startswith(f"pluggy-sync: {said}"), result.output
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize("command", sorted(set(ARGUMENTS) - {"doctor"}))
def test_a_missing_setting_is_named(command: str) -> None:
    nothing = dict.fromkeys(SETTINGS, "")
    said = assert_one_message(ask(command, ARGUMENTS[command], nothing))
    assert "DATABASE_URL is not set" in said or "_URL is missing" in said, said


@pytest.mark.parametrize("command", sorted(set(ARGUMENTS) - {"doctor"}))
def test_a_postgres_that_does_not_answer_is_named(command: str) -> None:
    settings = dict(SETTINGS)
    if command == "webhooks rotate-secret":
        settings["PLUGGY_BASE_URL"] = "https://api.pluggy.ai"  # asks Postgres before Pluggy
    said = assert_one_message(ask(command, ARGUMENTS[command], settings))
    assert "Postgres does not answer at DATABASE_URL" in said, said


async def test_a_pluggy_that_does_not_answer_is_named(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    cli = with_pluggy(stack, database_url, redis_url, **_webhook())
    for command in OF_PLUGGY:
        away = {"PLUGGY_BASE_URL": "http://127.0.0.1:1"}
        said = assert_one_message(await cli(*command.split(), *ARGUMENTS[command], **away))
        assert "Pluggy" in said, (command, said)
        assert "ClientConnectorError" in said, (command, said)


async def test_credentials_that_pluggy_refuses_are_named(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    await stack.refuse("POST /auth", 401)
    cli = with_pluggy(stack, database_url, redis_url, **_webhook())
    # These ask Pluggy whether it knows the ids.
    for command in (*OF_PLUGGY, "items register", "resync", "verify"):
        said = assert_one_message(await cli(*command.split(), *ARGUMENTS[command]))
        assert "Pluggy refuses PLUGGY_CLIENT_ID / PLUGGY_CLIENT_SECRET" in said, (command, said)


async def test_a_redis_that_does_not_answer_stops_no_command_that_reads(
    database_url: str, stack: Stack
) -> None:
    await stack.synced_item(transactions=5)
    cli = CommandLine({"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"})
    for command in (
        "items list",
        "items export",
        "dead-letters list",
        "deletions list",
        "worklist",
    ):
        result = await cli(*command.split())
        assert (result.exit_code, result.exception) == (0, None), (command, result.output)


def _webhook() -> dict[str, str]:
    return {name: SETTINGS[name] for name in ("WEBHOOK_URL", "WEBHOOK_SECRET")}
