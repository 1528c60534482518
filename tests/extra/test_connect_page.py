"""The ten minutes as a person has them: `up`, /connect in a real browser, rows, `up` again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from arq.connections import ArqRedis
from playwright.async_api import Page, expect

from embedded import guard
from ops.web.connect import WIDGET
from tests.operating.test_connect import open_as_with_the_real_pluggy
from tests.support.chromium import open_page
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import fill_budget
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HANGS_AFTER_S = 300.0
pytestmark = pytest.mark.timeout(1800)
PORT_OF_OPS = re.compile(r"http://127\.0\.0\.1:(\d+)/connect")
FRESH = re.compile("^Everything is fresh")
HAS_ROWS = re.compile(r": [1-9]|[1-9]\d* rows")
OWN_WIDGET = """
window.PluggyConnect = class {
  constructor(settings) { window.given = settings; }
  async init() { document.body.dataset.widget = 'open'; }
};
"""
"""What Pluggy's script brings: the class and its init(); the test plays the person."""


@dataclass(slots=True)
class Up:
    """`pluggy-sync up` as a person starts it, on free ports; output: all that it has said."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return "".join(self.said)

    def until_line(self, words: str) -> str:
        """Read up to a line with these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"never said {words!r}:\n{self.output}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=HANGS_AFTER_S)
        self.said.append(rest)
        return self.process.returncode


@contextmanager
def started_up(data_dir: Path) -> Iterator[Up]:
    """`up --simulator` on a data directory; its processes are gone afterwards."""
    command = [sys.executable, "-m", "ops", "up", "--simulator", "--data-dir", str(data_dir)]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=inherited | {"PORT": "0", "OPS_PORT": "0", "LOG_FORMAT": "json"},
    )
    try:
        yield Up(process)
    finally:
        process.kill()
        with process:
            pass


def connect_url(up: Up) -> str:
    found = PORT_OF_OPS.search(up.until_line("/connect"))
    assert found is not None
    return found[0]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where also the embedded servers' own user may pass."""
    path = Path(tempfile.mkdtemp(prefix="pluggy-sync-up-", dir="/var/tmp"))
    path.chmod(0o711)
    yield path / "data"
    shutil.rmtree(path)


async def connect(page: Page, url: str) -> str:
    """Connect a bank on the page /connect; returns the id of its item once all is fresh."""
    await page.goto(url)
    clicked = time.monotonic()
    await page.click("button[data-connector='612']")
    await expect(page.locator("#state")).to_have_text(HAS_ROWS)
    print(f"\nfirst rows {time.monotonic() - clicked:.1f} s after the click")
    await expect(page.locator("#state")).to_have_text(FRESH)
    item_id = re.search(r"item_id = '([0-9a-f-]+)'", await page.inner_text("#next"))
    assert item_id is not None
    return item_id[1]


async def transactions(data_dir: Path) -> int:
    """Rows that a person finds with the settings that `up` has written."""
    named = re.search(r"DATABASE_URL='?([^'\n]+)", (data_dir / "environment").read_text())
    assert named is not None
    conn = await asyncpg.connect(named[1])
    try:
        return int(await conn.fetchval("SELECT count(*) FROM pluggy_live.transactions"))
    finally:
        await conn.close()


async def test_up_then_a_click_then_rows_and_the_same_data_again(
    data_dir: Path, tmp_path: Path
) -> None:
    with started_up(data_dir) as up:
        url = connect_url(up)
        up.until_line("Ctrl-C")
        secret = (data_dir / "webhook-secret").read_text().strip()
        assert up.output.count(secret) == 1
        async with open_page() as (page, problems):
            item_id = await connect(page, url)
            assert await transactions(data_dir) == 300
            await page.goto(f"{url}?item={item_id}")
            await page.click("#open")
            await expect(page.locator("#products")).to_contain_text("305")
            await expect(page.locator("#state")).to_have_text(FRESH)
            await page.screenshot(path=tmp_path / "connected.png")
            assert secret not in await page.content()
        assert problems == []
        assert up.end(signal.SIGTERM) == 0
        stopped = re.findall(r"^stopping (\S+)$", up.output, re.MULTILINE)
        assert stopped == ["receiver", "worker-1", "ops", "simulator", "Postgres", "Valkey"]
        assert "Traceback" not in up.output
    with started_up(data_dir) as up:
        up.until_line("Ctrl-C")
        assert secret not in up.output
        assert await transactions(data_dir) == 305
        family = guard.family(up.process.pid)
        assert len(family) > 10
        up.process.kill()

        async def all_gone() -> bool:
            known = guard.processes()
            return not any(pid in known and known[pid].state != "Z" for pid in family)

        await until(all_gone, f"all of {family} end with `up`", timeout_s=HANGS_AFTER_S)


async def test_the_widget_gets_a_token_and_its_item_is_registered(
    database_url: str, redis_url: str, redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> None:
    await fill_budget(redis)
    item = "b0ba85ea-2388-4748-869c-1a7d9546d897"
    async with (
        open_as_with_the_real_pluggy(database_url, redis_url, quiet_simulator.url) as ops,
        open_page() as (page, problems),
    ):
        script = {"content_type": "text/javascript", "body": OWN_WIDGET}
        await page.route(WIDGET, lambda route: route.fulfill(**script))
        await page.goto(f"{ops.url}/connect")
        await page.click("#open")
        await page.locator("body[data-widget='open']").wait_for()
        assert str(await page.evaluate("window.given.connectToken")).count(".") == 2
        await page.evaluate("window.given.onError({ message: 'wrong password' })")
        assert await page.inner_text("#error") == "Pluggy: wrong password"
        await page.evaluate(f"window.given.onSuccess({{ item: {{ id: '{item}' }} }})")
        await expect(page.locator("#state")).to_have_text(re.compile("^Reading"))
        conn = await asyncpg.connect(database_url)
        stored = await conn.fetchval("SELECT item_id::text FROM pluggy_sync.webhook_events")
        await conn.close()
        assert stored == item
        assert problems == []
        # An item that Pluggy does not know cannot be connected again.
        await page.goto(f"{ops.url}/connect?item={item}")
        await page.click("#open")
        await expect(page.locator("#error")).to_contain_text("does not know")
