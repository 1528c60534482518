"""The simulator as a separate process, with its control calls."""

import asyncio
import json
import signal
import subprocess
from contextlib import ExitStack
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ops.demo.processes import SIMULATOR, Child, children, simulator_url

_STOPS_WITHIN_S = 60.0
_ANSWERS_WITHIN_S = 300.0


class SimulatorError(Exception):
    """The simulator refused a call; `status` and `body` say how."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class SimulatorProcess:
    """`with SimulatorProcess(url, secret, seed=3, rate_limit=0) as simulator: simulator.url`.

    Options are those of `python -m simulator`; True stands for a flag, False for its opposite.
    Works with `with` and `async with`; the async calls are `apost`, `aget`, `adelete`.
    """

    def __init__(
        self, webhook_url: str | None = None, webhook_secret: str | None = None, **options: Any
    ) -> None:
        named = {"webhook_url": webhook_url, "webhook_secret": webhook_secret, **options}
        self._arguments = [
            text
            for name, value in named.items()
            if value is not None
            for text in _flag(name, value)
        ]
        self._child: Child | None = None
        self._opened = ExitStack()
        self.url = ""

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> Self:
        started = self._opened.enter_context(children())
        self._child = started.start("simulator", [*SIMULATOR, *self._arguments])
        try:
            self.url = self._child.block_for_log(simulator_url)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> int:
        """Stop it; returns its exit status."""
        child, self._child = self._running(), None
        with self._opened:
            child.send(signal.SIGTERM)
            try:
                return child.guard.wait(_STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.send(signal.SIGKILL)
                return child.guard.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        if self._child is not None:
            await asyncio.to_thread(self.stop)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and decoded body, whatever the status."""
        status, sent, answer = self._raw(method, path, body, headers or {})
        return status, sent, json.loads(answer or b"null")

    def _raw(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 - always our own loopback address
            self.url + path,
            data=data,
            method=method,
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with urlopen(request, timeout=_ANSWERS_WITHIN_S) as answer:  # noqa: S310 - as above
                return answer.status, dict(answer.headers), answer.read()
        except HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    async def truth(self, item_id: str) -> bytes:
        """The document of everything that Pluggy holds of an item, numbers as they are written."""
        _, _, document = await asyncio.to_thread(
            self._raw, "GET", f"/_simulator/truth/{item_id}", None, {}
        )
        return document

    def _checked(self, method: str, path: str, body: Any = None) -> Any:
        status, _, answer = self.call(method, path, body)
        if status >= 400:
            raise SimulatorError(status, answer)
        return answer

    def post(self, path: str, json: Any = None) -> Any:
        return self._checked("POST", path, {} if json is None else json)

    def get(self, path: str) -> Any:
        return self._checked("GET", path)

    def delete(self, path: str) -> Any:
        return self._checked("DELETE", path)

    async def apost(self, path: str, json: Any = None) -> Any:
        return await asyncio.to_thread(self.post, path, json)

    async def aget(self, path: str) -> Any:
        return await asyncio.to_thread(self.get, path)

    async def adelete(self, path: str) -> Any:
        return await asyncio.to_thread(self.delete, path)

    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError("the simulator is not running")
        return self._child


def _flag(name: str, value: Any) -> list[str]:
    text = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{text}" if value else f"--no-{text}"]
    return [f"--{text}", str(value)]
