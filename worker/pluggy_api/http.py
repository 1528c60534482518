"""Requests and responses of Pluggy's API, and their names in limits and logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from multidict import CIMultiDictProxy

REQUEST_ID: Final = re.compile(r"[0-9A-Za-z-]{1,120}")
ID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\d+")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. The repr shows only the status: the rest is private."""

    status: int
    body: bytes = field(repr=False)
    headers: CIMultiDictProxy[str] = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """Pluggy's id of this request, which every answer carries; None if it is no plain id."""
        stated = self.headers.get("x-request-id", "")
        return stated if REQUEST_ID.fullmatch(stated) else None


@dataclass(frozen=True, slots=True)
class Change:
    """A request other than GET. The body is private: that of a webhook holds our secret."""

    method: str
    body: Mapping[str, Any] = field(repr=False)


def http_date(text: str | None) -> datetime | None:
    """The time of an HTTP date header, in UTC; None if it is missing or unreadable."""
    try:
        stated = parsedate_to_datetime(text or "")
        # "-0000" is UTC too, and not the zone of this machine.
        return stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def endpoint_group(path: str) -> str:
    """The group whose limit a GET counts against; https://docs.pluggy.ai/docs/rate-limits."""
    head = path.split("?", 1)[0].strip("/").split("/")
    if head[0] in ("v2", "v1"):
        head = head[1:]
    if head[0] == "investments" and head[-1] == "transactions":
        return "investment_transactions"
    return head[0]


def endpoint_of(path: str) -> str:
    """A path without its query and its ids, such as /investments/{id}/transactions."""
    parts = path.split("?", 1)[0].split("/")
    return "/".join("{id}" if ID.fullmatch(part) else part for part in parts)
