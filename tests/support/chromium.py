"""A headless Chromium, driven by the DevTools protocol over its WebSocket.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

from embedded import guard
from ops.demo.processes import spawn_guarded
from tests.support.waiting import until

PROGRAM: Final = "chromium"
OPTIONS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--no-first-run", "--window-size=1000,800"),
    "--remote-debugging-port=0",
)
"""--no-sandbox: as root there is none; the pages are our own."""
HANGS_AFTER_S: Final = 300.0
"""A browser beside other programs takes its time."""


class Page:
    """One page. problems: exceptions of its scripts, and what the browser has refused or missed."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._served: dict[str, str] = {}
        self._sending: set[asyncio.Task[Any]] = set()

    async def call(self, method: str, **parameters: Any) -> Any:
        """A command of the protocol. Raises AssertionError where it fails."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await answer

    async def open(self, url: str) -> None:
        """Go there; returns when the page and its scripts are loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, also that of a promise."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def click(self, selector: str) -> None:
        """Click as a person does, in the middle of the element."""
        box = await self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView();"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];"
            " })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=box[0], y=box[1], button="left", clickCount=1,
            )  # fmt: skip

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({selector!r}).innerText"))

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""

        async def holds() -> bool:
            return bool(await self.evaluate(expression))

        await until(holds, f"{expression}; {self.problems}", timeout_s=HANGS_AFTER_S)

    async def screenshot(self) -> bytes:
        """A PNG of what is shown."""
        found = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])

    async def serve(self, url: str, script: str) -> None:
        """Answer requests for a URL of another site with a script."""
        self._served[url] = script
        patterns = [{"urlPattern": served} for served in self._served]
        await self.call("Fetch.enable", patterns=patterns)

    async def listen(self) -> None:
        """Read answers and events until the browser is gone."""
        async for message in self._socket:
            document = message.json()
            if "id" in document:
                self._answer(document)
            else:
                self._event(document["method"], document["params"])

    def _answer(self, document: dict[str, Any]) -> None:
        answer = self._answers.pop(document["id"])
        if "error" in document:
            answer.set_exception(AssertionError(document["error"]))
        else:
            answer.set_result(document["result"])

    def _event(self, method: str, event: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                self.problems.append(str(event["exceptionDetails"]))
            case "Log.entryAdded" if event["entry"]["level"] == "error":
                self.problems.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
            case "Fetch.requestPaused":
                self._fulfil(event["requestId"], self._served[event["request"]["url"]])

    def _fulfil(self, request_id: str, script: str) -> None:
        headers = [{"name": "Content-Type", "value": "text/javascript"}]
        body = base64.b64encode(script.encode()).decode()
        sending = asyncio.create_task(
            self.call(
                "Fetch.fulfillRequest",
                requestId=request_id,
                responseCode=200,
                responseHeaders=headers,
                body=body,
            )
        )
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)


@asynccontextmanager
async def open_page(directory: Path) -> AsyncIterator[Page]:
    """A page of a new browser with a profile in the directory; the browser ends with the block."""
    program = shutil.which(PROGRAM)
    assert program, f"no {PROGRAM}: apt-get install chromium"
    profile = directory / "profile"
    command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    environment = {**os.environ, "HOME": str(directory)}
    with (directory / "chromium.log").open("wb") as log:
        watching, pid = spawn_guarded(command, environment, output=log)
    assert pid is not None
    try:
        async with aiohttp.ClientSession() as session, _connected(session, profile) as page:
            yield page
    finally:
        guard.kill_family(pid)
        with watching:
            pass


@asynccontextmanager
async def _connected(session: aiohttp.ClientSession, profile: Path) -> AsyncIterator[Page]:
    port = await _debugging_port(profile)
    async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
        target = next(each for each in await reply.json() if each["type"] == "page")
    async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
        page = Page(socket)
        listening = asyncio.create_task(page.listen())
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        yield page
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def _debugging_port(profile: Path) -> int:
    async def is_there() -> bool:
        return len(named.read_text().splitlines()) == 2 if named.exists() else False

    named = profile / "DevToolsActivePort"
    await until(is_there, "Chromium listens", timeout_s=HANGS_AFTER_S)
    return int(named.read_text().splitlines()[0])
