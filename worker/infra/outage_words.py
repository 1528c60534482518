"""Names of Postgres and Redis outages, shared by logs, probes, commands and tables."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import asyncpg
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from worker.infra.postgres import POSTGRES_READ_ONLY


class Outage(StrEnum):
    """Why Postgres or Redis cannot be used."""

    POSTGRES_AWAY = "postgres_away"
    POSTGRES_READ_ONLY = "postgres_read_only"
    POSTGRES_NOT_MIGRATED = "postgres_not_migrated"
    POSTGRES_ACCESS_DENIED = "postgres_access_denied"
    POSTGRES_FULL = "postgres_full"
    REDIS_AWAY = "redis_away"
    REDIS_READ_ONLY = "redis_read_only"
    REDIS_LOADING = "redis_loading"
    REDIS_NOT_PERSISTING = "redis_not_persisting"
    REDIS_FULL = "redis_full"
    REDIS_ACCESS_DENIED = "redis_access_denied"


REFUSES_WRITES: Final = frozenset(
    {Outage.REDIS_READ_ONLY, Outage.REDIS_NOT_PERSISTING, Outage.REDIS_FULL}
)
"""Redis answers reads but refuses writes: only a write can end the outage."""

_OF_POSTGRES: Final[tuple[tuple[tuple[type[Exception], ...], Outage], ...]] = (
    (POSTGRES_READ_ONLY, Outage.POSTGRES_READ_ONLY),
    (
        (
            asyncpg.UndefinedTableError,
            asyncpg.UndefinedColumnError,
            asyncpg.InvalidSchemaNameError,
        ),
        Outage.POSTGRES_NOT_MIGRATED,
    ),
    (
        (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InsufficientPrivilegeError,
            asyncpg.InvalidCatalogNameError,
        ),
        Outage.POSTGRES_ACCESS_DENIED,
    ),
    ((asyncpg.InsufficientResourcesError,), Outage.POSTGRES_FULL),
)
_OF_REDIS: Final[tuple[tuple[tuple[type[Exception], ...], Outage], ...]] = (
    ((ReadOnlyError,), Outage.REDIS_READ_ONLY),
    ((BusyLoadingError,), Outage.REDIS_LOADING),
    ((OutOfMemoryError,), Outage.REDIS_FULL),
    ((AuthenticationError, NoPermissionError), Outage.REDIS_ACCESS_DENIED),
)
# Error codes without a class in redis-py, and those that Redis quotes from a script.
_CODES: Final[Mapping[str, Outage]] = {
    "READONLY": Outage.REDIS_READ_ONLY,
    "MISCONF": Outage.REDIS_NOT_PERSISTING,
    "NOREPLICAS": Outage.REDIS_NOT_PERSISTING,
    "OOM ": Outage.REDIS_FULL,
    "MASTERDOWN": Outage.REDIS_AWAY,
}


def postgres_outage(error: BaseException) -> Outage:
    """The outage that an error of asyncpg or of the connection stands for."""
    return next(
        (word for kinds, word in _OF_POSTGRES if isinstance(error, kinds)), Outage.POSTGRES_AWAY
    )


def redis_outage(error: BaseException) -> Outage:
    """The outage that an error of redis-py or of the connection stands for."""
    for kinds, word in _OF_REDIS:
        if isinstance(error, kinds):
            return word
    text = str(error)
    return next((word for code, word in _CODES.items() if code in text), Outage.REDIS_AWAY)


def refuses_writes(error: BaseException) -> bool:
    """Whether Redis answers but refuses writes, which counts as an outage."""
    return redis_outage(error) in REFUSES_WRITES
