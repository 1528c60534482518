"""HTTP client for Pluggy: API key, rate limit, time-outs, and classified errors."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
from redis.asyncio import Redis
from yarl import URL

from worker.infra.lanes import Lane
from worker.infra.metrics import REQUESTS
from worker.infra.settings import PluggyAccess
from worker.pluggy_api.api_key import (
    REFUSALS_APART_S,
    ApiKey,
    Refusals,
    is_key_answered,
    is_key_refused,
    read_key,
)
from worker.pluggy_api.error_answers import code_and_id, error_of, refusal
from worker.pluggy_api.errors import Deferred, PluggyError, PluggyHalt, PluggyUnavailable
from worker.pluggy_api.http import (
    CHANGED_STATUS,
    ENCODINGS,
    READ_STATUS,
    Answer,
    Call,
    Change,
    endpoint_group,
    endpoint_of,
    read_body,
)
from worker.pluggy_api.rate_limit import RateBudget

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 20.0
"""Time-out of a call, including the wait for the rate limit, key renewal and one repeat."""
PLAIN_PATHS: Final = ("/connectors/200", "/items/00000000-0000-4000-8000-000000000000")
"""Paths that confirm a refused key: one that every key may read, and an item of no user."""
MAX_TRIES: Final = 3
"""The call, a repeat with a renewed key, and one more after a plain path was answered."""

BAD_KEYS_ADVICE: Final = (
    "Pluggy refuses PLUGGY_CLIENT_ID / PLUGGY_CLIENT_SECRET: set valid keys (and look at"
    " PLUGGY_BASE_URL) and restart."
)
KEY_REFUSED_ADVICE: Final = (
    "Pluggy refuses a fresh key: check in Pluggy's dashboard that the application is enabled."
)


class PluggyClient:
    """HTTP client with our API key. Opened with `async with`; safe for concurrent use."""

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
        self._key: ApiKey | None = None
        self._refusals = Refusals()
        self._renewing = asyncio.Lock()

    @classmethod
    def of(cls, settings: PluggyAccess, redis: Redis) -> Self:
        """A client for the settings, with a rate limit shared through Redis."""
        return cls(
            base_url=settings.pluggy_base_url,
            client_id=settings.pluggy_client_id,
            client_secret=settings.pluggy_client_secret.get_secret_value(),
            budget=RateBudget(redis, per_minute=settings.pluggy_requests_per_minute),
        )

    async def __aenter__(self) -> PluggyClient:
        self._session = aiohttp.ClientSession(
            # sock_connect, not connect: waiting for a free connection is not Pluggy's failure.
            timeout=aiohttp.ClientTimeout(total=self._call_timeout_s, sock_connect=5),
            # Pages of 500 rows; long idle connections are closed by load balancers.
            connector=aiohttp.TCPConnector(limit=128, keepalive_timeout=30),
            # read_body() decompresses with a limit, which aiohttp does not have.
            auto_decompress=False,
            headers={"Accept-Encoding": ENCODINGS},
            raise_for_status=False,
        )
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self,
        path: str,
        *,
        lane: Lane,
        count: Callable[[], None],
        change: Change | None = None,
        granted: bool = False,
    ) -> Answer:
        """GET a path, or send a change to it; count is called once per request sent.

        granted: the call has been reserved with reserve(). Raises PluggyError.
        """
        endpoint = f"{change.method if change else 'GET'} {endpoint_of(path)}"
        call = Call(path, endpoint_group(path), lane, count, change)
        return await self._bounded(endpoint, self._call_with_key(call, granted))

    async def reserve(
        self, endpoint: str, lane: Lane, *, of_unknown: bool, named: uuid.UUID | None = None
    ) -> float:
        """Wait for the rate limit of a later call, made with granted=True; returns the seconds.

        of_unknown: for an item that is not stored; also takes from the share of such items.
        named: a stored item named by a webhook; also takes from the share of this item.
        Raises Deferred.
        """
        group, waited_s = endpoint_group(endpoint), 0.0
        try:
            if of_unknown or named is not None:
                waited_s = await self._budget.take_share(group, None if of_unknown else named)
            return waited_s + await self._budget.acquire(group, lane)
        except Deferred as error:
            error.at(f"GET {endpoint}")
            raise

    async def probe(self, *, new_key: bool, count: Callable[[], None]) -> None:
        """GET a plain path, with a new key if new_key; any accepted answer will do.

        Raises PluggyError if Pluggy refuses the key or does not answer.
        """
        path = PLAIN_PATHS[0]
        call = Call(path, endpoint_group(path), Lane.LIVE, count)
        await self._bounded(f"GET {endpoint_of(path)}", self._probe(call, new_key))

    async def _probe(self, call: Call, new_key: bool) -> None:
        async with self._renewing:
            key = self._key
            if key is None or new_key or key.has_run_out(time.monotonic()):
                key = await self._renew(call)
            if not await self._is_plainly_answered(key, call):
                raise PluggyHalt("key_refused", advice=KEY_REFUSED_ADVICE)

    async def _bounded(self, endpoint: str, work: Awaitable[T]) -> T:
        """Await the work within the call time-out; raise all errors as PluggyError."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                return await work
        # Without causes: aiohttp quotes bytes that it could not read, and bodies are not logged.
        except TimeoutError:
            raise PluggyUnavailable("timeout").at(endpoint) from None
        except (aiohttp.ClientError, OSError) as error:
            raise PluggyUnavailable(type(error).__name__).at(endpoint) from None
        except PluggyError as error:
            error.at(endpoint)
            raise

    async def _call_with_key(self, call: Call, granted: bool) -> Answer:
        key = await self._valid_key(call)
        for _ in range(MAX_TRIES):
            if not granted:
                await self._budget.acquire(call.group, call.lane)
            granted = False
            answer = await self._ask(call, key)
            if not is_key_refused(answer.status, answer.body):
                if answer.status not in (CHANGED_STATUS if call.change else READ_STATUS):
                    raise await self._error_of(answer, call.group)
                return answer
            key = await self._key_after(answer, key, call)
        raise refusal(answer)

    async def _ask(self, call: Call, key: ApiKey) -> Answer:
        call.count()
        async with self._session.request(
            call.change.method if call.change else "GET",
            # The cursor is encoded already; yarl must not change it.
            URL(self._base_url + call.path, encoded=True),
            headers={"X-API-KEY": key.value},
            json=(call.change.body or None) if call.change else None,
            allow_redirects=False,
        ) as response:
            answer = await _read(response, call.group)
        if is_key_answered(answer.status, answer.body):
            key.answered_at = time.monotonic()
            self._refusals.end()
        return answer

    async def _error_of(self, answer: Answer, group: str) -> PluggyError:
        """The error of an answer; after a limit of a group, the group is blocked too."""
        error = error_of(answer, group)
        if isinstance(error, Deferred) and not error.is_own:
            await self._budget.empty(group, wait_s=error.wait_s)
        return error

    async def _valid_key(self, call: Call) -> ApiKey:
        """The current key, renewed if it has expired; one renewal at a time."""
        if self._key is not None and not self._key.has_run_out(time.monotonic()):
            return self._key
        async with self._renewing:
            if self._key is None or self._key.has_run_out(time.monotonic()):
                return await self._renew(call)
            return self._key

    async def _key_after(self, answer: Answer, key: ApiKey, call: Call) -> ApiKey:
        """The key to repeat a refused call with. Raises PluggyRefused if the key itself is valid.

        A plain path decides: if it accepts the key, the refusal is about the resource. If it
        refuses keys too, several seconds apart, raises PluggyHalt; before that Deferred.
        """
        async with self._renewing:
            if self._key is not None and self._key is not key:
                return self._key
            now = time.monotonic()
            if key.is_vouched_for(now):
                raise refusal(answer)
            if not key.is_trusted(now):
                return await self._renew(call)
            was_answered = key.was_answered
            if not await self._is_plainly_answered(key, call):
                return await self._key_after_all_refused(answer, key, call)
            if was_answered:
                raise refusal(answer)
            return key

    async def _key_after_all_refused(self, answer: Answer, key: ApiKey, call: Call) -> ApiKey:
        now = time.monotonic()
        if key.was_answered:
            return await self._renew(call)
        self._refusals.note(key, now)
        if not self._refusals.are_apart(now):
            raise Deferred(
                "key_refused",
                wait_s=REFUSALS_APART_S,
                status=answer.status,
                error_id=code_and_id(answer)[1],
            )
        if len(self._refusals.keys) == 1:
            return await self._renew(call)
        raise _halted("key_refused", KEY_REFUSED_ADVICE, answer)

    async def _is_plainly_answered(self, key: ApiKey, call: Call) -> bool:
        """Whether a path that every key may read accepts this one.

        Raises PluggyUnavailable if no answer decides it, and Deferred.
        """
        refusals = 0
        for path in PLAIN_PATHS:
            plain = Call(path, endpoint_group(path), call.lane, call.count)
            await self._budget.acquire(plain.group, plain.lane)
            answer = await self._ask(plain, key)
            if is_key_answered(answer.status, answer.body):
                key.vouched_at = time.monotonic()
                return True
            refusals += is_key_refused(answer.status, answer.body)
        if refusals == len(PLAIN_PATHS):
            return False
        raise PluggyUnavailable(
            f"{answer.status}:plain", status=answer.status, error_id=code_and_id(answer)[1]
        )

    async def _renew(self, call: Call) -> ApiKey:
        await self._budget.acquire("auth", call.lane)
        call.count()
        async with self._session.post(
            f"{self._base_url}/auth", json=self._credentials, allow_redirects=False
        ) as response:
            answer = await _read(response, "auth")
        # Also 404: then PLUGGY_BASE_URL is wrong. It is never about the item.
        if 400 <= answer.status < 500 and answer.status not in (408, 429):
            raise _halted(f"auth:{answer.status}", BAD_KEYS_ADVICE, answer)
        if answer.status not in READ_STATUS:
            raise await self._error_of(answer, "auth")
        self._key = ApiKey(read_key(answer.body), time.monotonic())
        return self._key


async def _read(response: aiohttp.ClientResponse, group: str) -> Answer:
    REQUESTS.labels(group=group, status=response.status).inc()
    return Answer(response.status, await read_body(response), response.headers)


def _halted(code: str, advice: str, answer: Answer) -> PluggyHalt:
    _, error_id = code_and_id(answer)
    return PluggyHalt(code, advice=advice, status=answer.status, error_id=error_id)
