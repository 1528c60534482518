"""The demo's Postgres and Redis: embedded, or a database of its own on servers given by URL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from embedded import Postgres, Valkey
from embedded.server import Server
from worker.infra.redis_keys import PREFIX

DATABASE_PREFIX: Final = "pluggy_sync_demo_"
NUMBERS: Final = range(15, 0, -1)
CLAIM: Final = f"{PREFIX}demo"
CLAIM_LIVES_S: Final = 86_400
CONNECT_S: Final = 5.0


class NoServer(Exception):
    """A server given by URL cannot be used; the text says why, without the URL."""


@contextmanager
def postgres(given_url: str | None) -> Iterator[str]:
    """A database that is gone afterwards."""
    if given_url is None:
        with _discarded(Postgres()) as url:
            yield url
        return
    name = DATABASE_PREFIX + uuid.uuid4().hex[:8]
    try:
        asyncio.run(_execute(given_url, f"CREATE DATABASE {name}"))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise NoServer(f"no database can be made at DATABASE_URL ({_kind(error)})") from error
    try:
        yield urlunsplit(urlsplit(given_url)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(given_url, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def redis(given_url: str | None) -> Iterator[str]:
    """A Redis database that is empty, and again afterwards."""
    if given_url is None:
        # Durable, so that events are taken while Postgres is away: kill it and see.
        with _discarded(Valkey(durable=True)) as url:
            yield url
        return
    url = _claim_number(given_url)
    try:
        yield url
    finally:
        _remove_keys(url)


@contextmanager
def _discarded(server: Server) -> Iterator[str]:
    """An embedded server with data that is not needed: it is stopped at once, not in good order."""
    with ExitStack() as stack:
        stack.callback(server.stop)
        stack.callback(server.kill)
        server.start()
        yield server.url


async def _execute(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url, timeout=CONNECT_S)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


def _claim_number(given_url: str) -> str:
    """The first empty one of the server's numbered databases, so that no other installation's queue
    is touched, nor that of another demo."""
    for number in NUMBERS:
        url = _with_number(given_url, number)
        try:
            with Redis.from_url(url, socket_timeout=CONNECT_S) as client:
                free = client.dbsize() == 0
                if free and client.set(CLAIM, "1", nx=True, ex=CLAIM_LIVES_S):
                    return url
        except ResponseError:
            continue  # this server has fewer of them
        except (RedisError, OSError, ValueError) as error:
            raise NoServer(f"Redis at REDIS_URL does not answer ({_kind(error)})") from error
    raise NoServer(f"no empty database of {NUMBERS[-1]} to {NUMBERS[0]} at REDIS_URL")


def _remove_keys(url: str) -> None:
    """Only what is ours: somebody else may have begun to use the database meanwhile."""
    with Redis.from_url(url, socket_timeout=CONNECT_S) as client:
        for key in client.scan_iter(f"{PREFIX}*"):
            client.delete(key)


def _with_number(url: str, number: int) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"db": str(number)}
    # urlunsplit would make unix:/path of unix:///path, which is no address for Redis.
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"


def _kind(error: BaseException) -> str:
    return type(error).__name__
