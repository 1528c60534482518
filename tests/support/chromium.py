"""A page of Debian's Chromium, driven by playwright; no browser is downloaded for it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import ConsoleMessage, Page, async_playwright, expect

PROGRAM: Final = "chromium"
OPTIONS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    "--disable-background-networking",
)
"""--no-sandbox: as root there is none; the pages are our own."""
HANGS_AFTER_MS: Final = 300_000
"""A browser beside other programs takes its time."""


@asynccontextmanager
async def open_page() -> AsyncIterator[tuple[Page, list[str]]]:
    """A page of a new browser, which ends with the block; and its problems: exceptions of its
    scripts, and what the browser has refused or missed."""
    program = shutil.which(PROGRAM)
    assert program, f"no {PROGRAM}: apt-get install chromium"
    expect.set_options(timeout=HANGS_AFTER_MS)
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=program, args=OPTIONS, timeout=HANGS_AFTER_MS
        ) as browser,
    ):
        page = await browser.new_page()
        page.set_default_timeout(HANGS_AFTER_MS)
        problems: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type == "error":
                problems.append(f"{message.text} {message.location}")

        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page, problems
