"""Interpret error answers: the error to raise, and how many seconds to wait after a 429."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Final

from worker.pluggy_api.errors import (
    Deferred,
    PluggyError,
    PluggyNotFound,
    PluggyRefused,
    PluggyRejected,
    PluggyUnavailable,
)
from worker.pluggy_api.http import Answer, http_date
from worker.pluggy_api.payloads import decode_error, decode_refusal, is_object

WINDOW_S: Final = 60.0
"""Pluggy counts calls by the minute; https://docs.pluggy.ai/docs/rate-limits."""
MAX_GROUP_WAIT_S: Final = 2 * WINDOW_S
MAX_OWN_WAIT_S: Final = 24 * 3600.0
MIN_WAIT_S: Final = 0.5
MAX_DELAY_S: Final = 1e7
"""A number above this, four months, is a date, not a delay."""
GROUP_CODES: Final = (None, "TOO_MANY_REQUESTS", "RATE_LIMIT_EXCEEDED")
"""A 429 with such a codeDescription is about all calls of the endpoint group."""
REFUSED_STATUS: Final = (401, 403, 410)


def error_of(answer: Answer, group: str) -> PluggyError:
    """The error that an answer to a call of the group stands for.

    A 4xx that is no JSON object is a proxy's, or Pluggy's and cut: nothing is given up for it.
    """
    status, (code, error_id) = answer.status, code_and_id(answer)
    name = f"{status}:{code or 'no_code'}"
    if status == 429:
        is_own = group != "auth" and code not in GROUP_CODES
        code, wait_s = (name, own_wait_s) if is_own else ("429", group_wait_s)
        wait = wait_s(answer.headers)
        return Deferred(code, wait_s=wait, status=status, error_id=error_id, is_own=is_own)
    if status in REFUSED_STATUS:
        return PluggyRefused(name, status=status, error_id=error_id)
    if status == 404 and code:
        return PluggyNotFound(name, status=status, error_id=error_id)
    if 400 <= status < 500 and status != 408 and is_object(answer.body):
        rejected = PluggyRejected(name, status=status, error_id=error_id)
        rejected.answer = decode_refusal(answer.body)
        return rejected
    return PluggyUnavailable(name, status=status, error_id=error_id)


def refusal(answer: Answer) -> PluggyRefused:
    """The error of an answer that refuses access."""
    code, error_id = code_and_id(answer)
    name = f"{answer.status}:{code or 'no_code'}"
    return PluggyRefused(name, status=answer.status, error_id=error_id)


def code_and_id(answer: Answer) -> tuple[str | None, str | None]:
    """codeDescription and errorId of a failure; without an errorId, the id of the request."""
    code, error_id = decode_error(answer.body)
    return code, error_id or answer.request_id


def group_wait_s(headers: Mapping[str, str]) -> float:
    """Seconds to block an endpoint group, at most two windows.

    RateLimit-Reset is more precise (Retry-After is always 60), but some servers send a timestamp in
    it. Without either header: one window.
    """
    stated = [_delay_s(headers, "RateLimit-Reset"), _delay_s(headers, "Retry-After")]
    known = [delay for delay in stated if delay is not None]
    sane = [delay for delay in known if delay <= MAX_GROUP_WAIT_S]
    wait_s = sane[0] if sane else MAX_GROUP_WAIT_S if known else WINDOW_S
    return max(MIN_WAIT_S, wait_s)


def own_wait_s(headers: Mapping[str, str]) -> float:
    """Seconds to defer one resource, at most a day."""
    stated = [_delay_s(headers, "Retry-After"), _delay_s(headers, "RateLimit-Reset")]
    wait_s = next((delay for delay in stated if delay is not None), WINDOW_S)
    return min(MAX_OWN_WAIT_S, max(MIN_WAIT_S, wait_s))


def _delay_s(headers: Mapping[str, str], name: str) -> float | None:
    """Seconds in a header, written as a number or as a date; None: neither."""
    if name not in headers:
        return None
    try:
        delay = float(headers[name])
    except ValueError:
        return _until_s(headers[name], headers.get("Date"))
    return delay if isfinite(delay) and delay <= MAX_DELAY_S else None


def _until_s(moment: str, sent: str | None) -> float | None:
    """Seconds between two HTTP dates, both by the server's clock."""
    until = http_date(moment)
    begin = http_date(sent) if sent is not None else datetime.now(UTC)
    return None if until is None or begin is None else (until - begin).total_seconds()
