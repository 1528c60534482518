"""The baseline of migrations: a database that other files made is refused, and left as it is."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from ops.demo.processes import ChildEnded
from ops.migrations import load_scripts, migrate
from tests.support.waiting import HANGS_AFTER_S
from tests.support.worker_process import WorkerProcess
from worker.infra import baseline
from worker.infra.baseline import BASELINE, UnreleasedDatabase
from worker.infra.sql_files import SQL_DIR

SCRIPTS = load_scripts(SQL_DIR / "migrations")
REFUSAL = (
    "pluggy-sync: this database was made by a pre-release of pluggy-sync, which no release"
    " migrates; create a new one"
)
STATE = (
    "SELECT (SELECT jsonb_agg(m ORDER BY name) FROM pluggy_sync.migrations m)::text"
    " || (SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_class)"
)
LOOPBACK = "http://127.0.0.1:1"


def test_the_baseline_has_no_gap_and_makes_one_table_a_file() -> None:
    scripts = [script for script in SCRIPTS if script.name[:4] <= BASELINE]
    assert [s.name[:4] for s in scripts] == [f"{n:04d}" for n in range(1, int(BASELINE) + 1)]
    for script in scripts:
        tables = re.findall(r"^CREATE TABLE pluggy\w*\.(\w+) ", script.sql, re.M)
        alone = script.name[5:] in ("create_schemas", "create_functions")
        assert [f"create_{t}" for t in tables] == ([] if alone else [script.name[5:]])
        assert not re.search(r"^ALTER|^UPDATE|^DROP", script.sql, re.M)


def test_the_baseline_ends_with_0_2_0() -> None:
    project = tomllib.loads((SQL_DIR.parent / "pyproject.toml").read_text(encoding="utf-8"))
    later = [script.name for script in SCRIPTS if script.name[:4] > BASELINE]
    if project["project"]["version"] == "0.1.0":
        assert not later
    else:
        source = Path(baseline.__file__).read_text(encoding="utf-8")
        said = "write the number of the last released file as BASELINE"
        assert re.search(r'^BASELINE: Final = "\d{4}"$', source, re.M), said


@pytest.fixture
async def earlier_url(empty_database_url: str, tmp_path: Path) -> str:
    """A database that is made by an earlier baseline: one file was named and said otherwise."""
    sql_dir = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    last = max((sql_dir / "migrations").glob("*.sql"))
    last.rename(last.with_name("0180_create_what_was.sql"))
    first = min((sql_dir / "migrations").glob("*.sql"))
    first.write_text(first.read_text() + "-- as it was\n")
    await migrate(empty_database_url, sql_dir=sql_dir)
    return empty_database_url


async def state_of(url: str) -> str:
    conn = await asyncpg.connect(url)
    try:
        return str(await conn.fetchval(STATE))
    finally:
        await conn.close()


@pytest.mark.parametrize("change", ["edited", "renamed", "removed", "added"])
async def test_a_database_of_another_baseline_is_not_migrated(
    empty_database_url: str, tmp_path: Path, change: str
) -> None:
    sql_dir = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    [last] = (sql_dir / "migrations").glob(f"{BASELINE}_*.sql")
    match change:
        case "edited":
            last.write_text(last.read_text() + "-- as it was\n")
        case "renamed":
            last.rename(last.with_name(f"{BASELINE}_create_what_was.sql"))
        case "removed":
            # No view needs it.
            (sql_dir / "migrations" / "0040_create_retention_cursor.sql").unlink()
        case _:
            last.with_name("0039_was_there_too.sql").write_text("SELECT 1;")
    await migrate(empty_database_url, sql_dir=sql_dir)
    before = await state_of(empty_database_url)
    with pytest.raises(UnreleasedDatabase):
        await migrate(empty_database_url)
    assert await state_of(empty_database_url) == before


async def ended(arguments: list[str], environment: Mapping[str, str]) -> tuple[int | None, str]:
    """Exit status and the last line on standard error of a process of ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(HANGS_AFTER_S):
            _, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("command", ["migrate", "migrate --roles", "status", "dead-letters list"])
async def test_every_command_refuses_a_database_of_another_baseline(
    earlier_url: str, redis_url: str, command: str
) -> None:
    before = await state_of(earlier_url)
    environment = {"DATABASE_URL": earlier_url, "REDIS_URL": redis_url}
    status, said = await ended(["-m", "ops", *command.split()], environment)
    assert (status, said) == (3 if command == "status" else 1, REFUSAL)
    assert await state_of(earlier_url) == before


async def test_a_receiver_refuses_a_database_of_another_baseline(
    earlier_url: str, redis_url: str
) -> None:
    environment = {
        "DATABASE_URL": earlier_url,
        "REDIS_URL": redis_url,
        "WEBHOOK_SECRET": "a-secret-of-this-test",
        "PORT": "0",
    }
    assert await ended(["-m", "webhook_receiver"], environment) == (1, REFUSAL)


async def test_a_worker_refuses_a_database_of_another_baseline(
    earlier_url: str, redis_url: str
) -> None:
    worker = WorkerProcess(earlier_url, redis_url, LOOPBACK)
    with pytest.raises(ChildEnded, match="did not start"):
        await worker.__aenter__()
    assert await worker.ended() == 1
    assert worker.lines[-1] == f"{REFUSAL}\n"
