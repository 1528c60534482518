"""`python -m tests.chaos.hostile PORT ...`: strangers without the secret, on 20 connections, until
ended. A process of its own, so that what they cost its sender is not taken for the receiver's.

Prints a JSON line a second: how often each kind has had a connection closed or answered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from typing import Final

EACH: Final = 5
"""Connections of a kind."""
MIB: Final = 1024 * 1024
BOMB_MIB: Final = 2048
PAUSE_S: Final = 0.5
"""After each attack: with their sizes that is half a gigabit a second, on the machine of all."""
DRIP_EVERY_S: Final = 0.2
LOG_INTERVAL_S: Final = 1.0
HEAD: Final = (
    b"POST /webhooks/pluggy HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret: a-guess-that-is-wrong\r\n"
)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def packed(mib: int) -> bytes:
    """So much of nothing, a thousandth of its size."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(bytes(128 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + mib // 128 * block


async def whole(connection: Connection, headers: bytes, body: bytes) -> None:
    """A whole request; returns when the server has closed the connection."""
    reader, writer = connection
    writer.write(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await reader.read()


async def dripping(connection: Connection, start: bytes, drip: bytes) -> None:
    """Something without an end, a little at a time, until the server has closed the connection."""
    reader, writer = connection
    reading = asyncio.create_task(reader.read())
    writer.write(start)
    while not reading.done():
        writer.write(drip)
        await asyncio.sleep(DRIP_EVERY_S)
    await reading


async def gzip_bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole((reader, writer), b"Content-Encoding: gzip\r\n", BOMB)


async def slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await dripping((reader, writer), HEAD + b"X-Slow: ", b"x")


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await dripping((reader, writer), HEAD + b"Content-Length: 1000000\r\n\r\n", b" ")


async def large_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole((reader, writer), b"", LARGE)


KINDS: Final[dict[str, Attack]] = {
    "gzip bombs": gzip_bomb,
    "slow heads": slow_head,
    "slow bodies": slow_body,
    "large bodies": large_body,
}
CONNECTIONS: Final = EACH * len(KINDS)
BOMB: Final = packed(BOMB_MIB)
LARGE: Final = bytes(4 * MIB)


async def attack(ports: Sequence[int]) -> None:
    """Attack these ports in turn, and tell of it, until cancelled."""
    ended = Counter[str]()
    next_port = itertools.cycle(ports)
    async with asyncio.TaskGroup() as group:
        for kind, one in KINDS.items():
            for _ in range(EACH):
                group.create_task(_keep_on(next(next_port), kind, one, ended))
        while True:
            await asyncio.sleep(LOG_INTERVAL_S)
            print(json.dumps({"event": "attacked", **ended}), flush=True)


async def _keep_on(port: int, kind: str, one: Attack, ended: Counter[str]) -> None:
    while True:
        # It is cut off by the server, or that is being started again.
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                await one(reader, writer)
        ended[kind] += 1
        await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    asyncio.run(attack([int(port) for port in sys.argv[1:]]))
