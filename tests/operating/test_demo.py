"""The demo as a person or a script runs it: result, exit status, and no process left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import pytest
from arq.connections import ArqRedis
from redis import Redis

from tests.conftest import IN_MEMORY

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--items", "2", "--transactions", "120", "--rounds", "1")
ENDS_WITHIN_S = 120.0
GONE_WITHIN_S = 60.0
KEYS = {
    "items", "accounts", "transactions", "events_accepted", "events_applied", "mismatches",
    "webhook_to_row_ms", "api_requests",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo with a temporary directory of its own, by which its processes are known."""

    process: subprocess.Popen[str]
    directory: Path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            eventually_gone(self)

    def outcome(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=ENDS_WITHIN_S)
        return self.process.returncode, out, err

    def until_line(self, words: str) -> str:
        """Read its progress up to a line with these words."""
        said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said += line
            if words in line:
                return said
        raise AssertionError(f"the demo never said {words!r}:\n{said}")

    def processes(self) -> dict[int, str]:
        """Whatever runs in this demo's directory or was started with a path of it."""
        return {pid: line for pid, line in _all_processes() if str(self.directory) in line}


def _all_processes() -> Iterator[tuple[int, str]]:
    if not Path("/proc").exists():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,command="], check=True, capture_output=True, text=True
        )
        for line in listing.stdout.splitlines():
            pid, _, command = line.strip().partition(" ")
            yield int(pid), command
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
                yield int(entry.name), f"{command} {(entry / 'cwd').readlink()}"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the servers' user can pass, which pytest's own directories do not allow."""
    in_memory = tempfile.gettempdir() == str(IN_MEMORY)
    made = Path(tempfile.mkdtemp(prefix="demo-", dir=IN_MEMORY if in_memory else "/tmp"))  # noqa: S108
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(directory: Path) -> Callable[..., Demo]:
    """Start a demo; servers are embedded unless an environment says otherwise."""

    def started(*arguments: str, **environment: str) -> Demo:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops", "demo", *arguments],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(directory), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return Demo(process, directory)

    return started


def last_line(out: str) -> dict[str, Any]:
    """The JSON line; there is nothing else on standard output."""
    [line] = out.splitlines()
    figures: dict[str, Any] = json.loads(line)
    return figures


def test_the_demo_proves_every_row_equal(start: Callable[..., Demo]) -> None:
    with start("--exit", "--json", *SMALL) as demo:
        status, out, err = demo.outcome()
    figures = last_line(out)
    assert status == 0, err
    assert set(figures) == KEYS
    assert figures["mismatches"] == 0
    assert figures["items"] == 2
    assert figures["accounts"] == 4
    assert figures["transactions"] >= 240
    assert figures["events_applied"] == figures["events_accepted"] > 10
    assert figures["api_requests"] > 10
    assert 0 < figures["webhook_to_row_ms"]["p50"] <= figures["webhook_to_row_ms"]["p99"]
    assert "verified equal to Pluggy as of" in err
    assert "360 requests a minute" in err
    assert "purchases" in err
    assert not any(demo.directory.iterdir())


def test_three_broken_rows_are_three_mismatches(start: Callable[..., Demo]) -> None:
    options = ["--items", "1", "--transactions", "60", "--rounds", "0", "--workers", "1"]
    with start("--exit", "--json", "--sabotage", *options) as demo:
        status, out, err = demo.outcome()
    assert status == 1
    figures = last_line(out)
    assert figures["mismatches"] == 3
    assert figures["webhook_to_row_ms"] == {"p50": None, "p99": None}
    assert "NOT equal to Pluggy" in err
    for kind in ("1 missing", "1 extra", "1 different"):
        assert kind in err


async def test_given_servers_are_used_and_left_as_they_were(
    start: Callable[..., Demo], postgres_url: str, redis: ArqRedis, redis_url: str
) -> None:
    # The fixture removes keys of earlier tests, which may expire meanwhile.
    before = await server_contents(postgres_url, redis_url)
    with start("--exit", "--json", *SMALL, DATABASE_URL=postgres_url, REDIS_URL=redis_url) as demo:
        await asyncio.to_thread(demo.until_line, "comparing every row")
        during = await server_contents(postgres_url, redis_url)
        status, out, err = await asyncio.to_thread(demo.outcome)
    assert status == 0, err
    assert last_line(out)["mismatches"] == 0
    assert "pluggy_sync_demo_" in str(during)
    assert await server_contents(postgres_url, redis_url) == before


async def server_contents(postgres_url: str, redis_url: str) -> tuple[list[str], dict[str, Any]]:
    """Names of the databases, and how many keys each of Redis's has."""
    conn = await asyncpg.connect(postgres_url)
    try:
        databases = await conn.fetch("SELECT datname FROM pg_database ORDER BY datname")
    finally:
        await conn.close()
    with Redis.from_url(redis_url) as client:
        keys: dict[str, Any] = client.info("keyspace")
    return [record["datname"] for record in databases], {
        name: stored["keys"] for name, stored in keys.items()
    }


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DATABASE_URL": "postgresql://someone:hunter2@127.0.0.1:1/x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "no url: hunter2"}, "DATABASE_URL"),
        ({"REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}, "REDIS_URL"),
        ({"REDIS_URL": "no url: hunter2"}, "REDIS_URL"),
    ],
)
def test_a_given_server_that_cannot_be_used_ends_the_demo(
    start: Callable[..., Demo], environment: dict[str, str], said: str
) -> None:
    with start("--exit", **environment) as demo:
        status, out, err = demo.outcome()
    assert (status, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("pluggy-sync: ")
    assert said in last
    assert "hunter2" not in err
    assert "Traceback" not in err
    assert not any(demo.directory.iterdir())


def test_a_worker_that_dies_ends_the_demo_with_its_log(start: Callable[..., Demo]) -> None:
    with start("--exit", "--items", "1", "--transactions", "20000") as demo:
        demo.until_line("connecting")
        [worker] = eventually(lambda: running(demo, "arq worker.main", "/guard.py"))[:1]
        os.kill(worker, signal.SIGKILL)
        status, _, err = demo.outcome()
    assert status == 1
    assert "pluggy-sync: worker-" in err
    assert "has ended" in err
    assert not demo.processes()


def running(demo: Demo, words: str, but_not: str) -> list[int]:
    found = demo.processes().items()
    return [pid for pid, line in found if words in line and but_not not in line]


def eventually(look: Callable[[], list[int]]) -> list[int]:
    """What is looked for, once it is there."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while not (found := look()):
        assert time.monotonic() < deadline, "never seen"
        time.sleep(0.02)
    return found


STAYS = "Everything stays up"


@pytest.mark.parametrize(
    ("number", "phase"),
    [
        (signal.SIGKILL, "starting Postgres"),
        (signal.SIGKILL, "starting the receiver"),
        (signal.SIGKILL, "connecting"),
        (signal.SIGKILL, STAYS),
        (signal.SIGTERM, "update round 1"),
        (signal.SIGINT, "starting Postgres"),
        (signal.SIGINT, STAYS),
    ],
)
def test_nothing_stays_when_the_demo_is_ended(
    start: Callable[..., Demo], number: signal.Signals, phase: str
) -> None:
    with start("--items", "1", "--transactions", "300", "--rounds", "1") as demo:
        demo.until_line(phase)
        eventually(lambda: list(demo.processes()))
        demo.process.send_signal(number)
        out, err = demo.process.communicate(timeout=GONE_WITHIN_S)
        eventually_gone(demo)
    assert "Traceback" not in err
    if number == signal.SIGKILL:
        assert demo.process.returncode == -signal.SIGKILL
        return
    assert demo.process.returncode == (0 if phase == STAYS else 130)
    assert ("verified equal to Pluggy as of" in out) == (phase == STAYS)
    assert "verified equal" not in err
    assert not any(demo.directory.iterdir())


async def test_its_processes_log_in_with_the_roles_that_are_meant_for_them(
    start: Callable[..., Demo],
) -> None:
    with start("--items", "1", "--transactions", "30", "--rounds", "1") as demo:
        said = await asyncio.to_thread(demo.until_line, STAYS)
        [url] = re.findall(r"psql '(.+)'", said)
        conn = await asyncpg.connect(url)
        found = await conn.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE client_port IS NOT NULL"
            " AND pid <> pg_backend_pid() ORDER BY usename"
        )
        await conn.close()
    assert [record["usename"] for record in found] == ["pluggy_receiver", "pluggy_worker"]


def test_commands_run_on_it_as_it_says(start: Callable[..., Demo]) -> None:
    with start("--items", "1", "--transactions", "30", "--rounds", "1") as demo:
        said = demo.until_line(STAYS)
        [servers] = re.findall(r"(export DATABASE_URL='.+' REDIS_URL='.+'); ", said)
        status = subprocess.run(
            ["/bin/sh", "-c", f"{servers}; {sys.executable} -m ops status --json"],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    assert json.loads(status.stdout)["overview"]["light"] == "green"
    assert not status.stderr


def eventually_gone(demo: Demo) -> None:
    """Without a process nobody listens: the sockets go with it."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := demo.processes():
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


def test_what_a_killed_demo_left_is_swept_up_by_the_next(start: Callable[..., Demo]) -> None:
    with start(*SMALL) as killed:
        killed.until_line("starting the receiver")
        killed.process.kill()
        killed.process.communicate(timeout=GONE_WITHIN_S)
        eventually_gone(killed)
    left = set(killed.directory.iterdir())
    assert left
    with start(*SMALL) as demo:
        demo.until_line("starting the receiver")
        assert not left & set(demo.directory.iterdir())
