"""Help and version of the command line: every command is listed, and nothing large is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import ops
from ops.cli.lazy import LazyGroup
from ops.cli.main import main
from tests.support.command_page import PAGE, page

IMPORTED = """
import json, sys
from click.testing import CliRunner
from ops.cli.main import main
for arguments in json.loads(sys.argv[1]):
    said = CliRunner().invoke(main, arguments).output
    assert "Usage: main" in said or "pluggy-sync" in said, (arguments, said)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
LARGE = {
    *("aiohttp", "arq", "asyncio", "asyncpg", "msgspec", "prometheus_client", "pydantic", "redis"),
    *("embedded", "rich", "simulator", "structlog", "uvloop", "webhook_receiver"),
}


def imported_by(*arguments: list[str]) -> set[str]:
    """The packages that are imported when commands run one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, json.dumps(arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_help_and_version_import_nothing_of_servers_and_tables() -> None:
    imported = imported_by(["--help"], ["--version"], ["items", "--help"], [])
    assert {"click", "ops"} <= imported
    assert (LARGE | {"worker"}) & imported == set()


def test_the_help_of_no_command_imports_what_the_command_runs_with() -> None:
    imported = imported_by(*([*name.split(), "--help"] for name in ALL))
    assert "worker" in imported
    assert (LARGE - {"msgspec"}) & imported == set()  # it parses times, and is small


READERS = (
    "items list",
    "items show",
    "items export",
    "items import",
    "worklist",
    "why",
    "dead-letters list",
    "deletions list",
    "links list",
    "report",
)
ASK_REDIS = ("status", "verify", "resync", "dead-letters requeue", "migrate")
ASK_PLUGGY = ("connectors list", "webhooks list", "doctor")
"""Pluggy does not answer them here, which they find out with all that they are made of."""
LOADED = """
import json, sys
from click.testing import CliRunner
from ops.cli.main import main
UNKNOWN = "6f1c2d9e-0000-4000-8000-00000000dead"
ARGUMENTS = {
    "items show": [UNKNOWN], "items import": ["-"], "why": [UNKNOWN],
    "verify": [UNKNOWN, "--timeout", "0"], "resync": ["--all", "--dry-run"],
    "dead-letters requeue": ["--all"],
}
loaded = {}
for name in sys.argv[1:]:
    arguments = [*name.split(), *ARGUMENTS.get(name, [])]
    result = CliRunner().invoke(main, arguments, input=UNKNOWN)
    assert "Postgres does" not in result.stderr, (name, result.stderr)
    reasons = (UNKNOWN, "Pluggy does not answer", "not verified")
    failed = result.exit_code and name not in ("status", "doctor")
    assert not failed or any(why in result.stderr for why in reasons), (name, result.stderr)
    loaded[name] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(loaded))
"""
NOT_TO_ASK_PLUGGY = {"pygments", "rich", "structlog", "uvloop"}
NOT_TO_ASK_REDIS = NOT_TO_ASK_PLUGGY | {"aiohttp", "webhook_receiver"}
NOT_TO_READ_POSTGRES = NOT_TO_ASK_REDIS | {"arq", "jwt", "prometheus_client", "redis"}


def test_commands_load_nothing_of_what_they_do_not_ask(database_url: str) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1",
        "WEBHOOK_URL": "https://127.0.0.1:1/webhooks/pluggy",
        "WEBHOOK_SECRET": "sixteen-or-more-of-them",
        "PLUGGY_BASE_URL": "http://127.0.0.1:1",
        "PLUGGY_CLIENT_SECRET": "secret",
    }
    loaded: dict[str, list[str]] = {}
    for names, more in (
        ((*READERS, *ASK_REDIS), {}),
        (ASK_PLUGGY, {"PLUGGY_CLIENT_ID": "someone"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *names],
            env=settings | more,
            cwd=Path(ops.__file__).parents[1],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        loaded |= json.loads(done.stdout)
    assert tuple(loaded) == (*READERS, *ASK_REDIS, *ASK_PLUGGY)
    not_to_load = {
        **dict.fromkeys(READERS, NOT_TO_READ_POSTGRES),
        **dict.fromkeys(ASK_REDIS, NOT_TO_ASK_REDIS),
        **dict.fromkeys(ASK_PLUGGY, NOT_TO_ASK_PLUGGY),
    }
    assert {name: not_to_load[name] & set(found) for name, found in loaded.items()} == (
        {name: set() for name in loaded}
    )
    assert {"asyncpg", "worker"} <= set(loaded["report"])
    assert "redis" in loaded["status"]
    assert "aiohttp" in loaded["connectors list"]


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its full name, groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}".strip())


ALL = dict(commands(main))


@pytest.mark.parametrize(
    "name", [name for name, group in ALL.items() if isinstance(group, LazyGroup)]
)
def test_a_group_says_of_each_command_what_its_help_begins_with(name: str) -> None:
    group = ALL[name]
    assert isinstance(group, LazyGroup)
    _agree(group)


def test_the_program_says_of_each_command_what_its_help_begins_with() -> None:
    assert isinstance(main, LazyGroup)
    _agree(main)


def _agree(group: LazyGroup) -> None:
    for name, lazy in group.lazy.items():
        command = group.get_command(click.Context(group), name)
        assert command is not None
        help_text = " ".join((command.help or "").split())
        assert help_text.startswith(lazy.summary.rstrip(".")), name


def test_every_command_can_print_json() -> None:
    without = {
        name
        for name, command in ALL.items()
        if not isinstance(command, click.Group)
        and "--json" not in {option for p in command.params for option in p.opts}
    }
    # Two run until they are stopped, and one prints a script.
    assert without == {"completion", "ops", "up"}


def test_what_the_page_of_commands_names_is_there() -> None:
    named = re.findall(r"^## pluggy-sync (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    assert named
    assert [name for name in named if name not in ALL] == []
    assert [name for name in named if f"## pluggy-sync {name}\n" not in page()] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_commands_with_the_script_for_it(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell])
    assert script.exit_code == 0
    assert f"_PLUGGY_SYNC_COMPLETE={shell}_complete" in script.output
    typed = {"COMP_WORDS": "pluggy-sync items up", "COMP_CWORD": "2" if shell != "fish" else "up"}
    done = subprocess.run(
        [sys.executable, "-m", "ops"],
        env={"PATH": "", "_PLUGGY_SYNC_COMPLETE": f"{shell}_complete", **typed},
        cwd=Path(ops.__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "update" in done.stdout
    assert "register" not in done.stdout


def test_a_shell_without_a_script_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2
