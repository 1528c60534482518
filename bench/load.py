"""`python -m bench.load URL`: deliveries on 64 connections for some seconds; one JSON line.

Each connection sends the next event as soon as the answer is there, or at a steady rate. A protocol
of its own, because a client library would take more time than the server that is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import click
import uvloop

CONNECTIONS: Final = 64
ITEMS: Final = 1000
DIGITS: Final = 12
"""Hexadecimal digits of an eventId that differ."""
ACCEPTED: Final = b"HTTP/1.1 202"


def requests(host: str, secret: str) -> Iterator[bytes]:
    """Deliveries of item/updated, each with an eventId of its own.

    All but its last digits are made before: the client shares the cores with what is measured.
    """
    event_id = str(uuid.uuid4())[:-DIGITS]
    starts = [_start(host, secret, str(uuid.uuid4()), event_id) for _ in range(ITEMS)]
    for number in range(16**DIGITS):
        yield b'%b%012x"}' % (starts[number % ITEMS], number)


def _start(host: str, secret: str, item_id: str, event_id: str) -> bytes:
    body = f'{{"event": "item/updated", "itemId": "{item_id}", "eventId": "{event_id}'
    return (
        f"POST /webhooks/pluggy HTTP/1.1\r\nHost: {host}\r\nX-Webhook-Secret: {secret}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body) + DIGITS + 2}\r\n\r\n{body}"
    ).encode()


@dataclass(slots=True)
class Load:
    """What all connections share. pause_s: between two deliveries of a connection; 0: none."""

    bodies: Iterator[bytes]
    until: float
    pause_s: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0


class Delivery(asyncio.Protocol):
    """One connection. The answers are short: each comes as one piece."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.done = asyncio.get_running_loop().create_future()
        self.due = time.perf_counter() + load.pause_s * number / CONNECTIONS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._later()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        # From the time at which it was due: an answer that is late delays the next delivery.
        self.load.waits.append(now - self.due)
        self.load.refused += not data.startswith(ACCEPTED)
        if now < self.load.until:
            self.due = self.due + self.load.pause_s if self.load.pause_s else now
            self._later()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)

    def _later(self) -> None:
        wait_s = self.due - time.perf_counter()
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self.transport.write(next(self.load.bodies))  # type: ignore[attr-defined]


async def deliver(url: str, secret: str, seconds: float, rate: float) -> dict[str, float]:
    """Requests a second and milliseconds. Raises RuntimeError if one is not answered 202."""
    parts = urlsplit(url)
    began = time.perf_counter()
    pause_s = CONNECTIONS / rate if rate else 0.0
    load = Load(requests(parts.netloc, secret), began + seconds, pause_s)
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(
            lambda number=number: Delivery(load, number),  # type: ignore[misc]
            parts.hostname or "",
            parts.port or 80,
        )
        for number in range(CONNECTIONS)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in opened))
    took = time.perf_counter() - began
    if load.refused:
        raise RuntimeError(f"{load.refused} deliveries were not accepted")
    waits = sorted(load.waits)
    return {
        "requests": len(waits),
        "per_s": len(waits) / took,
        "p50_ms": waits[len(waits) // 2] * 1000,
        "p99_ms": waits[len(waits) * 99 // 100] * 1000,
    }


@click.command()
@click.argument("url")
@click.option("--secret", required=True)
@click.option("--seconds", default=2.0)
@click.option("--rate", default=0.0, help="Deliveries a second; without: as many as go.")
def main(url: str, secret: str, seconds: float, rate: float) -> None:
    """Deliver, and print what was measured."""
    click.echo(json.dumps(uvloop.run(deliver(url, secret, seconds, rate))))


if __name__ == "__main__":
    main()
