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
    """Yield the given URL, or that of a Postgres started for the block."""
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
    """Yield the given URL, or that of a Valkey started for the block."""
    if given_url:
        yield given_url
        return
    with Valkey(data_dir, durable, tcp) as server:
        yield server.url
