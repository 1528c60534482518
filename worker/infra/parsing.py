"""Strict parsers for text, times and UUIDs of untrusted input; unreadable values become None."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

# uuid.UUID() also takes 0x, underscores, blanks and other scripts' digits.
UUID_SPELLINGS: Final = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)
UUID_CHARS: Final = 36
"""Of the longest spelling; longer text is not remembered."""


FIRST_AND_LAST: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def clean_text(text: str) -> str:
    """Replace what Postgres cannot store in text: U+0000 and lone surrogates become U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return (
        text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def parse_time(value: object) -> datetime | None:
    """An ISO 8601 time as UTC (no zone: taken as UTC), or None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
        if parsed.tzinfo is not UTC:
            local = parsed.tzinfo is None
            parsed = parsed.replace(tzinfo=UTC) if local else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # asyncpg would store these two as -infinity and infinity, which nothing reads back.
    return None if parsed in FIRST_AND_LAST else parsed


def parse_uuid(value: object) -> uuid.UUID | None:
    """A UUID with or without hyphens, or None."""
    if not isinstance(value, str) or len(value) > UUID_CHARS:
        return None
    return _uuid(value)


# The rows of a page name the same owner, and few bills.
@lru_cache(256)
def _uuid(text: str) -> uuid.UUID | None:
    try:
        return msgspec.convert(text, uuid.UUID)  # an eighth of the time of the expression's
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter: a lone surrogate
        # Only some of the hyphens are a UUID too.
        return uuid.UUID(text) if UUID_SPELLINGS.fullmatch(text) else None
