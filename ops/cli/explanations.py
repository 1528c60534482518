"""Errors of commands in one line for a person; loaded when a command fails."""

from __future__ import annotations

from typing import Final

import asyncpg
from redis.exceptions import RedisError

from ops.migrations import MigrationRefused
from ops.roles import RolesRefused
from worker.infra.baseline import UnreleasedDatabase
from worker.infra.outage_words import Outage, postgres_outage, redis_outage
from worker.infra.postgres import why_refused
from worker.infra.settings import SettingsError
from worker.maintenance.installation import ForeignInstallation

ABOUT_US: Final = (
    SettingsError,
    MigrationRefused,
    RolesRefused,
    ForeignInstallation,
    UnreleasedDatabase,
)
CONNECTION_ERRORS: Final = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


def explain(error: Exception, *, database: str = "DATABASE_URL") -> str:
    """One line for a person; never with a URL or a library's words about it, which may hold a
    password. database: what names the one that was asked."""
    if isinstance(error, ABOUT_US):
        return " ".join(str(error).split())
    if isinstance(error.__cause__ or error, UnicodeEncodeError):
        return "an argument is not UTF-8 text"
    if reason := why_refused(error):
        word = postgres_outage(error)
        return reason if word is Outage.POSTGRES_AWAY else f"{reason} ({word})"
    name = type(error).__name__
    if isinstance(error, CONNECTION_ERRORS):
        return f"Postgres does not answer at {database} ({postgres_outage(error)}: {name})"
    if isinstance(error, RedisError):
        return f"Redis does not answer at REDIS_URL ({redis_outage(error)}: {name})"
    if isinstance(error, asyncpg.PostgresError):
        return f"Postgres refuses: {error.sqlstate} {name}"
    return f"unexpected {name}; LOG_LEVEL=DEBUG shows where"
