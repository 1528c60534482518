"""Shell blocks of the documentation, run as a reader would: by bash, with curl and jq."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.doc_blocks import Block, blocks
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until

HANGS_AFTER_S = 600.0
pytestmark = pytest.mark.timeout(2 * HANGS_AFTER_S)
BLOCKS = [block for block in blocks() if block.language == "sh" and not block.mark]
SIMULATOR = "http://127.0.0.1:8900"
PACKAGES = {"bash": "bash", "curl": "curl", "jq": "jq"}


TUTORIAL = [
    block for block in blocks() if block.page == "docs/tutorial.md" and not block.is_not_run
][:2]


def begin(block: Block, home: Path, **environment: str) -> Awaitable[asyncio.subprocess.Process]:
    """Run a block in a home directory, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", block.text),
        cwd=home,
        env={"HOME": str(home), "PATH": path} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory with a short path, as people have; tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        # Servers that root starts run as another user.
        Path(directory).chmod(0o755)
        yield Path(directory)


async def test_the_two_terminals_of_the_tutorial(home: Path) -> None:
    """The first runs the service, the second finds it well, and Ctrl-C ends it in order."""
    first, second = TUTORIAL
    up = await begin(first, home, PORT="0", OPS_PORT="0", METRICS_PORT="0")

    async def is_well() -> bool:
        assert up.returncode is None, (await up.communicate())[0].decode()
        status = await begin(second, home)
        await status.communicate()
        return status.returncode == 0

    await until(is_well, "the service is well", timeout_s=HANGS_AFTER_S)
    up.terminate()
    said, _ = await up.communicate()
    assert up.returncode == 0, said.decode()
    assert "Traceback" not in said.decode()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_a_block_of_the_documentation_ends_well(
    block: Block,
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    quiet_simulator: SimulatorProcess,
) -> None:
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    assert missing == [], "apt-get install"
    (tmp_path / "items.csv").write_text("itemId\n6f1c2d9e-0000-4000-8000-000000000001\n")
    there = replace(block, text=block.text.replace(SIMULATOR, quiet_simulator.url))
    process = await begin(there, tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "Traceback" not in said.decode()
