"""State of our API key: age, last accepted use, and refusals."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

from worker.pluggy_api.errors import PluggyUnavailable
from worker.pluggy_api.payloads import Unreadable, decode_error, decode_object

KEY_LIFETIME_S: Final = 110 * 60.0
"""Pluggy's keys are valid for two hours; ours are renewed a little earlier."""
TRUSTED_TTL_S: Final = 60.0
"""A younger key, or one answered within this time, is not renewed after a single refusal."""
VOUCHED_TTL_S: Final = 5.0
"""After an accepted call of a plain path, the key counts as valid for this long."""
REFUSALS_APART_S: Final = 3.0
"""A new key may take a moment until all of Pluggy's servers accept it."""
EXPIRED_KEY_CODES: Final = (None, "API_KEY_MISSING_OR_INVALID")
API_KEY: Final = re.compile(r"[!-~]{1,7000}")


@dataclass(eq=False, slots=True)
class ApiKey:
    """A key, and when (monotonic) it was obtained, last accepted, and accepted by a plain path."""

    value: str = field(repr=False)
    obtained_at: float
    answered_at: float = -math.inf
    vouched_at: float = -math.inf

    @property
    def was_answered(self) -> bool:
        return self.answered_at > -math.inf

    def has_run_out(self, now: float) -> bool:
        return now - self.obtained_at > KEY_LIFETIME_S

    def is_trusted(self, now: float) -> bool:
        """Whether one refusal does not yet mean that the key is invalid."""
        return now - max(self.obtained_at, self.answered_at) < TRUSTED_TTL_S

    def is_vouched_for(self, now: float) -> bool:
        return now - self.vouched_at < VOUCHED_TTL_S


@dataclass(slots=True)
class Refusals:
    """Keys refused by all calls since the last accepted one."""

    since: float | None = None
    keys: set[ApiKey] = field(default_factory=set, repr=False)
    """One entry per renewal, even if Pluggy returns the same key again."""

    def note(self, key: ApiKey, now: float) -> None:
        self.since = now if self.since is None else self.since
        self.keys.add(key)

    def are_apart(self, now: float) -> bool:
        """Whether keys have been refused for at least REFUSALS_APART_S."""
        return self.since is not None and now - self.since >= REFUSALS_APART_S

    def end(self) -> None:
        self.since = None
        self.keys.clear()


def read_key(body: bytes) -> str:
    """Read the key from an answer of POST /auth. Raises PluggyUnavailable."""
    try:
        key = decode_object(body).get("apiKey")
    except Unreadable as error:
        raise PluggyUnavailable("unreadable_auth") from error
    # No characters that could break out of the header that it is sent in.
    if not isinstance(key, str) or not API_KEY.fullmatch(key):
        raise PluggyUnavailable("unreadable_auth")
    return key


def is_key_refused(status: int, body: bytes) -> bool:
    """Whether the key is refused: 403 in practice, 401 by the documentation.

    Source: https://docs.pluggy.ai/docs/authentication.
    """
    if status == 401:
        return True
    return status == 403 and decode_error(body)[0] in EXPIRED_KEY_CODES


def is_key_answered(status: int, body: bytes) -> bool:
    """Whether the answer shows that the key is valid; a 403 or 404 with another code does too."""
    if status in (403, 404):
        return not is_key_refused(status, body) and decode_error(body)[0] is not None
    return status in (200, 201, 204, 400, 410)
