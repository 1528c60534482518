"""How long the event loop waits for heavy inputs: what /livez and other deliveries wait too."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from worker.inbox.events import parse_webhook
from worker.infra.time_slices import beside
from worker.pluggy_api.payloads import decode_envelope
from worker.sync.page_rows import read_rows

TICK_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Waits:
    """The longest pause between two turns of the loop, in milliseconds."""

    parse_events_of_5000_ids: float
    decode_an_answer_of_15_mib: float
    decode_a_page_of_500_rows: float


async def longest_wait_ms(work: Awaitable[object]) -> float:
    """Await the work beside a task that wants a turn every millisecond."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK_S)
            longest = max(longest, time.perf_counter() - began - TICK_S)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await work
    ticking.cancel()
    return round(longest * 1000, 1)


def event_of(ids: int) -> bytes:
    """A transactions/updated with so many ids."""
    body = {name: str(uuid.uuid4()) for name in ("eventId", "itemId", "accountId")}
    named = [str(uuid.uuid4()) for _ in range(ids)]
    return json.dumps(body | {"event": "transactions/updated", "transactionIds": named}).encode()


def page_of(rows: int, text: str) -> bytes:
    """A list answer of so many rows, each with so much text."""
    found = [{"id": str(uuid.uuid4()), "amount": 12.5, "description": text} for _ in range(rows)]
    return json.dumps({"results": found, "next": None}).encode()


async def _repeated(times: int, size: int, work: Callable[[], object]) -> None:
    for _ in range(times):
        await beside(size, work)


async def _measure() -> Waits:
    event, large = event_of(5000), page_of(5000, "\u2713 text" * 250)
    rows = [msgspec.Raw(bytes(raw)) for raw in decode_envelope(page_of(500, "x" * 1500)).results]
    return Waits(
        parse_events_of_5000_ids=await longest_wait_ms(
            _repeated(200, len(event), lambda: parse_webhook(event, datetime.now(UTC)))
        ),
        decode_an_answer_of_15_mib=await longest_wait_ms(
            _repeated(3, len(large), lambda: decode_envelope(large))
        ),
        decode_a_page_of_500_rows=await longest_wait_ms(
            read_rows(rows, owner_key="accountId", owner=uuid.uuid4())
        ),
    )


def measure() -> Waits:
    """Run all on a loop of its own."""
    return asyncio.run(_measure())
