"""How fast one simulator answers, and what a million transactions weigh in it."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import click
import uvloop

from tests.support.service_process import peak_memory_kb
from tests.support.simulator_process import SimulatorProcess

CLIENT = {"clientId": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "clientSecret": "bench"}
CONNECTIONS = 8


@dataclass(frozen=True)
class Figures:
    """What `make bench` shows of the simulator; `rows` are of one item, `rows_mb` the process."""

    items_per_s: float
    pages_per_s: float
    rows: int
    rows_mb: float
    import_s: float


def log_in(simulator: SimulatorProcess) -> str:
    return str(simulator.post("/auth", CLIENT)["apiKey"])


def make_item(simulator: SimulatorProcess, transactions: int) -> str:
    return str(simulator.post("/_simulator/items", {"transactions": transactions})["id"])


class _Connection(asyncio.Protocol):
    """Sends one prepared request after the other; reads no more of an answer than its length."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._buffer = b""
        self._missing = 0
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports only look like asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the simulator hung up"))

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing == 0:
            self._buffer += data
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(RuntimeError(head.decode()))
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self._missing, self._buffer, data = length, b"", rest
        self._missing -= len(data)
        if self._missing == 0:
            self.answers += 1
            self._send()


async def _load(url: str, requests: Sequence[Iterator[bytes]]) -> float:
    """Answers per second over as many connections as there are streams of requests."""
    address, loop = urlsplit(url), asyncio.get_running_loop()
    started = time.perf_counter()
    running = []
    for stream in requests:
        done = loop.create_future()
        _, connection = await loop.create_connection(
            lambda stream=stream, done=done: _Connection(stream, done),  # type: ignore[misc]
            address.hostname or "",
            address.port or 0,
        )
        running.append((connection, done))
    await asyncio.gather(*(done for _, done in running))
    elapsed = time.perf_counter() - started
    return sum(connection.answers for connection, _ in running) / elapsed


def _get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: simulator\r\nX-API-KEY: {key}\r\n\r\n".encode()


def items_per_second(simulator: SimulatorProcess, *, seconds: float) -> float:
    """GET /items/{id} over twenty items."""
    key = log_in(simulator)
    requests = [_get(f"/items/{make_item(simulator, 10)}", key) for _ in range(20)]

    def stream() -> Iterator[bytes]:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            yield from requests

    return uvloop.run(_load(simulator.url, [stream() for _ in range(CONNECTIONS)]))


def pages_per_second(simulator: SimulatorProcess, item_id: str, *, seconds: float) -> float:
    """Pages of 500 spread over a whole account: every answer is another page."""
    key = log_in(simulator)
    cursors = _cursors(simulator, item_id, key)
    streams = [_pages(cursors[start::CONNECTIONS], key, seconds) for start in range(CONNECTIONS)]
    return uvloop.run(_load(simulator.url, streams))


def _pages(cursors: Sequence[str], key: str, seconds: float) -> Iterator[bytes]:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for cursor in cursors:
            if time.perf_counter() >= until:
                return
            yield _get(f"/v2/transactions{cursor}", key)


def _cursors(simulator: SimulatorProcess, item_id: str, key: str) -> list[str]:
    """Walk an account once for the addresses of its full pages."""

    def get(path: str) -> Any:
        return simulator.call("GET", path, headers={"X-API-KEY": key})[2]

    account_id = get(f"/accounts?itemId={item_id}")["results"][0]["id"]
    following: str | None = f"?accountId={account_id}"
    cursors: list[str] = []
    while following is not None:
        page = get(f"/v2/transactions{following}")
        if len(page["results"]) == 500:
            cursors.append(following)
        following = page["next"]
    return cursors


def measure(*, quick: bool = False) -> Figures:
    seconds, rows = (2.0, 200_000) if quick else (5.0, 1_000_000)
    with SimulatorProcess(rate_limit=0) as simulator:
        item_rate = items_per_second(simulator, seconds=seconds)
    with SimulatorProcess(rate_limit=0) as simulator:
        started = time.perf_counter()
        item_id = make_item(simulator, rows)
        import_s = time.perf_counter() - started
        page_rate = pages_per_second(simulator, item_id, seconds=seconds)
        return Figures(
            items_per_s=round(item_rate),
            pages_per_s=round(page_rate, 1),
            rows=rows,
            rows_mb=round(peak_memory_kb(simulator.pid) / 1024),
            import_s=round(import_s, 1),
        )


@click.command()
@click.option("--quick", is_flag=True, help="200,000 rows instead of a million.")
def main(quick: bool) -> None:
    """Measure one simulator process on loopback; one JSON line."""
    click.echo(json.dumps(asdict(measure(quick=quick))))


if __name__ == "__main__":
    main()
