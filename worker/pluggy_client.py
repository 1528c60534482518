"""The connection to Pluggy: keys, limits, time-outs, and errors by class."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from multidict import CIMultiDictProxy
from redis.asyncio import Redis
from yarl import URL

from worker.budget import RateBudget
from worker.events import Lane
from worker.failures import (
    PluggyHalt,
    PluggyNotFound,
    PluggyRejected,
    PluggyUnavailable,
    PutOff,
)
from worker.metrics import REQUESTS
from worker.pluggy_payloads import (
    Unreadable,
    decode_error,
    decode_object,
)
from worker.settings import PluggySettings

CALL_TIMEOUT_S: Final = 20.0
"""One call with everything that belongs to it: budget, renewal of the key, one repeat."""
KEY_LIFETIME: Final = timedelta(minutes=110)
"""Pluggy's keys live two hours; ours are renewed a little earlier."""
DEFAULT_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 3600.0
API_KEY: Final = re.compile(r"[!-~]{1,7000}")
EXPIRED_KEY_CODES: Final = (None, "API_KEY_MISSING_OR_INVALID")

BAD_KEYS: Final = (
    "Pluggy refuses PLUGGY_CLIENT_ID / PLUGGY_CLIENT_SECRET: set valid keys (and look at"
    " PLUGGY_BASE_URL) and restart."
)
REFUSED: Final = (
    "Pluggy refuses a fresh key: check in Pluggy's dashboard that the application is enabled."
)
GONE: Final = "Pluggy has retired an endpoint that this release uses: install a newer release."


@dataclass(frozen=True, slots=True)
class Answer:
    """What Pluggy has answered, read to its end. Only the status is shown: the rest is private."""

    status: int
    body: bytes = field(repr=False)
    headers: CIMultiDictProxy[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """A request that is no GET. The body is private: of webhooks it holds our secret."""

    method: str
    body: Mapping[str, Any] = field(repr=False)


class PluggyClient:
    """Pluggy's API with our own key. Opened with `async with`; safe for concurrent use."""

    def __init__(
        self,
        *,
        base_url: str,
        client_id: str,
        client_secret: str,
        budget: RateBudget,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._call_timeout_s = call_timeout_s
        self._base_url = base_url
        self._credentials = {"clientId": client_id, "clientSecret": client_secret}
        self._budget = budget
        self._key: str | None = None
        self._key_until = datetime.min.replace(tzinfo=UTC)
        self._renewing = asyncio.Lock()

    @classmethod
    def of(cls, settings: PluggySettings, redis: Redis) -> Self:
        """The client of an environment, with the budget that it shares through Redis."""
        return cls(
            base_url=settings.pluggy_base_url,
            client_id=settings.pluggy_client_id,
            client_secret=settings.pluggy_client_secret.get_secret_value(),
            budget=RateBudget(redis, per_minute=settings.pluggy_requests_per_minute),
        )

    async def __aenter__(self) -> PluggyClient:
        self._session = aiohttp.ClientSession(
            # sock_connect, not connect: waiting for a free connection is no failure of Pluggy's.
            timeout=aiohttp.ClientTimeout(total=self._call_timeout_s, sock_connect=5),
            # Pages of 500 rows; long idle connections are closed by load balancers.
            connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=30),
            auto_decompress=True,
            raise_for_status=False,
        )
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self, path: str, *, lane: Lane, count: Callable[[], None], change: Change | None = None
    ) -> Answer:
        """GET a path, or change what it names; count is called once per request sent.

        Raises PluggyError.
        """
        try:
            async with asyncio.timeout(self._call_timeout_s):
                return await self._call_with_key(path, lane, count, change)
        # Without their causes: aiohttp quotes what it could not read, and bodies belong in no log.
        except TimeoutError:
            raise PluggyUnavailable("timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PluggyUnavailable(type(error).__name__) from None

    async def _call_with_key(
        self, path: str, lane: Lane, count: Callable[[], None], change: Change | None
    ) -> Answer:
        group = endpoint_group(path)
        key = await self._valid_key(lane, count)
        await self._budget.acquire(group, lane)
        answer = await self._send(path, key, count, change)
        if _key_refused(answer):
            key = await self._valid_key(lane, count, refused=key)
            await self._budget.acquire(group, lane)
            answer = await self._send(path, key, count, change)
            if _key_refused(answer):
                code, error_id = decode_error(answer.body)
                raise PluggyHalt(
                    f"{answer.status}:{code}",
                    advice=REFUSED,
                    status=answer.status,
                    error_id=error_id,
                )
        await self._raise_for(answer, group)
        return answer

    async def _send(
        self, path: str, key: str, count: Callable[[], None], change: Change | None
    ) -> Answer:
        count()
        async with self._session.request(
            change.method if change else "GET",
            # The cursor is already encoded: yarl must not touch it.
            URL(self._base_url + path, encoded=True),
            headers={"X-API-KEY": key},
            json=change.body if change else None,
            allow_redirects=False,
        ) as response:
            REQUESTS.labels(group=endpoint_group(path), status=response.status).inc()
            return Answer(response.status, await response.read(), response.headers)

    async def _raise_for(self, answer: Answer, group: str) -> None:
        if answer.status in (200, 201):
            return
        code, error_id = decode_error(answer.body)
        name = f"{answer.status}:{code or 'no_code'}"
        if answer.status == 429:
            pause_s = _pause_s(answer)
            await self._budget.empty(group, for_s=pause_s)
            raise PutOff("429", wait_s=pause_s, status=429)
        if answer.status == 410:
            raise PluggyHalt(name, advice=GONE, status=410, error_id=error_id)
        if answer.status == 404 and code:
            raise PluggyNotFound(name, status=404, error_id=error_id)
        if 400 <= answer.status < 500 and answer.status != 408:
            raise PluggyRejected(name, status=answer.status, error_id=error_id)
        raise PluggyUnavailable(name, status=answer.status, error_id=error_id)

    async def _valid_key(
        self, lane: Lane, count: Callable[[], None], *, refused: str | None = None
    ) -> str:
        """The current key, renewed if it is old or was just refused; one renewal at a time."""
        async with self._renewing:
            fresh = self._key is not None and datetime.now(UTC) < self._key_until
            if self._key is None or not fresh or self._key == refused:
                await self._budget.acquire("auth", lane)
                self._key = await self._renew_key(count)
                self._key_until = datetime.now(UTC) + KEY_LIFETIME
            return self._key

    async def _renew_key(self, count: Callable[[], None]) -> str:
        count()
        async with self._session.post(
            f"{self._base_url}/auth", json=self._credentials, allow_redirects=False
        ) as response:
            REQUESTS.labels(group="auth", status=response.status).inc()
            answer = Answer(response.status, await response.read(), response.headers)
        # 404 too: then PLUGGY_BASE_URL is not Pluggy's. It is never about the item.
        if 400 <= answer.status < 500 and answer.status not in (408, 429):
            _, error_id = decode_error(answer.body)
            raise PluggyHalt(
                f"auth:{answer.status}", advice=BAD_KEYS, status=answer.status, error_id=error_id
            )
        await self._raise_for(answer, "auth")
        return _api_key(answer.body)


def endpoint_group(path: str) -> str:
    """The group whose limit a GET counts against; https://docs.pluggy.ai/docs/rate-limits."""
    head = path.split("?", 1)[0].strip("/").split("/")
    if head[0] in ("v2", "v1"):
        head = head[1:]
    if head[0] == "investments" and head[-1] == "transactions":
        return "investment_transactions"
    return head[0]


def _api_key(body: bytes) -> str:
    try:
        key = decode_object(body).get("apiKey")
    except Unreadable as error:
        raise PluggyUnavailable("unreadable_auth") from error
    # Nothing that would break out of the header that it is sent in.
    if not isinstance(key, str) or not API_KEY.fullmatch(key):
        raise PluggyUnavailable("unreadable_auth")
    return key


def _key_refused(answer: Answer) -> bool:
    """Expired keys answer 403; https://docs.pluggy.ai/docs/authentication says 401, so both."""
    if answer.status == 401:
        return True
    return answer.status == 403 and decode_error(answer.body)[0] in EXPIRED_KEY_CODES


def _pause_s(answer: Answer) -> float:
    """Seconds to wait after a 429: RateLimit-Reset is the precise one, Retry-After is always 60."""
    for header in ("RateLimit-Reset", "Retry-After"):
        try:
            told = float(answer.headers[header])
        except (KeyError, ValueError):
            continue
        if isfinite(told):
            return min(max(told, 0.5), LONGEST_PAUSE_S)
    return DEFAULT_PAUSE_S
