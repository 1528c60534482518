"""Embedded Postgres and Valkey for the demo, tests and development."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.directories import EmbeddedError
from embedded.postgres import Postgres
from embedded.valkey import Valkey

__all__ = ["EmbeddedError", "Postgres", "Valkey", "database", "redis"]


@contextmanager
def database(
    given_url: str | None = None,
    *,
    data_dir: Path | None = None,
    durable: bool = False,
    tcp: bool = False,
) -> Iterator[str]:
    """The given URL as it is (nothing is started), else that of a Postgres of our own."""
    if given_url:
        yield given_url
        return
    with Postgres(data_dir, durable, tcp) as server:
        yield server.url


@contextmanager
def redis(
    given_url: str | None = None,
    *,
    data_dir: Path | None = None,
    durable: bool = False,
    tcp: bool = False,
) -> Iterator[str]:
    """The given URL as it is (nothing is started), else that of a Valkey of our own."""
    if given_url:
        yield given_url
        return
    with Valkey(data_dir, durable, tcp) as server:
        yield server.url
