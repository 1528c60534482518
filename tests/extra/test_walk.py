"""The way of a new user: install the wheel, connect a bank, ask, break the secret, mend it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.extra.test_connect_page import PORT_OF_OPS, connect
from tests.support.chromium import open_page
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HANGS_AFTER_S = 600.0
READY = "Ctrl-C stops everything"
HOME = "/var/tmp"  # noqa: S108 - only programs of this test see it
WRONG = {"X-Webhook-Secret": "a-secret-of-yesterday-that-nobody-has"}


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """bin/ of an environment that holds the wheel and what it needs, and nothing else."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
        wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", directory, str(ROOT)]
        # pip finds packages as it does for whoever runs the tests.
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        run([sys.executable, *wheel], **own)
        run([sys.executable, "-m", "venv", str(home / "env")])
        python = str(home / "env/bin/python")
        pinned = str(ROOT / "requirements/demo.txt")
        run([python, *pip, "install", "--require-hashes", "-r", pinned], **own)
        [built] = home.glob("*.whl")
        run([python, *pip, "install", "--no-deps", str(built)], **own)
        yield home / "env/bin"
    shutil.rmtree(ROOT / "build/lib", ignore_errors=True)


def run(command: list[str], **environment: str) -> str:
    """Standard output of a program that has to end well."""
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": HOME} | environment,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass(slots=True)
class Shell:
    """A terminal of a person: the installed program, and the settings that `up` has written."""

    program: Path
    data_dir: Path
    own: dict[str, str] = field(default_factory=dict)
    """Variables that the person has set."""
    said: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        lines = (self.data_dir / "environment").read_text()
        return dict(re.findall(r"^export (\w+)='?(.*?)'?$", lines, re.MULTILINE)) | self.own

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of a command."""
        process = await asyncio.create_subprocess_exec(
            self.program, *arguments, cwd="/", env=self.settings | {"PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), HANGS_AFTER_S)
        self.said.append(out.decode())
        return process.returncode or 0, out.decode()

    async def well(self, *arguments: str) -> str:
        """The output of a command that has to end well."""
        status, out = await self(*arguments)
        assert status == 0, f"{arguments}: {out}"
        return out

    @asynccontextmanager
    async def up(self) -> AsyncIterator[str]:
        """`up --simulator` until the block ends; gives what it says when everything runs."""
        arguments = ("up", "--simulator", "--data-dir", str(self.data_dir))
        process = await asyncio.create_subprocess_exec(
            self.program, *arguments, cwd="/",
            env={"PATH": "/usr/bin:/bin", "HOME": HOME, "PORT": "0", "OPS_PORT": "0"} | self.own,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said: list[str] = []
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                said.append(line.decode())
                if READY in said[-1]:
                    break
            assert READY in "".join(said), "".join(said)
            yield "".join(said)
            process.terminate()
            rest, _ = await asyncio.wait_for(process.communicate(), HANGS_AFTER_S)
            said.append(rest.decode())
            assert process.returncode == 0, "".join(said)
        finally:
            self.said += said
            if process.returncode is None:
                process.kill()
                await process.wait()


async def pluggy(shell: Shell, method: str, path: str, body: Any = None) -> Any:
    """A request to the simulator, with the application's key."""
    settings = shell.settings
    base = settings["PLUGGY_BASE_URL"]
    credentials = {"clientId": settings["PLUGGY_CLIENT_ID"]}
    credentials["clientSecret"] = settings["PLUGGY_CLIENT_SECRET"]
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/auth", json=credentials) as answer:
            key = {"X-API-KEY": (await answer.json())["apiKey"]}
        async with session.request(method, base + path, json=body, headers=key) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()


@pytest.mark.timeout(3600)
async def test_a_new_user_gets_from_the_wheel_to_rows_and_mends_a_broken_secret(
    installed: Path,
) -> None:
    started = time.monotonic()
    program = installed / "pluggy-sync"
    small = ("--items", "1", "--transactions", "60", "--rounds", "1", "--workers", "1")
    assert json.loads(run([str(program), "demo", "--exit", "--json", *small]))["mismatches"] == 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        run(["chmod", "711", directory])  # the embedded servers' own user has to pass
        shell = Shell(program, Path(directory) / "data")
        async with shell.up() as said:
            url = PORT_OF_OPS.search(said)
            assert url is not None
            async with open_page() as (page, problems):
                item_id = await connect(page, url[0])
            await _ask(shell, item_id)
            await _break_and_mend_the_secret(shell, item_id)
        await _change_the_secret(shell)
        async with shell.up():
            assert "arrived" in await shell.well("webhooks", "test")
            assert item_id in await shell.well("items", "list")
    assert problems == []
    assert [text for text in shell.said if "Traceback" in text] == []
    print(f"the whole walk took {time.monotonic() - started:.0f} s")


async def _ask(shell: Shell, item_id: str) -> None:
    """Everything that one asks on the first day."""
    assert "arrived" in await shell.well("webhooks", "test")
    await shell.well("webhooks", "register")
    assert item_id in await shell.well("items", "list")
    assert "spending" in json.loads(await shell.well("report", "--json"))
    shown = await shell.well("items", "show", item_id, "--product", "transactions", "--json")
    [first, *_] = json.loads(shown)["transactions"]
    assert item_id in await shell.well("why", first["id"])


async def _break_and_mend_the_secret(shell: Shell, item_id: str) -> None:
    """Pluggy sends another secret: status and doctor say so, and `webhooks register` mends it."""
    [hook, *_] = (await pluggy(shell, "GET", "/webhooks"))["results"]
    await pluggy(shell, "PATCH", f"/webhooks/{hook['id']}", {"headers": WRONG})
    await pluggy(shell, "POST", f"/_simulator/items/{item_id}/collect", {"created": 3})

    async def is_named() -> bool:
        return "secret" in (await shell("status"))[1] and "secret" in (await shell("doctor"))[1]

    # Within a minute on a quiet machine: the list was read a moment ago.
    named = time.monotonic()
    await until(is_named, "status and doctor name the secret", timeout_s=HANGS_AFTER_S)
    print(f"the secret was named after {time.monotonic() - named:.0f} s")
    await shell.well("webhooks", "register")
    [hook, *_] = (await pluggy(shell, "GET", "/webhooks"))["results"]
    assert hook["headers"] != WRONG


async def _change_the_secret(shell: Shell) -> None:
    """Both secrets at the receiver, the new one at Pluggy, and then the new one alone."""
    kept = shell.data_dir / "webhook-secret"
    old = kept.read_text().strip()
    async with shell.up():
        new = json.loads(await shell.well("webhooks", "rotate-secret", "--json"))["new_secret"]
    shell.own = {"WEBHOOK_SECRET": f"{new},{old}"}
    async with shell.up():
        # A simulator is told the first secret when it starts; Pluggy still has the old one.
        [hook, *_] = (await pluggy(shell, "GET", "/webhooks"))["results"]
        had = {"headers": {"X-Webhook-Secret": old}}
        await pluggy(shell, "PATCH", f"/webhooks/{hook['id']}", had)
        done = json.loads(await shell.well("webhooks", "rotate-secret", "--json"))
        assert done["step"] == "exchanged"
        [hook, *_] = (await pluggy(shell, "GET", "/webhooks"))["results"]
        assert hook["headers"] == {"X-Webhook-Secret": new}
    shell.own = {}
    kept.write_text(new + "\n")
