"""Connect to the writable server among several Postgres hosts.

asyncpg tries hosts one after the other within one time-out, and a host that drops packets uses up
all of it. Here the next host is tried in parallel as soon as the one before is slow.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NEXT_HOST_AFTER_S: Final = 0.3
READ_WRITE: Final = "read-write"
ATTRIBUTES: Final = ("any", "primary", "standby", "prefer-standby", READ_WRITE, "read-only")
"""Values of target_session_attrs in libpq and asyncpg."""


def check_url(url: str) -> None:
    """Raises ValueError for a URL that cannot be Postgres's; asyncpg checks the rest."""
    if urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise ValueError("scheme")
    for host in single_hosts(url):
        if urlsplit(host).port == 0:
            raise ValueError("port")
    if target_of(url) not in (None, *ATTRIBUTES):
        raise ValueError("target_session_attrs")


def target_of(url: str) -> str | None:
    """target_session_attrs of a URL, or of libpq's environment variable."""
    named = dict(parse_qsl(urlsplit(url).query)).get("target_session_attrs")
    return named or os.environ.get("PGTARGETSESSIONATTRS") or None


def single_hosts(url: str) -> list[str]:
    """One URL per host of a URL, in its order; with one host the URL itself."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return [
            urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")
        ]
    query = dict(parse_qsl(parts.query))
    names = query.get("host", "").split(",")
    if hosts or len(names) == 1:
        return [url]
    ports = query.get("port", "").split(",")
    ports = ports if len(ports) == len(names) else ports[:1] * len(names)
    return [_at(url, query, name, port) for name, port in zip(names, ports, strict=True)]


def _at(url: str, query: dict[str, str], host: str, port: str) -> str:
    one = query | {"host": host} | ({"port": port} if port else {})
    # Not by urlunsplit(): that of Python 3.11 loses the slashes of an empty host.
    return f"{url.partition('?')[0]}?{urlencode(one)}"


class Hosts:
    """Connects to the writable host of a URL, or as its target_session_attrs says.

    The last connected host is tried first.
    """

    def __init__(self, url: str) -> None:
        wanted = target_of(url)
        # For prefer-standby asyncpg has to see all hosts.
        self._urls = [url] if wanted == "prefer-standby" else single_hosts(url)
        self._target = READ_WRITE if len(self._urls) > 1 and wanted is None else None

    async def connect(self, **options: Any) -> Session:
        """Open a session; options are asyncpg's. Raises asyncpg's errors and OSError."""
        if self._target is not None:
            options = options | {"target_session_attrs": self._target}
        if len(self._urls) == 1:
            return await asyncpg.connect(self._urls[0], **options)
        url, session = await _first(self._urls, options)
        self._urls.sort(key=lambda other: other != url)
        return session


async def _first(urls: Sequence[str], options: dict[str, Any]) -> tuple[str, Session]:
    """Try the hosts in turn: the next one when those before have failed or are slow."""
    asked: dict[asyncio.Task[Session], str] = {}
    try:
        for url in urls:
            asked[asyncio.create_task(asyncpg.connect(url, **options))] = url
            if (found := await _answered(asked, NEXT_HOST_AFTER_S)) is not None:
                return asked.pop(found), found.result()
        if (found := await _answered(asked, None)) is not None:
            return asked.pop(found), found.result()
        raise _most_specific(list(asked))
    finally:
        await _give_up(list(asked))


async def _answered(
    asked: dict[asyncio.Task[Session], str], timeout_s: float | None
) -> asyncio.Task[Session] | None:
    """The first task that has a session; None if all have failed, or at the time-out."""
    pending = {task for task in asked if not task.done()}
    deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    while pending:
        left_s = None if deadline is None else deadline - asyncio.get_running_loop().time()
        done, pending = await asyncio.wait(
            pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
        )
        if good := [task for task in done if task.exception() is None]:
            return good[0]
        if not done:
            break
    return None


def _most_specific(failed: Sequence[asyncio.Task[Session]]) -> BaseException:
    """The error to raise: a refusal by a host is more specific than a failed connection."""
    errors = [error for task in failed if (error := task.exception()) is not None]
    return next((e for e in errors if not isinstance(e, OSError)), errors[-1])


async def _give_up(tasks: Sequence[asyncio.Task[Session]]) -> None:
    for task in tasks:
        task.cancel()
    for session in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(session, BaseException):
            session.terminate()
