"""The webhook handler that one writes in an afternoon (ops/demo/afternoon.py), told by webhooks.

It stores less than the others: its own tables keep the body and a few columns, no hash, no record
of what was read, and one index. It is told each event once and in order, nothing fails, and it is
not killed; `make demo ARGS=--duel` shows the rest.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from embedded.ports import free_port
from tests.support.waiting import until

SECRET: Final = "a-secret-of-the-benchmark"  # noqa: S105 - of the benchmark
TABLE: Final = (
    "(SELECT a.item_id FROM afternoon.transactions t JOIN afternoon.accounts a"
    " ON a.id = t.account_id) AS rows_of_items"
)


class Handler:
    """Its process; pid, and the session that plays Pluggy."""

    def __init__(self, pid: int, url: str, pluggy: aiohttp.ClientSession) -> None:
        self.pid, self.url, self.pluggy = pid, url, pluggy

    async def run(self, events: Sequence[Mapping[str, Any]]) -> float:
        """Deliver the events; seconds until it has handled all of them."""
        began = time.perf_counter()
        await asyncio.gather(*map(self._deliver, events))
        await until(self._is_idle, "the handler has handled all", timeout_s=300)
        return time.perf_counter() - began

    async def _deliver(self, event: Mapping[str, Any]) -> None:
        headers = {"X-Webhook-Secret": SECRET}
        async with self.pluggy.post(f"{self.url}/webhook", json=event, headers=headers) as answer:
            if answer.status != 202:
                raise RuntimeError(f"the handler answered {answer.status}")

    async def _is_idle(self) -> bool:
        async with self.pluggy.get(f"{self.url}/at-work") as answer:
            return await answer.text() == "0"

    async def is_up(self) -> bool:
        """Whether it listens."""
        try:
            return await self._is_idle()
        except aiohttp.ClientConnectionError:
            return False


@asynccontextmanager
async def handler(environment: Mapping[str, str]) -> AsyncIterator[Handler]:
    """A running one, in this environment."""
    port = free_port()
    command = (sys.executable, "-m", "ops.demo.afternoon", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        *command, env={**environment, "WEBHOOK_SECRET": SECRET}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as pluggy:
            found = Handler(process.pid, f"http://127.0.0.1:{port}", pluggy)
            await until(found.is_up, "the handler listens")
            yield found
    finally:
        process.terminate()
        await process.wait()
