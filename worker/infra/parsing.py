"""Strict parsers for text, times and UUIDs of untrusted input; unreadable values become None."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Final

# uuid.UUID() also takes 0x, underscores, blanks and other scripts' digits.
UUID_SPELLINGS: Final = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)


FIRST_AND_LAST: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def clean_text(text: str) -> str:
    """Replace what Postgres cannot store in text: U+0000 and lone surrogates become U+FFFD."""
    return (
        text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def parse_time(value: object) -> datetime | None:
    """An ISO 8601 time as UTC (no zone: taken as UTC), or None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
        utc = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # asyncpg would store these two as -infinity and infinity, which nothing reads back.
    return None if utc in FIRST_AND_LAST else utc


def parse_uuid(value: object) -> uuid.UUID | None:
    """A UUID with or without hyphens, or None."""
    if not isinstance(value, str) or not UUID_SPELLINGS.fullmatch(value):
        return None
    return uuid.UUID(value)
