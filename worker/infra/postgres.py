"""Connection pool to Postgres, statement time-outs, and the errors that mean an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from worker.infra.outage_words import POSTGRES_READ_ONLY
from worker.infra.postgres_hosts import Hosts

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

POSTGRES_REFUSES_US: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""A session is refused: at start somebody has to look; later it may be a change of passwords."""

# Postgres is away, read-only since a fail-over, or refuses for its own reasons, so that nothing can
# be written. OSError covers refused connections and time-outs.
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
"""Of an older release: all stays due until it is migrated, and no attempt is spent."""
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
    """Open a pool that carries nothing PgBouncer in transaction mode would not.

    min_size is 0, so that a process starts while Postgres is away. Sessions that turn out to be
    read-only are dropped, and new ones opened when they are needed; of several hosts in the URL
    that one is connected to which takes writes. Errors: asyncpg's, OSError.
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
    """A session that is closed without a word where the server has closed it already.

    The pool closes sessions that make way for new ones in a task that nobody waits for.
    """

    def get_reset_query(self) -> str:
        """Nothing to run when a session goes back to the pool: no statement of ours outlives its
        transaction, and a third of all round trips were resets. asyncpg still rolls back."""
        return ""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        try:
            await super().close(timeout=timeout)
        except OSError:
            self.terminate()


class _Sessions:
    """Opens the sessions of a pool. When one is read-only, all make way for new ones.

    A session keeps what it was when it began: after a fail-over those of the old primary, or of
    behind a proxy, would be refused every write for as long as they are used.
    """

    def __init__(self, url: str) -> None:
        self.pool: Pool | None = None
        self._hosts = Hosts(url)
        self._expiring: asyncio.Task[None] | None = None

    async def connect(self, *_: Any, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
        """What the pool calls. Raises as Hosts.connect()."""
        session = await self._hosts.connect(**options)
        session.add_query_logger(self._on_query)
        return session

    def _on_query(self, query: asyncpg.connection.LoggedQuery) -> None:
        if isinstance(query.exception, asyncpg.ReadOnlySQLTransactionError) and self.pool:
            self._expiring = asyncio.create_task(self.pool.expire_connections())


async def close_pool(pool: Pool, *, grace_s: float = 5.0) -> None:
    """Close a pool; connections still busy after the grace time are cut."""
    try:
        await asyncio.wait_for(pool.close(), grace_s)
    except TimeoutError:
        pool.terminate()


async def fetch_within(
    db: Pool, timeout_s: float, query: str, *arguments: object
) -> list[asyncpg.Record]:
    """Run one statement. Raises TimeoutError if that takes longer, connecting included.

    asyncpg would ask the server to cancel and wait for its word before the pool gets the connection
    back. A server that is paused or cut off says nothing, so the connection is dropped instead: the
    next statement goes by a new one. What timed out may have been committed all the same.
    """
    async with asyncio.timeout(timeout_s), db.acquire() as conn:
        try:
            return await conn.fetch(query, *arguments)
        except asyncio.CancelledError:
            conn.terminate()
            raise


def why_refused(error: Exception) -> str | None:
    """What a person can do about a refusal of Postgres; never its words, which may hold values."""
    return next((advice for kind, advice in REFUSALS.items() if isinstance(error, kind)), None)


def rows_written(status: str) -> int:
    """How many rows a command has written, from Postgres's word for it: `DELETE 12`."""
    return int(status.rsplit(" ", 1)[-1])
