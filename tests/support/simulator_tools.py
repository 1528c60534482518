"""Tools for tests of the simulator: a caller with a key, and a webhook receiver that can refuse."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.simulator_process import SimulatorProcess

KEYS = {"clientId": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "clientSecret": "any"}
SECRET = "a-secret-for-the-tests"  # noqa: S105 - the simulator gets it


class Caller:
    """Calls the API as a client with a key does."""

    def __init__(self, simulator: SimulatorProcess) -> None:
        self._simulator = simulator
        self.key = ""
        self.log_in()

    def log_in(self) -> str:
        self.key = str(self._simulator.call("POST", "/auth", KEYS)[2]["apiKey"])
        return self.key

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        return self._simulator.call(method, path, body, {"X-API-KEY": self.key})

    def get(self, path: str) -> Any:
        status, _, body = self.call("GET", path)
        assert status == 200, (path, status, body)
        return body

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str | None]:
        status, _, answer = self.call(method, path, body)
        assert status >= 400, (path, answer)
        assert answer["code"] == status
        assert answer["message"]
        return status, answer.get("codeDescription")

    def walk(self, query: str) -> list[dict[str, Any]]:
        """All pages of a listing of transactions, in order."""
        rows: list[dict[str, Any]] = []
        following: str | None = query
        while following is not None:
            page = self.get(f"/v2/transactions{following}")
            rows += page["results"]
            following = page["next"]
        return rows


@dataclass
class Delivery:
    """One request that reached the receiver."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    status: int


@dataclass
class Receiver:
    """Takes webhooks on a free port; `answer` decides the status of each (default 202)."""

    answer: Callable[[dict[str, Any]], int] = lambda body: 202
    deliveries: list[Delivery] = field(default_factory=list)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = receiver.answer(body)
                receiver.deliveries.append(Delivery(self.path, dict(self.headers), body, status))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """No log: tests read `deliveries`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    @property
    def events(self) -> list[str]:
        return [delivery.body["event"] for delivery in self.deliveries]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [d.body for d in self.deliveries if d.body["event"] == event]


def until(condition: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """Poll until the condition is true; fails with its last value."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"did not come true: {result!r}"
        time.sleep(0.01)
    return result


def attempted(simulator: SimulatorProcess, count: int) -> None:
    """Wait until so many attempts to deliver are over, and what follows on the last is planned."""
    until(lambda: len(simulator.get("/_simulator/webhooks")["log"]) == count)


def delivered(simulator: SimulatorProcess) -> None:
    """Wait until no delivery is under way."""
    until(lambda: simulator.get("/_simulator/webhooks?last=0")["pending"] == 0)
