"""Database roles of the processes: created on request, their grants renewed by every migration."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from worker.infra.sql_files import named_statements

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

RECEIVER: Final = "pluggy_receiver"
WORKER: Final = "pluggy_worker"
OPS: Final = "pluggy_ops"
DASHBOARD: Final = "pluggy_dashboard"
ROLES: Final = (RECEIVER, WORKER, OPS, DASHBOARD)


class RolesRefused(Exception):
    """The user of the connection may not make roles; the text says how to allow it."""


async def make_roles(conn: Connection, script: Path) -> None:
    """Make missing roles, set the time-outs of all, and give each exactly its rights on the tables
    and views of now.

    Raises RolesRefused if the user of the connection may not.
    """
    statements = dict(named_statements(script))
    user = await conn.fetchval("SELECT quote_ident(current_user)")
    try:
        await conn.execute(statements["create_roles"])
        await conn.execute(statements["set_time_outs"])
    except asyncpg.InsufficientPrivilegeError as error:
        raise RolesRefused(
            f"{user} may not make roles and set their time-outs. Allow it: ALTER ROLE {user}"
            " CREATEROLE; or do this once with DATABASE_DIRECT_URL naming a superuser"
        ) from error
    await conn.execute(statements["grant_rights"])


def as_role(url: str, role: str, password: str | None = None) -> str:
    """The same database for a role; without a password where none is asked for."""
    parts = urlsplit(url)
    user = role if password is None else f"{role}:{password}"
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))
