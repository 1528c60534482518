"""Errors of Pluggy calls by class, and the reaction to each.

PluggyError
 ├─ PluggyUnavailable   retry   5xx, time-outs, resets, broken JSON, unclassified errors
 ├─ Deferred            later   429 and our own rate limit: wait, no attempt is counted
 ├─ PluggyRefused       refused 401, 403, 410 on one resource, our key works: retry, then dead
 ├─ PluggyRejected      reject  a 4xx with a code about this one resource: dead at once
 │   └─ PluggyNotFound  reject  404; often a normal answer
 └─ PluggyHalt          halt    about our access, not the item: all work is parked
     └─ PluggyDown      down    about Pluggy, not the item: all work is parked
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Self

RETRY_BASE_S = 2.0
RETRY_CAP_S = 3600.0
MAX_RETRY_AGE = timedelta(days=3)
ITEM_NOT_FOUND = "404:ITEM_NOT_FOUND"
HTTP_GONE = 410
ODD_PAGES = ("not_a_list", "unusable_cursor")
MAX_RESTARTS = 2
"""Restarts of a read after a refused cursor, before the read fails."""
DOWN = "Pluggy does not answer: it is probed every few seconds, work goes on when it answers."


class PluggyError(Exception):
    """A failed call. code is Pluggy's or ours, never free text.

    error_id: Pluggy's errorId or, where it gives none, the x-request-id of its answer.
    endpoint: the endpoint without ids, such as GET /loans; None if no request failed.
    """

    failure_class: ClassVar[str] = "retry"
    endpoint: str | None = None
    wait_s: float | None = None
    is_own: bool = False

    def __init__(
        self, code: str, *, status: int | None = None, error_id: str | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.error_id = error_id

    def at(self, endpoint: str) -> Self:
        """Set the endpoint, unless it is set already; returns self."""
        self.endpoint = self.endpoint or endpoint
        return self


class PluggyUnavailable(PluggyError):
    """Pluggy or the network fails; the same call may succeed later."""


class CursorRefused(PluggyUnavailable):
    """The cursor of a page is refused, not the list: the list is read again, a few times."""

    @classmethod
    def of(cls, error: PluggyError) -> CursorRefused | None:
        """A further page's error as CursorRefused; None if the error is not about the cursor.

        A refusal of the list itself shows at its first page.
        """
        status = error.status or 0
        refused = 400 <= status < 500 and status not in (408, 429)
        if error.code.startswith("auth:") or not (refused or error.code in ODD_PAGES):
            return None
        code = "cursor_refused" if refused else error.code
        found = cls(code, status=error.status, error_id=error.error_id)
        found.endpoint = error.endpoint
        return found


class Deferred(PluggyError):
    """A rate limit is reached: repeat after wait_s seconds.

    is_own: the limit of this resource alone, not of the endpoint group.
    """

    failure_class = "deferred"
    wait_s: float

    def __init__(
        self,
        code: str,
        *,
        wait_s: float,
        status: int | None = None,
        error_id: str | None = None,
        is_own: bool = False,
    ) -> None:
        super().__init__(code, status=status, error_id=error_id)
        self.wait_s = wait_s
        self.is_own = is_own


class PluggyRefused(PluggyError):
    """Access to this resource is refused, while the same key works elsewhere."""

    failure_class = "refused"


class PluggyRejected(PluggyError):
    """Pluggy rejects this request; repeating it would not help.

    answer: all that Pluggy says. Private: only a person who has asked is shown parts of it.
    """

    failure_class = "reject"
    answer: Mapping[str, Any] = MappingProxyType({})


class PluggyNotFound(PluggyRejected):
    """404 with a code: the resource does not exist (for this key)."""


class PluggyHalt(PluggyError):
    """Our credentials or our use of the API are refused; advice says what to do about it."""

    failure_class = "halt"
    probe_every: ClassVar[timedelta] = timedelta(minutes=1)

    def __init__(
        self, code: str, *, advice: str, status: int | None = None, error_id: str | None = None
    ) -> None:
        super().__init__(code, status=status, error_id=error_id)
        self.advice = advice


class PluggyDown(PluggyHalt):
    """Most calls of the last 30 seconds failed: work is parked, with a probe every few seconds."""

    failure_class = "down"
    probe_every = timedelta(seconds=5)

    def __init__(self) -> None:
        super().__init__("pluggy_down", advice=DOWN)


@dataclass(frozen=True, slots=True)
class Failure:
    """A classified failure of a step, as it is stored."""

    failure_class: str
    code: str
    status: int | None = None
    error_id: str | None = None
    wait_s: float | None = None
    endpoint: str | None = None
    is_own_limit: bool = False


def classify(error: Exception) -> Failure:
    """Classify an exception of a step; unclassified ones are retried."""
    if not isinstance(error, PluggyError):
        return Failure("retry", type(error).__name__)
    return Failure(
        error.failure_class,
        error.code,
        error.status,
        error.error_id,
        error.wait_s,
        error.endpoint,
        error.is_own,
    )


@dataclass(frozen=True, slots=True)
class RetryState:
    """Failures of one step or refresh so far; dead_at: given up, and begun again by a new event."""

    attempts: int
    failing_since: datetime | None
    dead_at: datetime | None

    def after(
        self, failure: Failure, *, now: datetime, is_final: bool = False
    ) -> tuple[int, timedelta | None]:
        """Attempts with this failure, and the pause before the next; None: dead."""
        attempts = 1 if self.dead_at is not None else self.attempts + 1
        since = None if self.dead_at is not None else self.failing_since
        exhausted = since is not None and now - since >= MAX_RETRY_AGE
        if is_final or failure.failure_class == "reject" or exhausted:
            return attempts, None
        return attempts, timedelta(seconds=retry_pause_s(attempts))


def retry_pause_s(attempts: int) -> float:
    """Full-jitter exponential backoff: seconds before try number attempts + 1."""
    ceiling = min(RETRY_CAP_S, RETRY_BASE_S * 2 ** min(attempts, 20))
    return random.uniform(0.1, ceiling)  # noqa: S311 - jitter, no secret
