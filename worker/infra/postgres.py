"""Connection pool to Postgres, statement time-outs, and the errors that mean an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from worker.infra.postgres_hosts import Hosts

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

POSTGRES_READ_ONLY: Final = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TargetServerAttributeNotMatched,
)
POSTGRES_REFUSES_US: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""A refused login: an error at start; later perhaps a change of passwords, so an outage."""

# Errors of an outage: Postgres is down, read-only after a fail-over, or short of resources, so that
# nothing can be written. OSError covers refused connections and time-outs.
POSTGRES_AWAY: Final = (
    OSError,
    *POSTGRES_REFUSES_US,
    *POSTGRES_READ_ONLY,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InternalClientError,
)

POSTGRES_NOT_MIGRATED: Final = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError)
"""The schema is of an older release: work stays due until the migration; no attempt is counted."""
NOT_MIGRATED: Final = "the database is not migrated: run pluggy-sync migrate"
OLDER_RELEASE: Final = "the database is of an older release: run pluggy-sync migrate"

REFUSALS: Final[Mapping[type[Exception], str]] = {
    asyncpg.UndefinedTableError: NOT_MIGRATED,
    asyncpg.UndefinedColumnError: OLDER_RELEASE,
    asyncpg.InvalidSchemaNameError: NOT_MIGRATED,
    asyncpg.InvalidAuthorizationSpecificationError: "Postgres refuses the user or password",
    asyncpg.UndefinedObjectError: "DATABASE_URL has an option, or this a role, unknown to Postgres",
    asyncpg.InvalidCatalogNameError: "the database of DATABASE_URL does not exist",
    asyncpg.InsufficientPrivilegeError: "the database user may not do this; see docs/roles.md",
    asyncpg.ReadOnlySQLTransactionError: "Postgres is read-only: a standby, or a fail-over goes on",
    asyncpg.TargetServerAttributeNotMatched: "no host of DATABASE_URL takes writes at present",
    asyncpg.QueryCanceledError: "Postgres did not finish in time",
    asyncpg.LockNotAvailableError: "another session holds a lock; nothing has changed, try again",
    asyncpg.TooManyConnectionsError: "Postgres has no connection left",
}

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 15.0


async def open_pool(
    url: str, *, max_size: int, statement_cache: int, command_timeout_s: float = COMMAND_TIMEOUT_S
) -> Pool:
    """Open a connection pool that also works behind PgBouncer in transaction mode.

    min_size is 0, so that a process starts while Postgres is away. Read-only sessions are replaced
    by new ones. With several hosts in the URL, the writable one is used.
    Raises asyncpg's errors and OSError.
    """
    sessions = _Sessions(url)
    pool: Pool = await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=max_size,
        statement_cache_size=statement_cache,
        command_timeout=command_timeout_s,
        timeout=CONNECT_TIMEOUT_S,
        connect=sessions.connect,
        connection_class=_Session,
    )
    sessions.pool = pool
    return pool


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


class _Session(_Connection):
    """A session whose close() does not fail if the server has closed it already.

    The pool closes replaced sessions in a task that nobody awaits.
    """

    def get_reset_query(self) -> str:
        """No reset when a session returns to the pool: no statement of ours leaves session state,
        and resets were a third of all round trips. asyncpg still rolls back."""
        return ""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        try:
            await super().close(timeout=timeout)
        except OSError:
            self.terminate()


class _Sessions:
    """Opens the sessions of a pool, and expires all of them when one is read-only.

    After a fail-over, sessions to the old primary stay read-only for as long as they are used.
    """

    def __init__(self, url: str) -> None:
        self.pool: Pool | None = None
        self._hosts = Hosts(url)
        self._expiring: asyncio.Task[None] | None = None

    async def connect(self, *_: Any, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
        """Connect callback of the pool. Raises as Hosts.connect()."""
        session = await self._hosts.connect(**options)
        session.add_query_logger(self._on_query)
        return session

    def _on_query(self, query: asyncpg.connection.LoggedQuery) -> None:
        if isinstance(query.exception, asyncpg.ReadOnlySQLTransactionError) and self.pool:
            self._expiring = asyncio.create_task(self.pool.expire_connections())


async def close_pool(pool: Pool, *, grace_s: float = 5.0) -> None:
    """Close a pool; terminate connections that are still busy after grace_s."""
    try:
        await asyncio.wait_for(pool.close(), grace_s)
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def connection_within(db: Pool, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection for one statement; connecting counts towards the time-out. Raises TimeoutError.

    asyncpg would send a cancel request and wait for the server's answer, which a paused server
    never gives. Here the connection is dropped and the next statement opens a new one. A statement
    that timed out may have been committed.
    """
    async with asyncio.timeout(timeout_s), db.acquire() as conn:
        try:
            yield conn
        except asyncio.CancelledError:
            conn.terminate()
            raise


def why_refused(error: Exception) -> str | None:
    """Advice for a person about a Postgres error, without its text, which may hold values."""
    return next((advice for kind, advice in REFUSALS.items() if isinstance(error, kind)), None)


def rows_written(status: str) -> int:
    """Rows that a command has written, from its status: `DELETE 12`."""
    return int(status.rsplit(" ", 1)[-1])
