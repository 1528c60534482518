"""Embedded Postgres and Valkey for the demo, tests and development."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from embedded.directories import EmbeddedError
from embedded.postgres import Postgres
from embedded.server import Server
from embedded.valkey import Valkey

__all__ = ["EmbeddedError", "Postgres", "Valkey", "database", "redis"]


@contextmanager
def _served(
    kind: type[Server],
    given_url: str | None = None,
    *,
    data_dir: Path | None = None,
    durable: bool = False,
    tcp: bool = False,
) -> Iterator[str]:
    """Yield the given URL, or that of a server started for the block."""
    if given_url:
        yield given_url
        return
    with kind(data_dir, durable, tcp) as server:
        yield server.url


database = partial(_served, Postgres)
redis = partial(_served, Valkey)
